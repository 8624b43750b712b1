"""Hatchling runs this when it builds a wheel: the manual pages are made from the app, and are in no commit."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManPages(BuildHookInterface[Any]):
    """Adds share/man/man1."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the pages where the builder reads them."""
        sys.path.insert(0, self.root)
        from tools.man_pages import pages

        self.folder = TemporaryDirectory()
        for name, text in pages().items():
            path = Path(self.folder.name, name)
            path.write_text(text, "utf-8")
            build_data["shared_data"][str(path)] = f"share/man/man1/{name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove them."""
        self.folder.cleanup()
