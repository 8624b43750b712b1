-- KEYS dead, dead ids, discarded
-- ARGV (letter id, member of dead ids, score and member of discarded ('' for none))...
-- Removes dead letters, and records those that have a member as discarded.
-- -> number of letters that existed
-- The record comes before the removal: where memory is full it fails, and the letter must stay. XRANGE is slow here.
local dropped = 0
for i = 1, #ARGV, 4 do
  local id, member, record = ARGV[i], ARGV[i + 1], ARGV[i + 3]
  if record ~= '' and #redis.call('XRANGE', KEYS[1], id, id) > 0 then
    redis.call('ZADD', KEYS[3], ARGV[i + 2], record)
  end
  if redis.call('XDEL', KEYS[1], id) == 1 then
    if redis.call('HGET', KEYS[2], member) == id then redis.call('HDEL', KEYS[2], member) end
    dropped = dropped + 1
  end
end
return dropped
