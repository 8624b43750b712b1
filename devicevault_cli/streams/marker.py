"""The marker beside a stream: what each group saw of it last, so that a stream that falls back can be noticed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from devicevault_cli.errors import Usage
from devicevault_cli.streams import keys
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import ZERO, EntryId, GroupInfo, StreamInfo
from devicevault_cli.streams.stream import Stream, entry_id, raw, text

LOOK = """
-- KEYS stream, and (where the caller may use them) seen, incidents; ARGV group
-- One look at everything at once, without the contents of entries.
-- -> state, {length, first id, last generated id, entries added, max deleted id, last id that exists},
--    {position, entries read, pending, lag, consumers, next id} or {}, marker or '', {incident number, JSON...}
-- state: '' a stream, 'none', 'other'. What Redis does not know is ''.
local function pairs_of(list)
  local about = {}
  for i = 1, #list, 2 do about[list[i]] = list[i + 1] end
  return about
end
local function known(value) if value == nil or value == false then return '' end return tostring(value) end
local marker, incidents = '', {}
if #KEYS > 1 then
  local found = redis.pcall('HGET', KEYS[2], ARGV[1])
  if type(found) == 'string' then marker = found end
  found = redis.pcall('HGETALL', KEYS[3])
  if not found.err then incidents = found end
end
local info = redis.pcall('XINFO', 'STREAM', KEYS[1])
if info.err then
  if string.find(info.err, 'no such key') then return {'none', {}, {}, marker, incidents} end
  if string.find(info.err, 'WRONGTYPE') then return {'other', {}, {}, marker, incidents} end
  return info
end
local about = pairs_of(info)
local first, last = about['first-entry'], about['last-entry']
local stream = {known(about['length']), first and first[1] or '', about['last-generated-id'],
  known(about['entries-added']), known(about['max-deleted-entry-id']), last and last[1] or ''}
for _, one in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = pairs_of(one)
  if group['name'] == ARGV[1] then
    local position = group['last-delivered-id']
    -- Behind the largest id there is nothing, and Redis refuses to look there.
    local at_end = position == '18446744073709551615-18446744073709551615'
    local following = not at_end and redis.call('XRANGE', KEYS[1], '(' .. position, '+', 'COUNT', 1)[1]
    return {'', stream, {position, known(group['entries-read']), known(group['pending']), known(group['lag']),
      known(group['consumers']), following and following[1] or ''}, marker, incidents}
  end
