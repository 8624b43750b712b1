"""Files with the rows that a command removed: db dedupe writes them, db restore reads them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devicevault_cli.errors import Damaged, Usage
from devicevault_cli.operations.entries import checksummed
from devicevault_cli.operations.groups.snapshots import ROWS, new_path
from devicevault_cli.paging import paged
from devicevault_cli.repository.model import Row
from devicevault_cli.repository.repository import Repository
from devicevault_cli.repository.tables import TABLES, TableSpec
from devicevault_cli.times import now_iso

KIND = "removed-rows"
VERSION = 1
ROWS_PER_STEP = 200
"""Whole rows, with their logs, are held in memory at once."""


@dataclass(frozen=True, slots=True)
class RemovedRows:
    """A file whose checksum is right; its rows are read when they are needed."""

    path: Path
    spec: TableSpec
    count: int
    named: bool

    def pages(self) -> Iterator[list[Row]]:
        """Every row, some at a time. Raises Damaged where one is none of the table."""
        rows = (line["row"] for line in checksummed.read(self.path) if "row" in line)
        return paged((_row(row, self.spec, self.path) for row in rows), ROWS_PER_STEP)


def write(repository: Repository, command: str, rows: Iterable[Row]) -> tuple[Path, int]:
    """Write rows below the state directory. -> the file, and the number of rows. Raises DvctlError."""
    path = new_path(repository.spec.name, ROWS.removeprefix("."))
    head = {
        "dvctl": KIND,
        "version": VERSION,
        "at": now_iso(),
        "command": command,
        "table": repository.spec.name,
        "database": repository.where,
    }
    return path, checksummed.write(path, _lines(head, rows)) - 1


def _lines(head: dict[str, Any], rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
    yield head
    yield from ({"row": row} for row in rows)


def read(path: Path) -> RemovedRows:
    """Raises Damaged for a file that was cut or edited or is something else, Usage for one that cannot be read.

    named: whether a row has a task identifier, which a unique index may refuse.
    """
    lines = checksummed.read(path)
    head = next(lines, {})
    if head.get("dvctl") != KIND or head.get("table") not in TABLES:
        raise Damaged(f"{path} is not a file of rows that `dvctl db dedupe` removed")
    if head.get("version") != VERSION:
        raise Usage(f"{path} was written by another version of dvctl (format {head.get('version')})")
    spec = TABLES[head["table"]]
    count = 0
    named = False
    for line in lines:
        named = bool(_row(line.get("row"), spec, path)["task_identifier"]) or named
        count += 1
    return RemovedRows(path, spec, count, named)


def _row(row: Any, spec: TableSpec, path: Path) -> Row:
    """A line's row. A valid checksum does not mean that dvctl wrote the file."""
    names = ("id", *spec.columns)
    if not isinstance(row, dict) or set(row) != set(names) or not isinstance(row["id"], int):
        raise Damaged(f"{path} does not hold rows of {spec.name}")
    if any(isinstance(value, bool) or not isinstance(value, str | int | None) for value in row.values()):
        raise Damaged(f"{path} does not hold rows of {spec.name}")
    return {name: row[name] for name in names}


def restore_command(path: Path) -> str:
    """The command that puts the rows back."""
    return f"dvctl db restore {shlex.quote(str(path))}"
