"""What is generated from the commands is as the commands are now."""

from __future__ import annotations

from pathlib import Path

import pytest

from devicevault_cli.cli.help import TEXTS
from devicevault_cli.cli.table import TABLE
from tools.generate import ROOT, generated

FILES = generated()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_file_is_fresh(path: Path) -> None:
    assert path.read_text("utf-8") == FILES[path], "run `make generate`"


def test_no_help_text_is_left_of_a_command_that_is_no_more() -> None:
    assert set(TEXTS.iterdir()) == {path for path in FILES if path.parent == TEXTS}


def test_the_reference_has_every_command() -> None:
    reference = (ROOT / "docs" / "cli.md").read_text("utf-8")
    for words in TABLE:
        assert f"\n## dvctl {words}\n" in reference
        assert f"(#dvctl-{words.replace(' ', '-')})" in reference
