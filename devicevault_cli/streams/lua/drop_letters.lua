-- KEYS dead, dead ids, discarded
-- ARGV number of letters, letter id..., member of dead ids... (one for each letter),
--      (letter id, score and member of discarded)...
-- Removes dead letters, and records those that are named again, at the end, as discarded.
-- -> number of letters that existed
-- The record comes before the removal: where memory is full it fails, and the letters must stay. XRANGE is slow here.
-- A member is removed only while it names this letter: a message may have a newer one.
local count = tonumber(ARGV[1])
for i = 2 * count + 2, #ARGV, 3 do
  if #redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i]) > 0 then redis.call('ZADD', KEYS[3], ARGV[i + 1], ARGV[i + 2]) end
end
local known = redis.call('HMGET', KEYS[2], unpack(ARGV, count + 2, 2 * count + 1))
local named = {}
for n = 1, count do
  if known[n] == ARGV[n + 1] then named[#named + 1] = ARGV[count + 1 + n] end
end
local removed = redis.call('XDEL', KEYS[1], unpack(ARGV, 2, count + 1))
if #named > 0 then redis.call('HDEL', KEYS[2], unpack(named)) end
return removed
