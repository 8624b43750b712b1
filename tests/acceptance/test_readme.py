"""The README's tour, word for word, on a real Redis: each command prints what stands below it, and nothing else."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

from devicevault_cli.cli.app import COMMANDS
from tests.support.pages import steps, typed
from tests.support.process import Dvctl

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text("utf-8")


def tour() -> list[tuple[str, str]]:
    """The command lines, and all that the README shows of each."""
    return steps(README.partition("<!-- tour -->")[2].partition("\n## ")[0])


def in_general(output: str) -> str:
    """Without what differs from run to run: times, durations, entry ids, the name of the host, the address of Redis."""
    for pattern, name in (
        (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
        (r"\b\d{13}-\d+ *", "ID "),
        (r"\(\d+\.\d s\)", "(0.0 s)"),
        (r"(?m)^(elapsed|rate per s)( +)\S+$", r"\1\2NUMBER"),
        (r"\bas \S+ in group", "as HOST-0 in group"),
        (r"redis://[^\s,]+", "REDIS"),
    ):
        output = re.sub(pattern, name, output)
    return "\n".join(line.rstrip() for line in output.strip().splitlines())


def test_the_tour(dvctl: Dvctl, redis_url: str) -> None:
    dvctl.on_its_own_host()
    for command, shown in tour():
        if command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            dvctl.use(**{name: redis_url if name == "DEVICEVAULT_REDIS_URL" else value})
            continue
        assert in_general(typed(dvctl, command)) == in_general(shown), command
    assert len(tour()) == 9


def test_the_picture_of_the_demo_is_of_this_demo() -> None:
    """`python -m tools.picture docs/images/demo.svg dvctl demo` draws it."""
    source = "".join((PROJECT / f"devicevault_cli/consumer/{name}.py").read_text() for name in ("demo", "demo_faults"))
    titles = re.findall(r'tell\.step\("(.+?)"\)', source)
    shown = unescape((PROJECT / "docs/images/demo.svg").read_text("utf-8")).replace("\xa0", " ")
    assert len(titles) == 5
    for title in titles:
        assert f". {title}<" in shown, title
    assert "http" not in shown.replace("http://www.w3.org/2000/svg", "").replace("https://www.textualize.io", "")


def test_every_command_in_the_readme_exists() -> None:
    known = {words.partition(" ")[0] for words in COMMANDS}
    named = set(re.findall(r"\$ dvctl ([a-z][a-z-]*)", README))
    assert len(named) > 8
    assert named <= known
