"""What is generated from the commands stands in the tree as `make generate` would write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from devicevault_cli.cli.help import TEXTS
from tools.generate import ROOT, generated

FILES = generated()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_generated_file_is_fresh(path: Path) -> None:
    assert path.read_text("utf-8") == FILES[path], "run: make generate"


def test_no_help_text_is_left_of_a_command_that_is_no_more() -> None:
    assert set(TEXTS.glob("*.txt")) <= FILES.keys(), "run: make generate"
