"""The server-side scripts: each says what it takes and answers, and none is left over."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from devicevault_cli.streams import scripts
from devicevault_cli.streams.scripts import FOLDER, command, script

PACKAGE = FOLDER.parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.lua"))
INCLUDED = {name for path in FOLDER.glob("*.lua") for name in re.findall(r"-- include: (\w+)", path.read_text())}


def header(name: str) -> str:
    """The comment lines before the first statement."""
    lines = (FOLDER / f"{name}.lua").read_text().splitlines()
    return "\n".join(lines[: next(number for number, line in enumerate(lines) if not line.startswith("--"))])


@pytest.mark.parametrize("name", NAMES)
def test_a_script_states_its_keys_arguments_and_answer_first(name: str) -> None:
    first = header(name)
    assert "KEYS" in first
    assert "ARGV" in first
    assert "->" in first
    assert first.startswith("-- Included by " if name in INCLUDED else "-- KEYS ")


@pytest.mark.parametrize("name", NAMES)
def test_included_scripts_are_put_in(name: str) -> None:
    assert "-- include:" not in script(name)
    for included in re.findall(r"-- include: (\w+)", (FOLDER / f"{name}.lua").read_text()):
        assert f"{name}.lua" in header(included), "what is included says where"
        assert script(included) in script(name)


def test_every_script_is_used_and_every_script_that_is_used_exists() -> None:
    source = "".join(path.read_text() for path in Path(PACKAGE).glob("*.py"))
    run = set(re.findall(r"(?:run_script|scripts\.command)\(\s*\"(\w+)\"", source))
    assert run == set(NAMES) - INCLUDED


def test_a_script_is_sent_whole_and_read_from_its_file_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = script("missing")
    assert command("missing", ["s"], "1-0") == ("EVAL", whole, 1, "s", "1-0")
    monkeypatch.setattr(scripts, "FOLDER", Path("/nowhere"))
    assert script("missing") == whole
