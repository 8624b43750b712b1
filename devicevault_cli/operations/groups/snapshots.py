"""Snapshots of a group as files: destroy-group and reset-group write them, restore-group reads them."""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from devicevault_cli.directories import snapshot_directory, why_no_snapshot
from devicevault_cli.errors import Damaged, DvctlError, MissingGroup, Usage
from devicevault_cli.operations.changes.change import Progress, quietly, stale
from devicevault_cli.operations.changes.undo import Undo, by_snapshot, impossible
from devicevault_cli.operations.entries import checksummed
from devicevault_cli.operations.named import no_group
from devicevault_cli.paging import paged
from devicevault_cli.streams import scripts
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import EntryId, GroupInfo, PendingEntry
from devicevault_cli.streams.snapshot import GroupState, PendingState, pending_states, state_of
from devicevault_cli.times import now_iso

KIND = "group-snapshot"
ROWS = ".rows.jsonl"
"""The end of the names of files with rows, in the same directory."""
VERSION = 2
READABLE = (1, VERSION)
"""Version 1 knew no `created` lines, and always had a position."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot file whose checksum is right; its pending entries are read when they are needed.

    command: the words of the command that it was written before.  at: when.
    created: the consumers that did not exist before the change.  newly_pending: number of entries that were not pending
    before it.
    """

    path: Path
    state: GroupState
    pending: int
    created: tuple[str, ...] = ()
    newly_pending: int = 0
    command: str = ""
    at: str = ""

    def pending_pages(self) -> Iterator[list[PendingState]]:
        """Every pending entry of the snapshot, a page at a time."""
        entries = (line["entry"] for line in checksummed.read(self.path) if "entry" in line)
        return paged(map(self._pending_state, entries), scripts.ENTRIES_PER_SCRIPT)

    def newly_pending_pages(self) -> Iterator[list[EntryId]]:
        """The entries that were not pending before the change."""
        ids = (line[NEWLY_PENDING] for line in checksummed.read(self.path) if NEWLY_PENDING in line)
        return paged(map(self._id, ids), scripts.ENTRIES_PER_SCRIPT)

    def _pending_state(self, entry: Any) -> PendingState:
        with _expected(self.path):
            key, consumer, at, deliveries = entry
            return PendingState(EntryId.parse(key), self.state.consumers[consumer], int(at), int(deliveries))

    def _id(self, key: Any) -> EntryId:
        with _expected(self.path):
            return EntryId.parse(key)


RESTORES_ALL = "restore-group puts all of this back"
CREATED, NEWLY_PENDING = "created", "newly_pending"


@contextmanager
def _expected(path: Path) -> Iterator[None]:
    """Raises Damaged where a file with the right checksum holds something else than dvctl writes."""
    try:
        yield
    except (LookupError, TypeError, ValueError, Usage) as error:
        raise Damaged(f"{path} does not hold what a snapshot of a group holds") from error


@dataclass(frozen=True, slots=True)
class Before:
    """What a snapshot holds beside the group: the command, and what that is going to make that is not there yet."""

    command: str
    created: Sequence[str] = ()
    newly_pending: Iterable[EntryId] = ()


def write_snapshot(group: Group, info: GroupInfo, before: Before, progress: Progress = quietly) -> Path:
    """Write the group's whole state below the state directory. Raises DvctlError where it cannot be written."""
    path = new_path(group.name)
    checksummed.write(path, _lines(state_of(group, info), before, pending_states(group), progress))
    return path


def write_entries(
    group: Group,
    before: Before,
    pages: Iterable[list[PendingEntry]],
    consumers: Sequence[str] = (),
    progress: Progress = quietly,
) -> Snapshot:
    """Write some pending entries and consumers, without the group's position. Raises DvctlError."""
    path = new_path(group.name)
    state = GroupState(group.stream.key, group.name, None, None, tuple(consumers))
    checksummed.write(path, _lines(state, before, pending_states(group, pages), progress))
    return read_snapshot(path)


def write_before(step: Callable[[], bool], group: Group, info: GroupInfo, before: Before, progress: Progress) -> Path:
    """Write a snapshot, then make a change that is False where it no longer fits. Raises StalePlan."""
    path = write_snapshot(group, info, before, progress)
    if not step():
        path.unlink()
        raise stale()
    return path


