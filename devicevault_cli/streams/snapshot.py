"""The whole state of a group, read and restored a page at a time: position, consumers, pending entries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from devicevault_cli.streams import scripts
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import EntryId, GroupInfo, StreamInfo
from devicevault_cli.streams.replies import entry_ids, raw


@dataclass(frozen=True, slots=True)
class GroupState:
    """A group without its pending entries. `entries_read` is None where Redis does not know it."""

    stream: str
    group: str
    position: EntryId
    entries_read: int | None
    consumers: tuple[str, ...]


class PendingState(NamedTuple):
    """A pending entry with the time of its last delivery by Redis's clock, which unlike an idle time does not grow."""

    id: EntryId
    consumer: str
    delivered_at_ms: int
    deliveries: int


def pending_states(group: Group) -> Iterator[list[PendingState]]:
    """Every pending entry, in pages that can be put back by one script each."""
    for page in group.pending_pages(count=scripts.ENTRIES_PER_SCRIPT):
        now = group.stream.server_time_ms()
        yield [PendingState(entry.id, entry.consumer, now - entry.idle_ms, entry.deliveries) for entry in page]


def state_of(group: Group, info: GroupInfo) -> GroupState:
    """Position and consumers."""
    names = tuple(consumer.name for consumer in group.consumers())
    return GroupState(group.stream.key, group.name, info.last_delivered_id, info.entries_read, names)


def restore_group(group: Group, state: GroupState) -> None:
    """Create the group, or set its position, and create its consumers.

    Entries-read is restored where Redis keeps one (7.0) and the stream still is the one that was read.
    """
    reads = ("ENTRIESREAD", state.entries_read) if _still_counted(group.stream.info(), state) else ()
    key, name = group.stream.key, raw(group.name)
    if group.info() is None:
        group.stream.call("XGROUP", "CREATE", key, name, str(state.position), "MKSTREAM", *reads)
    else:
        group.stream.call("XGROUP", "SETID", key, name, str(state.position), *reads)
    for consumer in state.consumers:
        group.stream.call("XGROUP", "CREATECONSUMER", key, name, raw(consumer))


def restore_pending(group: Group, page: Sequence[PendingState]) -> list[EntryId]:
    """Make entries pending as they were, whoever holds them now. -> those that are no longer on the stream"""
    arguments = [
        part for entry in page for part in (str(entry.id), raw(entry.consumer), entry.delivered_at_ms, entry.deliveries)
    ]
    key = group.stream.key
    return group.stream.run_script("restore_pending", [key], raw(group.name), *arguments, parse=entry_ids)


def _still_counted(info: StreamInfo | None, state: GroupState) -> bool:
    """Whether entries-read can still be true: a stream that was deleted and filled again counts from 0."""
    if info is None or info.entries_added is None or state.entries_read is None:
        return False
    unread = info.entries_added - state.entries_read
    there = info.length if info.first_id is not None and info.first_id > state.position else 0
    return state.position <= info.last_generated_id and unread >= there
