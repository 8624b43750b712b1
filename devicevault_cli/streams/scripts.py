"""The server-side scripts in lua/*.lua: each makes several changes in one atomic step."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

ENTRIES_PER_SCRIPT = 500
"""Redis serves nobody else while a script runs: with so many entries that takes some milliseconds."""

FOLDER = Path(__file__).with_name("lua")
_INCLUDE = re.compile(r"^-- include: (\w+)$", re.MULTILINE)


@cache
def script(name: str) -> str:
    """The text of lua/NAME.lua; each line `-- include: NAME` in it is replaced by the text of that script."""
    text = (FOLDER / f"{name}.lua").read_text("utf-8")
    return _INCLUDE.sub(lambda include: script(include[1]), text)


def command(name: str, keys: list[str], *arguments: Any) -> tuple[Any, ...]:
    """The command that runs a script.

    EVAL with the whole text: there is no NOSCRIPT to handle after a restart, and Redis caches the script by its hash.
    """
    return "EVAL", script(name), len(keys), *keys, *arguments
