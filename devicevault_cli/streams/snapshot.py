"""A group's whole state, read and put back a page at a time: position, consumers, pending entries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import EntryId, GroupInfo, StreamInfo
from devicevault_cli.streams.stream import Stream, ids_of, raw

PAGE = 1000

PUT_BACK = """
-- KEYS stream; ARGV group, (id, consumer, delivered at ms, delivery count)...
-- Makes entries pending as they were. -> {id that no longer exists...}
-- Redis 6.2 would make a deleted entry pending, 7.0 silently would not: so the entry is looked for first.
local missing = {}
for i = 2, #ARGV, 4 do
  if #redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i]) == 0 then
    missing[#missing + 1] = ARGV[i]
  else
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[i + 1], 0, ARGV[i],
      'TIME', ARGV[i + 2], 'RETRYCOUNT', ARGV[i + 3], 'FORCE', 'JUSTID')
  end
end
return missing
"""

MISSING = """
-- KEYS stream; ARGV id... -> {id that does not exist...}; the entries themselves stay where they are
local missing = {}
for i = 1, #ARGV do
  if #redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i]) == 0 then missing[#missing + 1] = ARGV[i] end
end
return missing
"""


@dataclass(frozen=True, slots=True)
class GroupState:
    """What a group is besides its pending entries. `entries_read` is None where Redis does not know it."""

    stream: str
    group: str
    position: EntryId
    entries_read: int | None
    consumers: tuple[str, ...]


class Held(NamedTuple):
    """A pending entry with the server's time of its last delivery, in ms: unlike an idle time it does not grow."""

    id: EntryId
    consumer: str
    delivered_at_ms: int
    deliveries: int


def held_pages(group: Group) -> Iterator[list[Held]]:
    """Every pending entry, a page at a time."""
    for page in group.pending_pages(count=PAGE):
        now = server_time_ms(group.stream)
        yield [Held(each.id, each.consumer, now - each.idle_ms, each.deliveries) for each in page]


def server_time_ms(stream: Stream) -> int:
    """Redis's clock."""
    return stream.read(lambda reply: int(reply[0]) * 1000 + int(reply[1]) // 1000, "TIME")


def state_of(group: Group, info: GroupInfo) -> GroupState:
    """Position and consumers."""
    names = tuple(each.name for each in group.consumers())
    return GroupState(group.stream.key, group.name, info.last_delivered_id, info.entries_read, names)


def put_back(group: Group, state: GroupState) -> None:
    """Make the group, or set its position; make its consumers.

    Entries-read goes with it where Redis keeps one (7.0) and the stream still is the one that was read.
    """
    reads = ("ENTRIESREAD", state.entries_read) if _still_counted(group.stream.info(), state) else ()
    how = raw(group.name), str(state.position)
    if group.info() is None:
        group.stream.call("XGROUP", "CREATE", group.stream.key, *how, "MKSTREAM", *reads)
    else:
        group.stream.call("XGROUP", "SETID", group.stream.key, *how, *reads)
    for name in state.consumers:
        group.stream.call("XGROUP", "CREATECONSUMER", group.stream.key, how[0], raw(name))


def put_back_held(group: Group, page: Sequence[Held]) -> list[EntryId]:
    """Make entries pending as they were, whoever holds them now. -> those that no longer exist"""
    flat = [part for each in page for part in (str(each.id), raw(each.consumer), each.delivered_at_ms, each.deliveries)]
    return group.stream.eval(ids_of, PUT_BACK, [group.stream.key], raw(group.name), *flat)


def missing(stream: Stream, ids: Sequence[EntryId]) -> list[EntryId]:
    """Those of the ids that are not on the stream."""
    return stream.eval(ids_of, MISSING, [stream.key], *map(str, ids))


def _still_counted(info: StreamInfo | None, state: GroupState) -> bool:
    """Whether entries-read can still be true: a stream that was deleted and filled again counts from 0."""
    if info is None or info.entries_added is None or state.entries_read is None:
        return False
    unread = info.entries_added - state.entries_read
    there = info.length if info.first_id is not None and info.first_id > state.position else 0
    return state.position <= info.last_generated_id and unread >= there
