"""What an operator does to groups and dead letters: each step one server-side script, never half done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from devicevault_cli.errors import MissingGroup
from devicevault_cli.streams import keys
from devicevault_cli.streams.dead_letters import DeadLetter
from devicevault_cli.streams.delivery import discard_note
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import EntryId, GroupInfo, pairs_of
from devicevault_cli.streams.stream import Stream, ids_of, raw, text

PAGE = 500
"""Entries a script handles at once: some milliseconds during which Redis serves nobody else."""

CLAIM = """
-- KEYS stream; ARGV group, new owner ('' keep), owner wanted ('' any), min idle ms, idle to set ms, id...
-- Claims, delivery counts kept, what is still pending, idle enough and of that owner; clears what is gone.
-- The existence check comes first because XCLAIM on 7.0 silently removes deleted entries. -> {claimed...}, {gone...}
local group, to, owner, idle, set = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local claimed, gone = {}, {}
for i = 6, #ARGV do
  local id = ARGV[i]
  local p = redis.call('XPENDING', KEYS[1], group, id, id, 1)[1]
  if p and (owner == '' or p[2] == owner) and p[3] >= idle then
    if #redis.call('XRANGE', KEYS[1], id, id) == 0 then
      redis.call('XACK', KEYS[1], group, id)
      gone[#gone + 1] = id
    else
      local who, new = to, set
      if to == '' then
        who = p[2]
        if p[3] > set then new = p[3] end
      end
      redis.call('XCLAIM', KEYS[1], group, who, 0, id, 'IDLE', new, 'RETRYCOUNT', p[4], 'JUSTID')
      claimed[#claimed + 1] = id
    end
  end
end
return {claimed, gone}
"""

ACKNOWLEDGE = """
-- KEYS stream, discarded, alone; ARGV group, (id, score, member)...
-- Records as given up and acknowledges what is pending. -> {acknowledged id...}
local acked = {}
for i = 2, #ARGV, 3 do
  local id = ARGV[i]
  if #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1) > 0 then
    redis.call('ZADD', KEYS[2], ARGV[i + 1], ARGV[i + 2])
    redis.call('XACK', KEYS[1], ARGV[1], id)
    redis.pcall('HDEL', KEYS[3], id .. ' ' .. ARGV[1])
    acked[#acked + 1] = id
  end
end
return acked
"""

RETIRE = """
-- KEYS stream; ARGV group, new owner, dead for ms (-1 do not ask), at most so many moves, consumer...
-- Moves what consumers hold, delivery counts and idle times kept, then deletes them: DELCONSUMER drops what is pending.
-- -> moved, gone, {retired...}, {spared...}, how many of the consumers are done with
local group, to, dead, left = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local idle, moved, gone, retired, spared = {}, 0, 0, {}, {}
for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], group)) do
  local about = {}
  for i = 1, #info, 2 do about[info[i]] = info[i + 1] end
  idle[about['name']] = tonumber(about['idle'])
end
for i = 5, #ARGV do
  local name = ARGV[i]
  if idle[name] and idle[name] < dead then
    spared[#spared + 1] = name
  elseif idle[name] then
    repeat
      if left <= 0 then return {moved, gone, retired, spared, i - 5} end
      local page = redis.call('XPENDING', KEYS[1], group, '-', '+', math.min(left, 100), name)
      for _, p in ipairs(page) do
        if #redis.call('XRANGE', KEYS[1], p[1], p[1]) == 0 then
          redis.call('XACK', KEYS[1], group, p[1])
          gone = gone + 1
        else
          redis.call('XCLAIM', KEYS[1], group, to, 0, p[1], 'IDLE', p[3], 'RETRYCOUNT', p[4], 'JUSTID')
          moved = moved + 1
        end
      end
      left = left - #page
    until #page == 0
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], group, name)
    retired[#retired + 1] = name
    left = left - 1
  end
end
return {moved, gone, retired, spared, #ARGV - 4}
"""

ALTER_GROUP = """
-- KEYS stream; ARGV group, position and pending entries as planned, 'DESTROY' or 'SETID', id, entries read ('')
-- Only if position and pending list are as planned. -> 1 done, 0 they changed, -1 no such group
local found
for _, info in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local about = {}
  for i = 1, #info, 2 do about[info[i]] = info[i + 1] end
  if about['name'] == ARGV[1] then found = about end
end
if not found then return -1 end
if found['last-delivered-id'] ~= ARGV[2] or tonumber(found['pending']) ~= tonumber(ARGV[3]) then return 0 end
if ARGV[4] == 'DESTROY' then
  redis.call('XGROUP', 'DESTROY', KEYS[1], ARGV[1])
elseif ARGV[6] == '' then
  redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], ARGV[5])
