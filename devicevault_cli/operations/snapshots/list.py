"""snapshots: which files there are that undo changes, and whether they are whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devicevault_cli.directories import snapshot_directory
from devicevault_cli.errors import Damaged, DvctlError, Usage
from devicevault_cli.operations.answer import Answer
from devicevault_cli.operations.database import removed_rows
from devicevault_cli.operations.entries import checksummed
from devicevault_cli.operations.entries.checksummed import reading
from devicevault_cli.operations.groups import snapshots
from devicevault_cli.times import iso

KINDS = {snapshots.KIND: b'{"entry"', removed_rows.KIND: b'{"row"'}
"""The kinds of files, and how the lines begin that are counted."""


@dataclass(frozen=True, slots=True)
class SavedState(Answer):
    """A file. `entries`: pending entries in it; `rows`: rows in it; `size`: in bytes; `whole`: the checksum is right.

    `problem`: why the file cannot be used; what could not be read then is None. `restore`: the command that uses it.
    """

    at: str
    command: str | None
    stream: str | None
    group: str | None
    table: str | None
    entries: int | None
    rows: int | None
    size: int
    whole: bool
    problem: str | None
    restore: str | None
    file: str


@dataclass(frozen=True, slots=True)
class SnapshotsAnswer(Answer):
    """The newest first. `total`: how many files there are."""

    directory: str
    total: int
    size: int
    snapshots: Sequence[SavedState]


def list_snapshots(most: int) -> SnapshotsAnswer:
    """Raises NoStateDirectory, and DvctlError where the directory cannot be read."""
    directory = snapshot_directory()
    files = files_in(directory)
    size = sum(file.stat().st_size for file in files)
    return SnapshotsAnswer(str(directory), len(files), size, [_state(file) for file in files[:most]])


def files_in(directory: Path) -> list[Path]:
    """The files, the newest first; none where the directory does not exist. Raises DvctlError."""
    try:
        return sorted(directory.glob("*.jsonl"), key=lambda file: (-file.stat().st_mtime_ns, file.name))
    except OSError as error:
        raise DvctlError(f"{directory} cannot be read: {error.strerror}") from error


def _state(file: Path) -> SavedState:
    status = file.stat()
    head: dict[str, Any] = {}
    problem = None
    counted = 0
    try:
        checksummed.check(file)
        head, counted = _read(file)
    except (Damaged, Usage) as error:
        problem = str(error)
    rows = head.get("dvctl") == removed_rows.KIND
    restore = removed_rows.restore_command(file) if rows else snapshots.restore_command(file)
    return SavedState(
        at=_text(head, "at") or iso(status.st_mtime_ns // 1_000_000), command=_text(head, "command"),
        stream=_text(head, "stream"), group=_text(head, "group"), table=_text(head, "table"),
        entries=None if rows or problem else counted, rows=counted if rows else None, size=status.st_size,
        whole=problem is None, problem=problem, restore=None if problem else restore, file=str(file),
    )  # fmt: skip


def _read(file: Path) -> tuple[dict[str, Any], int]:
    """-> the first line, and how many entries or rows follow. Raises Damaged."""
    with reading(file), file.open("rb") as lines:
        try:
            head = json.loads(lines.readline())
            beginning = KINDS[head["dvctl"]]
        except (ValueError, LookupError, TypeError, RecursionError):
            raise Damaged(f"{file} is no snapshot of dvctl") from None
        return head, sum(line.startswith(beginning) for line in lines)


def _text(head: dict[str, Any], name: str) -> str | None:
    value = head.get(name)
    return None if value is None else str(value)