end
return {'', stream, {}, marker, incidents}
"""

REMEMBER = """
-- KEYS seen, incidents; ARGV group, marker expected ('' none), new marker ('' remove), keep, (number ('' new), JSON)...
-- Replaces the marker, and records incidents first, only where nobody else replaced the marker meanwhile.
-- -> {number...}, or nothing where somebody did
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return false end
local numbers = {}
for i = 5, #ARGV, 2 do
  local number = ARGV[i]
  if number == '' then
    number = redis.call('HINCRBY', KEYS[2], 'next', 1)
    redis.call('HDEL', KEYS[2], number - tonumber(ARGV[4]))
  end
  redis.call('HSET', KEYS[2], number, ARGV[i + 1])
  numbers[#numbers + 1] = tostring(number)
end
if ARGV[3] == '' then redis.call('HDEL', KEYS[1], ARGV[1]) else redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) end
return numbers
"""

KEEP = 100
"""Incidents that are kept: the newest."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A stream and one group of it at one moment. None is what Redis does not know, or has not got.

    `kind`: `stream`, `none`, or `other` for another type of value. `left`: entries that exist and were not delivered.
    `next_id`: the oldest of them. `epoch` counts the incidents of the group: a process whose memory is of an earlier
    epoch knows that another process has recorded what it sees.
    """

    at_ms: int
    kind: str = "none"
    length: int = 0
    first_id: EntryId | None = None
    last_id: EntryId = ZERO
    added: int | None = None
    position: EntryId | None = None
    read: int | None = None
    pending: int = 0
    consumers: int = 0
    left: int | None = None
    next_id: EntryId | None = None
    epoch: int = 0

    @property
    def removed_unread(self) -> int | None:
        """Entries that left the stream before the group read them, as far as Redis counts (7.0 and later).

        At least so many: where it is not certain how many are left, all that exist could be.
        """
        if self.added is None or self.read is None or self.position is None:
            return None
        left = self.left
        if left is None:
            left = self.length - (self.first_id is not None and self.first_id <= self.position)
        # Entries-read may have been set to anything: no more can be missing than ever left the stream.
        return max(0, min(self.added - self.length, self.added - self.read - left))

    def to_json(self) -> str:
        """The marker: ids as text."""
        return json.dumps({name: _plain(value) for name, value in asdict(self).items()})

    @classmethod
    def from_json(cls, marker: bytes | str) -> Seen | None:
        """The inverse; None for what dvctl did not write."""
        try:
            known = json.loads(marker)
            ids = {name: EntryId.parse(known[name]) if known[name] else None for name in ("first_id", "position")}
            following = EntryId.parse(known["next_id"]) if known["next_id"] else None
            return cls(**known | ids | {"last_id": EntryId.parse(known["last_id"]), "next_id": following})
        except (AttributeError, LookupError, TypeError, ValueError, RecursionError, Usage):
            return None


def _plain(value: Any) -> Any:
    return f"{value[0]}-{value[1]}" if isinstance(value, (tuple, list)) else value


class Look(NamedTuple):
    """What one look gave: the state now, the marker as it is written, and the recorded incidents as they are."""

    now: Seen
    marker: bytes
    incidents: dict[int, bytes]


def look(group: Group, at_ms: int, *, beside: bool = True) -> Look:
    """One consistent look by script; `beside` False leaves the marker and the incidents out."""
    key = group.stream.key
    names = [key, keys.seen(key), keys.incidents(key)] if beside else [key]
    return group.stream.eval(lambda reply: _look(reply, at_ms), LOOK, names, raw(group.name))


def _look(reply: Any, at_ms: int) -> Look:
    state, stream, group, marker, incidents = reply
    recorded = _numbered(dict(zip(incidents[::2], incidents[1::2], strict=True)))
    if state:
        return Look(Seen(at_ms, state.decode()), marker, recorded)
    length, first, last, added, deleted, newest = stream
    now = Seen(at_ms, "stream", int(length), _id(first), entry_id(last), _number(added))
    if group:
        position, read, pending, lag, consumers, following = group
        now = replace(
            now,
            position=entry_id(position),
            read=_number(read),
            pending=int(pending),
            consumers=int(consumers),
            next_id=_id(following),
        )
        now = replace(now, left=_left(now, _id(newest), _number(lag), _id(deleted)))
    return Look(now, marker, recorded)


def seen_now(info: StreamInfo | None, group: GroupInfo | None, at_ms: int) -> Seen:
    """The same from what reading commands ask for, who may have no right to run scripts."""
    if info is None:
        return Seen(at_ms)
    now = Seen(at_ms, "stream", info.length, info.first_id, info.last_generated_id, info.entries_added)
    if group is None:
        return now
    position = group.last_delivered_id
    following = info.first_id if info.first_id is not None and info.first_id > position else None
    now = replace(
        now,
        position=position,
        read=group.entries_read,
        pending=group.pending,
        consumers=group.consumers,
        next_id=following,
    )
    return replace(now, left=_left(now, info.last_id if info.length else None, group.lag, info.max_deleted_id))


def _left(now: Seen, newest: EntryId | None, lag: int | None, deleted: EntryId | None) -> int | None:
    """How many entries that exist lie above the position, where that is certain without counting them."""
    position = now.position
    if position is None or newest is None or newest <= position:
        return 0 if position is not None else None
    if now.first_id is not None and now.first_id > position:
        return now.length
    if lag is None or deleted is None or deleted > position or not 0 < lag <= now.length:
        return None
    return lag


def _id(value: bytes) -> EntryId | None:
    return entry_id(value) if value else None


def _number(value: bytes) -> int | None:
    return int(value) if value else None


def _numbered(fields: dict[bytes, bytes]) -> dict[int, bytes]:
    return {int(name): value for name, value in fields.items() if name.isdigit() and len(name) < 20}


def markers(stream: Stream) -> dict[str, Seen]:
    """What each group saw last."""
    found = stream.read(_pairs, "HGETALL", keys.seen(stream.key))
    return {text(name): seen for name, marker in found.items() if (seen := Seen.from_json(marker))}


def recorded(stream: Stream) -> dict[int, bytes]:
    """The recorded incidents, by number, as they are."""
    return _numbered(stream.read(_pairs, "HGETALL", keys.incidents(stream.key)))


def _pairs(reply: Any) -> dict[bytes, bytes]:
    """redis-py makes a dict of an answer to HGETALL."""
    return dict(reply)


def remember(
    group: Group, before: bytes, after: Seen | None, incidents: list[tuple[int | None, str]]
) -> list[int] | None:
    """Replace the group's marker and record incidents (None: under a new number), all or nothing.

    -> the numbers, or None where another process replaced the marker since `before` was read
    """
    key = group.stream.key
    flat = [part for number, record in incidents for part in ("" if number is None else number, record)]
    marker = "" if after is None else after.to_json()

    def parse(reply: Any) -> list[int] | None:
        return None if reply is None else [int(number) for number in reply]

    names = [keys.seen(key), keys.incidents(key)]
    return group.stream.eval(parse, REMEMBER, names, raw(group.name), before, marker, KEEP, *flat)


def rewrite(stream: Stream, records: dict[int, str]) -> None:
    """Replace recorded incidents."""
    if records:
        flat = [part for pair in records.items() for part in pair]
        stream.call("HSET", keys.incidents(stream.key), *flat)


def forget(group: Group) -> None:
    """Remove the group's marker: the group is deleted on purpose."""
    group.stream.call("HDEL", keys.seen(group.stream.key), raw(group.name))
