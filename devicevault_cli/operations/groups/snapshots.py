"""Snapshots of a group as files: destroy-group and reset-group write them, restore-group reads them."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from devicevault_cli.directories import snapshot_directory
from devicevault_cli.errors import Damaged, DvctlError, MissingGroup, Usage
from devicevault_cli.operations.changes.change import Progress, quietly, stale
from devicevault_cli.operations.entries import checksummed
from devicevault_cli.operations.named import no_group
from devicevault_cli.paging import paged
from devicevault_cli.streams import scripts
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import EntryId, GroupInfo
from devicevault_cli.streams.snapshot import GroupState, PendingState, pending_states, state_of
from devicevault_cli.times import now_iso

KIND = "group-snapshot"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot file whose checksum is right; its pending entries are read when they are needed."""

    path: Path
    state: GroupState
    pending: int

    def pending_pages(self) -> Iterator[list[PendingState]]:
        """Every pending entry of the snapshot, a page at a time."""
        entries = (line["entry"] for line in checksummed.read(self.path) if "entry" in line)
        return paged(map(self._pending_state, entries), scripts.ENTRIES_PER_SCRIPT)

    def _pending_state(self, entry: Any) -> PendingState:
        with _expected(self.path):
            key, consumer, at, deliveries = entry
            return PendingState(EntryId.parse(key), self.state.consumers[consumer], int(at), int(deliveries))


@contextmanager
def _expected(path: Path) -> Iterator[None]:
    """Raises Damaged where a file with the right checksum holds something else than dvctl writes."""
    try:
        yield
    except (LookupError, TypeError, ValueError, Usage) as error:
        raise Damaged(f"{path} does not hold what a snapshot of a group holds") from error


def write_snapshot(group: Group, info: GroupInfo, progress: Progress = quietly) -> Path:
    """Write the group's whole state below the state directory. Raises DvctlError where it cannot be written."""
    path = new_path(group.name)
    checksummed.write(path, _lines(group, info, progress))
    return path


def write_before(step: Callable[[], bool], group: Group, info: GroupInfo, progress: Progress) -> Path:
    """Write a snapshot, then make a change that is False where it no longer fits. Raises StalePlan."""
    path = write_snapshot(group, info, progress)
    if not step():
        path.unlink()
        raise stale()
    return path


def newest(most: int = 5) -> list[Path]:
    """Snapshots of groups, the newest first; none where the directory cannot be read."""
    try:
        files = [file for file in snapshot_directory().glob("*.jsonl") if not file.name.endswith(".rows.jsonl")]
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


def _lines(group: Group, info: GroupInfo, progress: Progress) -> Iterator[dict[str, Any]]:
    state = state_of(group, info)
    numbers = {name: number for number, name in enumerate(state.consumers)}
    yield {
        "dvctl": KIND,
        "version": VERSION,
        "at": now_iso(),
        "stream": state.stream,
        "group": state.group,
        "position": str(state.position),
        "entries_read": state.entries_read,
        "pending": info.pending,
    }
    for name in state.consumers:
        yield {"consumer": name}
    done = 0
    for page in pending_states(group):
        for held in page:
            if held.consumer not in numbers:
                numbers[held.consumer] = len(numbers)
                yield {"consumer": held.consumer}
            yield {"entry": [str(held.id), numbers[held.consumer], held.delivered_at_ms, held.deliveries]}
        done += len(page)
        progress(done)


def read_snapshot(path: Path) -> Snapshot:
    """Raises Damaged for a file that was cut or edited or is something else, Usage for one that cannot be read."""
    lines = checksummed.read(path)
    head = next(lines, {})
    if head.get("dvctl") != KIND:
        raise Damaged(f"{path} is not a snapshot of a group")
    if head.get("version") != VERSION:
        raise Usage(f"{path} was written by another version of dvctl (format {head.get('version')})")
    names = []
    pending = 0
    for line in lines:
        if "consumer" in line:
            names.append(str(line["consumer"]))
        else:
            pending += 1
    with _expected(path):
        read = head["entries_read"]
        place = str(head["stream"]), str(head["group"]), EntryId.parse(head["position"])
        state = GroupState(*place, None if read is None else int(read), tuple(names))
    return Snapshot(path, state, pending)


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