else
  redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], ARGV[5], 'ENTRIESREAD', ARGV[6])
end
return 1
"""

DROP_LETTERS = """
-- KEYS dead, dead ids, discarded; ARGV (letter id, member of the index, score and note of a discard ('' none))...
-- Removes letters and their places in the index, and notes what is given up. -> how many were there
-- A note comes before the removal: where memory is full it fails, and the letter must stay. XRANGE is slow here.
local dropped = 0
for i = 1, #ARGV, 4 do
  local id, member, note = ARGV[i], ARGV[i + 1], ARGV[i + 3]
  if note ~= '' and #redis.call('XRANGE', KEYS[1], id, id) > 0 then
    redis.call('ZADD', KEYS[3], ARGV[i + 2], note)
  end
  if redis.call('XDEL', KEYS[1], id) == 1 then
    if redis.call('HGET', KEYS[2], member) == id then redis.call('HDEL', KEYS[2], member) end
    dropped = dropped + 1
  end
end
return dropped
"""

REWRITE_LETTER = """
-- KEYS dead, dead ids; ARGV letter id, member of the index, (field, value)...
-- Writes the letter anew with these fields instead of the old ones, the others byte for byte. -> its id, or nothing
local old = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not old then return false end
local replaced, letter = {}, {}
for i = 3, #ARGV, 2 do replaced[ARGV[i]] = true end
for i = 1, #old[2], 2 do
  if not replaced[old[2][i]] then
    letter[#letter + 1] = old[2][i]
    letter[#letter + 1] = old[2][i + 1]
  end
end
for i = 3, #ARGV do letter[#letter + 1] = ARGV[i] end
local new = redis.call('XADD', KEYS[1], '*', unpack(letter))
redis.call('XDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[2], new)
return new
"""

REPUBLISH = """
-- KEYS stream; ARGV most copies, id...
-- Puts copies on the stream, byte for byte, that know their first id and the how manieth copy they are.
-- -> {new id...}, {refused id...}
local copies, refused = {}, {}
for i = 2, #ARGV do
  local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  if entry then
    local first, times, copy = ARGV[i], 0, {}
    for j = 1, #entry[2], 2 do
      if entry[2][j] == '_dvctl.id' then first = entry[2][j + 1]
      elseif entry[2][j] == '_dvctl.republished' then times = tonumber(entry[2][j + 1]) or 0
      else
        copy[#copy + 1] = entry[2][j]
        copy[#copy + 1] = entry[2][j + 1]
      end
    end
    if times >= tonumber(ARGV[1]) or #copy > 7000 then
      refused[#refused + 1] = ARGV[i]
    else
      for _, v in ipairs({'_dvctl.id', first, '_dvctl.republished', tostring(times + 1)}) do copy[#copy + 1] = v end
      copies[#copies + 1] = redis.call('XADD', KEYS[1], '*', unpack(copy))
    end
  end
end
return {copies, refused}
"""


class Claimed(NamedTuple):
    """What changed its owner or idle time, and what was pending but no longer exists (and was cleared)."""

    ids: list[EntryId]
    gone: list[EntryId]


class Retired(NamedTuple):
    """What a step of retiring did; `done`: so many of the consumers need no further step."""

    moved: int
    gone: int
    retired: list[str]
    spared: list[str]
    done: int


def claim(
    group: Group, ids: Sequence[EntryId], to: str | None, *, owner: str | None, min_idle_ms: int, idle_ms: int
) -> Claimed:
    """Give entries to a consumer (None: their own), delivery counts kept, with `idle_ms` as their idle time.

    A release never lowers an idle time. Redis notes a sign of life of the owner whenever it is named in a claim.
    """
    names = raw(group.name), raw(to or ""), raw(owner or "")
    return group.stream.eval(_claimed, CLAIM, [group.stream.key], *names, min_idle_ms, idle_ms, *map(str, ids))


def acknowledge_by_hand(group: Group, ids: Iterable[EntryId], why: str) -> list[EntryId]:
    """Acknowledge, and record as given up, those of the ids that are pending."""
    key = group.stream.key
    notes = [part for each in ids for part in (str(each), each.ms, discard_note(each, group.name, why))]
    names = [key, keys.discarded(key), keys.alone(key)]
    return group.stream.eval(ids_of, ACKNOWLEDGE, names, raw(group.name), *notes)


def retire(group: Group, consumers: Sequence[str], to: str, dead_for_ms: int | None = None) -> Retired:
    """One step of retiring consumers: call again with `consumers[done:]` until none are left."""
    dead = -1 if dead_for_ms is None else dead_for_ms
    names = raw(group.name), raw(to)
    return group.stream.eval(_retired, RETIRE, [group.stream.key], *names, dead, PAGE, *map(raw, consumers))


def _retired(reply: Any) -> Retired:
    moved, gone, retired, spared, done = reply
    return Retired(int(moved), int(gone), [*map(text, retired)], [*map(text, spared)], int(done))


def destroy_group(group: Group, planned: GroupInfo) -> bool:
    """Delete the group if it still is as planned. -> whether it was; raises MissingGroup"""
    return _alter(group, planned, "DESTROY", "", "")


def move_group(group: Group, planned: GroupInfo, position: EntryId, entries_read: int | None = None) -> bool:
    """Set the position if the group still is as planned. -> whether it was; `entries_read` needs Redis 7.0"""
    return _alter(group, planned, "SETID", str(position), "" if entries_read is None else str(entries_read))


def _alter(group: Group, planned: GroupInfo, *how: str) -> bool:
    state = raw(group.name), str(planned.last_delivered_id), planned.pending
    reply = group.stream.eval(int, ALTER_GROUP, [group.stream.key], *state, *how)
    if reply < 0:
        raise MissingGroup(f"no group {group.name} on {group.stream.key}")
    return reply == 1


def drop_letters(stream: Stream, letters: Sequence[tuple[DeadLetter, str | None]]) -> int:
    """Remove dead letters, a page in one step; with a reason, the message is recorded as given up. -> how many"""
    names = [keys.dead(stream.key), keys.dead_ids(stream.key), keys.discarded(stream.key)]
    dropped = 0
    for start in range(0, len(letters), PAGE):
        about = [part for letter, why in letters[start : start + PAGE] for part in _dropped(letter, why)]
        dropped += stream.eval(int, DROP_LETTERS, names, *about)
    return dropped


def _dropped(letter: DeadLetter, why: str | None) -> tuple[Any, ...]:
    note = discard_note(letter.id, letter.group, why) if why is not None else ""
    return str(letter.letter_id), raw(keys.member(letter.id, letter.group)), letter.id.ms, note


def rewrite_letters(stream: Stream, letters: Sequence[tuple[DeadLetter, dict[bytes, bytes]]]) -> None:
    """Replace fields of dead letters, each in a step of its own, all in one round trip; what is gone stays gone."""
    names = [keys.dead(stream.key), keys.dead_ids(stream.key)]
    stream.call_many(
        ("EVAL", REWRITE_LETTER, len(names), *names, *_rewritten(letter, fields)) for letter, fields in letters
    )


def _rewritten(letter: DeadLetter, fields: dict[bytes, bytes]) -> list[Any]:
    flat = [part for pair in pairs_of(fields) for part in pair]
    return [str(letter.letter_id), raw(keys.member(letter.id, letter.group)), *flat]


def republish(stream: Stream, ids: Sequence[EntryId], most: int) -> Claimed:
    """Copy entries to the end of the stream. -> the copies' ids, and those refused: copied `most` times already"""
    return stream.eval(_claimed, REPUBLISH, [stream.key], most, *map(str, ids))


def _claimed(reply: Any) -> Claimed:
    ids, gone = reply
    return Claimed(ids_of(ids), ids_of(gone))


def trim(stream: Stream, floor: EntryId) -> int:
    """XTRIM MINID, exactly. -> how many entries were removed"""
    return stream.read(int, "XTRIM", stream.key, "MINID", "=", str(floor))
