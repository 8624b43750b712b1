"""snapshots show: what a file holds that undoes a change, whole or a page of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path
from typing import TypeAlias

from devicevault_cli.errors import Damaged, Usage
from devicevault_cli.operations.answer import Answer, keys_of
from devicevault_cli.operations.changes.change import Progress, quietly
from devicevault_cli.operations.changes.history import who_wrote
from devicevault_cli.operations.database import removed_rows
from devicevault_cli.operations.entries import checksummed
from devicevault_cli.operations.entries.positions import parse_start
from devicevault_cli.operations.groups.snapshots import Snapshot, read_snapshot
from devicevault_cli.operations.snapshots.list import SavedState, database_of, saved_state
from devicevault_cli.redact import scrub_urls
from devicevault_cli.repository.model import Row
from devicevault_cli.repository.tables import TABLES, TableSpec
from devicevault_cli.streams.model import ZERO, EntryId
from devicevault_cli.streams.snapshot import PendingState
from devicevault_cli.times import Milliseconds, iso, iso_micros, parse_time

FIRST_SHOWN = -62_135_596_800_000_000
"""The first moment of the year 1, in microseconds."""
Shown: TypeAlias = Mapping[str, str | int | None]


@dataclass(frozen=True, slots=True)
class SavedConsumer(Answer):
    """An element of `consumers[]`. `pending`: number of its entries in the file."""

    name: str
    pending: int


@dataclass(frozen=True, slots=True)
class SavedEntry(Answer):
    """A pending entry. `time`: of its id. `idle_ms`: when the file was written; None where it does not say when."""

    id: EntryId
    time: str
    consumer: str
    deliveries: int
    delivered_at: str
    idle_ms: int | None


@dataclass(frozen=True, slots=True)
class SnapshotAnswer(Answer):
    """The answer of `snapshots show`: of a group `consumers` and `entries`, of a table `rows`; the others are empty.

    `user`: None where the journal does not know the file. `position`: None where only some entries were saved.
    `total`: entries or rows in the file. `created`: consumers that the change made; `newly_pending`: number of entries
    that it made pending. `next_from`: None on the last page.
    """

    at: str
    command: str | None
    user: str | None
    stream: str | None
    group: str | None
    table: str | None
    database: str | None
    position: EntryId | None
    entries_read: int | None
    total: int
    size: int
    whole: bool
    problem: str | None
    restore: str | None
    file: str
    created: Sequence[str]
    newly_pending: int
    consumers: Sequence[SavedConsumer]
    entries: Sequence[SavedEntry]
    rows: Sequence[Shown]
    next_from: str | int | None

    @property
    def key(self) -> str:
        """The key of what was saved."""
        return "entries" if self.table is None else "rows"

    @property
    def heads(self) -> tuple[str, ...]:
        """The keys of an entry, or of a row."""
        return keys_of(SavedEntry) if self.table is None else ("id", *TABLES[self.table].columns)


def show_snapshot(path: Path, start: str | None, count: int, progress: Progress = quietly) -> SnapshotAnswer:
    """Read the whole file, and show at most `count` entries or rows from `start` on, in the order of their ids.

    Raises Damaged for a file that is truncated, edited or something else, Usage for one that cannot be read and for a
    `start` that is no id.
    """
    checksummed.check(path)
    saved = saved_state(path)
    if saved.problem:
        raise Damaged(saved.problem)
    user = who_wrote(path)
    if saved.rows is not None:
        return _rows(path, saved, user, start, count)
    return _group(path, saved, user, start, count, progress)


def ids_in(path: Path, start: str | None) -> Iterator[EntryId | int]:
    """The ids of all entries or rows from `start` on, in the order of the file."""
    if saved_state(path).rows is not None:
        first = _row_id(start)
        rows = (row for page in removed_rows.read(path).pages() for row in page)
        yield from (key for key in map(_id, rows) if key >= first)
    else:
        position = _entry_id(start)
        pages = read_snapshot(path).pending_pages()
        yield from (held.id for page in pages for held in page if held.id >= position)


def _group(
    path: Path, saved: SavedState, user: str | None, start: str | None, count: int, progress: Progress
) -> SnapshotAnswer:
    stored = read_snapshot(path)
    for _ in stored.newly_pending_pages():
        pass  # what restore-group could not read is damaged here too
    owners = Counter(dict.fromkeys(stored.state.consumers, 0))
    first = _entry_id(start)
    chosen = (held for held in _counted(stored, owners, progress) if held.id >= first)
    page = nsmallest(count + 1, chosen, key=lambda held: held.id)
    at = _milliseconds(saved.at)
    return SnapshotAnswer(
        at=saved.at, command=saved.command, user=user, stream=saved.stream, group=saved.group, table=None,
        database=None, position=stored.state.position, entries_read=stored.state.entries_read, total=stored.pending,
        size=saved.size, whole=saved.whole, problem=None, restore=saved.restore, file=saved.file,
        created=stored.created, newly_pending=stored.newly_pending,
        consumers=[SavedConsumer(name, pending) for name, pending in owners.items()],
        entries=[_entry(held, at) for held in page[:count]], rows=[],
        next_from=str(page[count].id) if len(page) > count else None,
    )  # fmt: skip


def _rows(path: Path, saved: SavedState, user: str | None, start: str | None, count: int) -> SnapshotAnswer:
    stored = removed_rows.read(path)
    first = _row_id(start)
    rows: Iterable[Row] = (row for page in stored.pages() for row in page)
    page = nsmallest(count + 1, (row for row in rows if _id(row) >= first), key=_id)
    return SnapshotAnswer(
        at=saved.at, command=saved.command, user=user, stream=None, group=None, table=saved.table,
        database=database_of(path), position=None, entries_read=None, total=stored.count,
        size=saved.size, whole=saved.whole, problem=None, restore=saved.restore, file=saved.file,
        created=[], newly_pending=0, consumers=[], entries=[],
        rows=[_row(row, stored.spec) for row in page[:count]],
        next_from=_id(page[count]) if len(page) > count else None,
    )  # fmt: skip


def _counted(stored: Snapshot, owners: Counter[str], progress: Progress) -> Iterator[PendingState]:
    """Every entry of the file, counted by its consumer."""
    for page in stored.pending_pages():
        owners.update(held.consumer for held in page)
        progress(owners.total())
        yield from page


def _entry(held: PendingState, at: Milliseconds | None) -> SavedEntry:
    delivered = max(0, held.delivered_at_ms)
    idle = None if at is None else max(0, at - delivered)
    return SavedEntry(held.id, iso(held.id.ms), held.consumer, held.deliveries, iso(delivered), idle)


def _row(row: Row, spec: TableSpec) -> Shown:
    """A row with its times in words. A log may quote a URL with a password, which is not shown."""
    return {name: _value(value, spec.kind(name)) for name, value in row.items()}


def _value(value: str | int | None, kind: str) -> str | int | None:
    if kind == "time" and isinstance(value, int):
        return iso_micros(max(FIRST_SHOWN, value))
    return scrub_urls(value) if isinstance(value, str) else value


def _id(row: Row) -> int:
    return int(row["id"] or 0)


def _row_id(start: str | None) -> int:
    if start in (None, "start"):
        return 0
    if not (start.isascii() and start.isdigit() and len(start) < 20):
        raise Usage(f"--from: {start[:60]!r} is not the id of a row")
    return int(start)


def _entry_id(start: str | None) -> EntryId:
    return ZERO if start is None else parse_start(start)


def _milliseconds(at: str) -> Milliseconds | None:
    try:
        return parse_time(at)
    except Usage:
        return None
