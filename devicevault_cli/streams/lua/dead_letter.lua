-- KEYS stream, dead, dead ids, alone
-- ARGV group, id, first id, consumer, reason, detail, at
-- Writes the dead letter of an entry and acknowledges it, only while it is pending.
-- -> 1 done, 0 not pending, -1 no longer on the stream
local group, id = ARGV[1], ARGV[2]
local p = redis.call('XPENDING', KEYS[1], group, id, id, 1)[1]
if not p then return 0 end
local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
if not entry then
  redis.call('XACK', KEYS[1], group, id)
  return -1
end
local deliveries = tostring(p[4])
-- include: write_letter
redis.call('XACK', KEYS[1], group, id)
redis.pcall('HDEL', KEYS[4], id .. ' ' .. group)
return 1
