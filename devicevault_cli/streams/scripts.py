"""What must be atomic, as server-side scripts. Keys and arguments are named in each script's first lines."""

from __future__ import annotations

TAKE = """
-- KEYS stream; ARGV group, consumer, owner ('' any), min idle ms, raise, id...
-- Claims what is still pending, idle enough and of that owner; clears what is gone.
-- -> {{id, count found}...}, {gone id...}
-- The existence check comes first because XCLAIM on 7.0 silently removes deleted entries.
local group, me, owner, idle, raise = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local taken, gone = {}, {}
for i = 6, #ARGV do
  local id = ARGV[i]
  local p = redis.call('XPENDING', KEYS[1], group, id, id, 1)[1]
  if p and (owner == '' or p[2] == owner) and p[3] >= idle then
    if #redis.call('XRANGE', KEYS[1], id, id) == 0 then
      redis.call('XACK', KEYS[1], group, id)
      gone[#gone + 1] = id
    else
      redis.call('XCLAIM', KEYS[1], group, me, 0, id, 'RETRYCOUNT', p[4] + raise, 'JUSTID')
      taken[#taken + 1] = {id, p[4]}
    end
  end
end
return {taken, gone}
"""

HOLD = """
-- KEYS stream; ARGV group, consumer, (id, delivery count or '')...
-- Makes idle times fresh, and puts delivery counts back, of what is still this consumer's own. -> how many
local held = 0
for i = 3, #ARGV, 2 do
  local id = ARGV[i]
  local p = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1)[1]
  if p and p[2] == ARGV[2] and #redis.call('XRANGE', KEYS[1], id, id) > 0 then
    local count = ARGV[i + 1]
    if count == '' then count = p[4] end
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'RETRYCOUNT', count, 'JUSTID')
    held = held + 1
  end
end
return held
"""

_WRITE_LETTER = """
-- A letter of `entry` unless there is one. A script cannot pass on 4,000 fields: a larger message is packed into one,
-- as netstrings.
local name = ARGV[3] .. ' ' .. group
local known = redis.call('HGET', KEYS[3], name)
if not known or #redis.call('XRANGE', KEYS[2], known, known) == 0 then
  local about = {['_dvctl.id'] = 1, ['_dvctl.reason'] = 1, ['_dvctl.detail'] = 1, ['_dvctl.group'] = 1,
    ['_dvctl.consumer'] = 1, ['_dvctl.deliveries'] = 1, ['_dvctl.at'] = 1, ['_dvctl.attempts'] = 1,
    ['_dvctl.packed'] = 1}
  local letter, fields = {}, entry[2]
  for i = 1, #fields, 2 do
    if not about[fields[i]] then
      letter[#letter + 1] = fields[i]
      letter[#letter + 1] = fields[i + 1]
    end
  end
  if #letter > 7000 then
    for i = 1, #letter do letter[i] = #letter[i] .. ':' .. letter[i] .. ',' end
    letter = {'_dvctl.packed', table.concat(letter)}
  end
  for _, v in ipairs({'_dvctl.id', ARGV[3], '_dvctl.reason', ARGV[5], '_dvctl.detail', ARGV[6], '_dvctl.group', group,
    '_dvctl.consumer', ARGV[4], '_dvctl.deliveries', deliveries, '_dvctl.at', ARGV[7], '_dvctl.attempts', '0'}) do
    letter[#letter + 1] = v
  end
  redis.call('HSET', KEYS[3], name, redis.call('XADD', KEYS[2], '*', unpack(letter)))
end
"""

DEAD_LETTER = f"""
-- KEYS stream, dead, dead ids, alone; ARGV group, id, first id, consumer, reason, detail, at
-- Writes the letter and acknowledges, only while the entry is pending. -> 1 done, 0 not pending, -1 gone
local group, id = ARGV[1], ARGV[2]
local p = redis.call('XPENDING', KEYS[1], group, id, id, 1)[1]
if not p then return 0 end
local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
if not entry then
  redis.call('XACK', KEYS[1], group, id)
  return -1
end
local deliveries = tostring(p[4])
{_WRITE_LETTER}
redis.call('XACK', KEYS[1], group, id)
redis.pcall('HDEL', KEYS[4], id .. ' ' .. group)
return 1
"""

LATE_LETTER = f"""
-- KEYS stream, dead, dead ids; ARGV group, id, first id, consumer, reason, detail, at
-- Writes the letter of an entry that was acknowledged without one, only while nobody holds it.
-- -> 1 it stands, 0 the entry is pending, -1 gone
local group, id, deliveries = ARGV[1], ARGV[2], '0'
if #redis.call('XPENDING', KEYS[1], group, id, id, 1) > 0 then return 0 end
local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
if not entry then return -1 end
{_WRITE_LETTER}
return 1
"""

DISCARD = """
-- KEYS stream, discarded, alone; ARGV group, id, score, member
-- Records that an entry is given up and acknowledges it, only while it is pending. -> 1 done, 0 not pending
local group, id = ARGV[1], ARGV[2]
if #redis.call('XPENDING', KEYS[1], group, id, id, 1) == 0 then return 0 end
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[4])
redis.call('XACK', KEYS[1], group, id)
redis.pcall('HDEL', KEYS[3], id .. ' ' .. group)
return 1
"""

RETIRE = """
-- KEYS stream; ARGV group, consumer
-- Deletes the consumer only if it holds nothing: DELCONSUMER drops pending entries. -> 1 deleted, 0 it holds some
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) > 0 then return 0 end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 1
"""
