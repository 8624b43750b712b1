"""Pieces of SQL, and of dealing with it, that every database shares."""

from __future__ import annotations

from collections.abc import Sequence

NAMED = "length(task_identifier) > 0"
UNNAMED = "length(task_identifier) = 0"
"""Not `task_identifier = ''`: on MySQL that is true of spaces too, and an index on it may match millions."""


def marks(values: Sequence[object]) -> str:
    """Placeholders for a list of values."""
    return ", ".join(["%s"] * len(values))


def text(value: str | bytes) -> str:
    """What an exact comparison, or a binary column, gave back: bytes on MySQL."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
