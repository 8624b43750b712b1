"""The README's tour, word for word, on a real Redis: every command works, and the story ends as it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests.support.process import Dvctl

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def tour() -> list[list[str]]:
    block = README.partition("<!-- tour -->")[2].partition("```console\n")[2].partition("```")[0]
    return [shlex.split(line.removeprefix("$ ")) for line in block.splitlines()]


def test_the_tour(dvctl: Dvctl, redis_url: str) -> None:
    answers = {}
    for program, *words in tour():
        if program == "export":
            name, _, value = words[0].partition("=")
            dvctl.use(**{name: redis_url if name == "DEVICEVAULT_REDIS_URL" else value})
        else:
            assert program == "dvctl"
            answers[words[0]] = dvctl.ok(*words)
    summary = answers["consume"].json()
    assert (summary["persisted"], summary["dead_lettered"]) == (1000, 1)
    assert "OK: All 1,001 entries are accounted for." in answers["verify"].stdout


def test_every_command_in_the_readme_exists(dvctl: Dvctl) -> None:
    for words in set(re.findall(r"\$ dvctl ((?:[a-z-]+ ?)+)", README)):
        named = [word for word in words.split() if not word.startswith("-")]
        assert dvctl.run(*named[:1], "--help").code == 0, named
