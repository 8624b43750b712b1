"""The picture of `dvctl snapshots show`: what a snapshot is of, what it holds, and the command that restores it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from devicevault_cli.nearest import listed
from devicevault_cli.output.history_page import indented, shown_at
from devicevault_cli.output.table import cell_of, heading, show, shown_time, text
from devicevault_cli.output.view import Cell, View
from devicevault_cli.plural import number
from devicevault_cli.streams.model import EntryId

Answer: TypeAlias = Mapping[str, Any]
ENTRIES = ("id", "time", "consumer", "deliveries", "idle_ms")
ROWS = ("id", "device_id", "status", "timestamp", "task_identifier")
WIDE = 120
"""Columns from which there is room for the log."""


def snapshot_lines(answer: Answer, view: View) -> Iterator[str]:
    """A headline, facts, the consumers, the listed entries or rows, and the command that restores the file."""
    of_rows = answer["table"] is not None
    kind = ("row", "rows") if of_rows else ("pending entry", "pending entries")
    rows = answer["rows"] if of_rows else answer["entries"]
    words = [f"before {text(answer['command'])}"] if answer["command"] else []
    words += [number(answer["total"], *kind)]
    words += [f"{len(rows):,} listed"] if len(rows) < answer["total"] else []
    yield from view.folded(f"{shown_at(answer['at'])}  {', '.join(words)}", "bold", "  ")
    for fact in _facts(answer):
        yield from indented(view, fact)
    if answer["consumers"]:
        cells = [(text(consumer["name"]), f"{consumer['pending']:,}") for consumer in answer["consumers"]]
        yield ""
        yield from view.table({"CONSUMER": False, "PENDING": True}, cells)
    if rows:
        columns = (*ROWS, "log") if of_rows and view.width >= WIDE else ROWS if of_rows else ENTRIES
        yield ""
        yield from _table(rows, columns, view)
    yield ""
    yield f"restore: {text(answer['restore'])}"


def _facts(answer: Answer) -> Iterator[str]:
    if answer["user"]:
        yield f"by user {text(answer['user'])}"
    if answer["table"] is None:
        yield from _group_facts(answer)
    else:
        yield ", ".join(text(answer[name]) for name in ("table", "database") if answer[name])
    yield f"the file is whole: its checksum is right; {show('bytes', answer['size'])}"


def _group_facts(answer: Answer) -> Iterator[str]:
    yield f"{text(answer['stream'])}, group {text(answer['group'])}"
    if answer["position"] is None:
        yield "no position: only entries and consumers were saved"
    else:
        read = answer["entries_read"]
        counted = "entries-read unknown" if read is None else f"entries-read {read:,}"
        yield f"position {_position(answer['position'])}, {counted}"
    if answer["created"]:
        yield f"consumers created by the command: {text(listed(answer['created']))}"
    if answer["newly_pending"]:
        yield f"{number(answer['newly_pending'], 'entry', 'entries')} made pending by the command"


def _position(position: str) -> str:
    """With the time; a position at the end of a millisecond is one already."""
    shown = EntryId.parse(position).shown
    return f"{shown} ({shown_time(position)})" if shown == position and position != "0-0" else shown


def _table(rows: Sequence[Answer], columns: Sequence[str], view: View) -> list[str]:
    right = {key: all(isinstance(row[key], (int, type(None))) for row in rows) for key in columns}
    cells = [[_cell(key, row[key]) for key in columns] for row in rows]
    return view.table({heading(key): to_right for key, to_right in right.items()}, cells)


def _cell(key: str, value: object) -> Cell:
    if key in ("time", "timestamp") and value is not None:
        return Cell(shown_at(str(value)))
    return cell_of(key, value)