def undo_by_snapshot(restores: str) -> tuple[Undo, bool]:
    """How a change is undone that is made even where no snapshot can be written. -> and whether one can be written"""
    why = why_no_snapshot()
    if why is None:
        return by_snapshot(restores), True
    return impossible(f"no snapshot can be written: {why}; {why.hint}"), False


def newest(most: int = 5, *, rows: bool = False) -> list[Path]:
    """Snapshots of groups, or files with rows, the newest first; none where the directory cannot be read."""
    try:
        files = [file for file in snapshot_directory().glob("*.jsonl") if file.name.endswith(ROWS) is rows]
        return sorted(files, key=lambda file: -file.stat().st_mtime)[:most]
    except (OSError, DvctlError):
        return []


def there() -> str:
    """The newest snapshots, as part of an error message."""
    return f"snapshots: {', '.join(map(str, newest())) or 'none'}"


def new_path(name: str, suffix: str = "jsonl") -> Path:
    """A unique file name: what the snapshot is of, the time, the process."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:60] or "group"
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    return snapshot_directory() / f"{safe}-{moment}-{os.getpid()}.{suffix}"


def _lines(
    state: GroupState, before: Before, pages: Iterable[list[PendingState]], progress: Progress
) -> Iterator[dict[str, Any]]:
    numbers = {name: number for number, name in enumerate(state.consumers)}
    yield {
        "dvctl": KIND,
        "version": VERSION,
        "at": now_iso(),
        "command": before.command,
        "stream": state.stream,
        "group": state.group,
        "position": None if state.position is None else str(state.position),
        "entries_read": state.entries_read,
    }
    for name in state.consumers:
        yield {"consumer": name}
    for name in before.created:
        yield {CREATED: name}
    done = 0
    for page in pages:
        for held in page:
            if held.consumer not in numbers:
                numbers[held.consumer] = len(numbers)
                yield {"consumer": held.consumer}
            yield {"entry": [str(held.id), numbers[held.consumer], held.delivered_at_ms, held.deliveries]}
        done += len(page)
        progress(done)
    for key in before.newly_pending:
        yield {NEWLY_PENDING: str(key)}


def read_snapshot(path: Path) -> Snapshot:
    """Raises Damaged for a file that was cut or edited or is something else, Usage for one that cannot be read."""
    lines = checksummed.read(path)
    head = next(lines, {})
    if head.get("dvctl") != KIND:
        raise Damaged(f"{path} is not a snapshot of a group")
    if head.get("version") not in READABLE:
        raise Usage(f"{path} was written by another version of dvctl (format {head.get('version')})")
    names: dict[str, list[str]] = {"consumer": [], CREATED: []}
    counts: Counter[str] = Counter()
    for line in lines:
        kind = next(iter(line), "")
        if kind in names:
            names[kind].append(str(line[kind]))
        else:
            counts[kind] += 1
    about = str(head.get("command", "")), str(head.get("at", ""))
    with _expected(path):
        read, position = head["entries_read"], head["position"]
        place = str(head["stream"]), str(head["group"]), None if position is None else EntryId.parse(position)
        state = GroupState(*place, None if read is None else int(read), tuple(names["consumer"]))
    return Snapshot(path, state, counts["entry"], tuple(names[CREATED]), counts[NEWLY_PENDING], *about)


def existing_group(group: Group) -> GroupInfo:
    """The group as it is. Raises MissingGroup."""
    info = group.info()
    if info is None:
        known = (other.name for other in group.stream.groups())
        raise MissingGroup(no_group(group, known), hint="run `dvctl status` to list the groups")
    return info


def as_planned(group: Group, planned: GroupInfo) -> bool:
    """Whether the position and the number of pending entries are as planned. Raises MissingGroup."""
    now = existing_group(group)
    return (now.last_delivered_id, now.pending) == (planned.last_delivered_id, planned.pending)


def restore_command(path: Path) -> str:
    """The command that takes a change of a group back."""
    return f"dvctl restore-group {shlex.quote(str(path))}"
