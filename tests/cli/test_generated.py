"""What is generated from the app is as the app is now."""

from __future__ import annotations

from pathlib import Path

import pytest

from devicevault_cli.cli.app import COMMANDS
from tools.generate import ROOT, generated

FILES = generated()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_file_is_fresh(path: Path) -> None:
    assert path.read_text("utf-8") == FILES[path], "run `make generate`"


def test_the_reference_has_every_command() -> None:
    reference = (ROOT / "docs" / "cli.md").read_text("utf-8")
    for words in COMMANDS:
        assert f"`dvctl {words}`" in reference
