"""The README's tour, word for word, on a real Redis: every command works and prints what stands below it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests.support.process import Dvctl

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def tour() -> list[tuple[str, list[str]]]:
    """The command lines, and the lines of output that the README shows of each."""
    text = README.partition("<!-- tour -->")[2].partition("\n## ")[0]
    steps: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                steps.append((line.removeprefix("$ "), []))
            elif line:
                steps[-1][1].append(line)
    return steps


def in_general(line: str) -> str:
    """Without what differs from run to run: times and durations, entry ids and the name of the host."""
    line = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", line)
    line = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "TIME", line)
    line = re.sub(r"\d{13}-\d+ *", "ID ", line)
    line = re.sub(r"\(\d+\.\d s\)", "(0.0 s)", line)
    return re.sub(r"\bas \S+ in group", "as HOST-0 in group", line)


def test_the_tour(dvctl: Dvctl, redis_url: str) -> None:
    shown = 0
    for line, output in tour():
        program, *words = shlex.split(line)
        if program == "export":
            name, _, value = words[0].partition("=")
            dvctl.use(**{name: redis_url if name == "DEVICEVAULT_REDIS_URL" else value})
            continue
        assert program == "dvctl"
        answer = dvctl.ok(*words)
        said = [in_general(each) for each in (answer.stderr + answer.stdout).splitlines()]
        for each in output:
            assert in_general(each) in said, f"{line} does not print: {each}"
            shown += 1
    assert shown >= 10


def test_every_command_in_the_readme_exists(dvctl: Dvctl) -> None:
    for words in set(re.findall(r"\$ dvctl ((?:[a-z-]+ ?)+)", README)):
        named = [word for word in words.split() if not word.startswith("-")]
        assert dvctl.run(*named[:1], "--help").code == 0, named
