"""The whole state of a group, read and restored a page at a time: position, consumers, pending entries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from devicevault_cli.streams import scripts
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import EntryId, GroupInfo, PendingEntry, StreamInfo
from devicevault_cli.streams.replies import entry_ids, raw


@dataclass(frozen=True, slots=True)
class GroupState:
    """A group without its pending entries. `entries_read` is None where Redis does not know it.

    `position` is None where the snapshot is of some pending entries and consumers only.
    """

    stream: str
    group: str
    position: EntryId | None
    entries_read: int | None
    consumers: tuple[str, ...]


class PendingState(NamedTuple):
    """A pending entry with the time of its last delivery by Redis's clock, which unlike an idle time does not grow."""

    id: EntryId
    consumer: str
    delivered_at_ms: int
    deliveries: int


class PutBack(NamedTuple):
    """What could not be put back: entries no longer on the stream, and entries that were acknowledged and stay so."""

    gone: list[EntryId]
    acknowledged: list[EntryId]


def pending_states(group: Group, pages: Iterable[list[PendingEntry]] | None = None) -> Iterator[list[PendingState]]:
    """Pending entries, by default all, in pages that can be put back by one script each."""
    for page in group.pending_pages(count=scripts.ENTRIES_PER_SCRIPT) if pages is None else pages:
        now = group.stream.server_time_ms()
        yield [PendingState(entry.id, entry.consumer, now - entry.idle_ms, entry.deliveries) for entry in page]


def state_of(group: Group, info: GroupInfo) -> GroupState:
    """Position and consumers."""
    names = tuple(consumer.name for consumer in group.consumers())
    return GroupState(group.stream.key, group.name, info.last_delivered_id, info.entries_read, names)


def restore_group(group: Group, state: GroupState) -> None:
    """Create the group, or set its position, where the state has one, and create its consumers.

    Entries-read is restored where Redis keeps one (7.0) and the stream still is the one that was read.
    """
    key, name = group.stream.key, raw(group.name)
    if state.position is not None:
        counted = _still_counted(group.stream.info(), state, state.position)
        reads = ("ENTRIESREAD", state.entries_read) if counted else ()
        create = group.info() is None
        make = ("MKSTREAM",) if create else ()
        group.stream.call("XGROUP", "CREATE" if create else "SETID", key, name, str(state.position), *make, *reads)
    for consumer in state.consumers:
        group.stream.call("XGROUP", "CREATECONSUMER", key, name, raw(consumer))


def restore_pending(group: Group, page: Sequence[PendingState], *, acknowledged: bool = True) -> PutBack:
    """Make entries pending as they were, whoever holds them now; `acknowledged`: also those that nobody holds."""

    def parse(reply: Any) -> PutBack:
        gone, left = map(entry_ids, reply)
        return PutBack(gone, left)

    arguments = [
        part for entry in page for part in (str(entry.id), raw(entry.consumer), entry.delivered_at_ms, entry.deliveries)
    ]
    key = group.stream.key
    return group.stream.run_script(
        "restore_pending", [key], raw(group.name), int(acknowledged), *arguments, parse=parse
    )


def _still_counted(info: StreamInfo | None, state: GroupState, position: EntryId) -> bool:
    """Whether entries-read can still be true: a stream that was deleted and filled again counts from 0."""
    if info is None or info.entries_added is None or state.entries_read is None:
        return False
    unread = info.entries_added - state.entries_read
    there = info.length if info.first_id is not None and info.first_id > position else 0
    return position <= info.last_generated_id and unread >= there
