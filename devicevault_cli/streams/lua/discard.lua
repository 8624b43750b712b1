-- KEYS stream, discarded, alone
-- ARGV group, (id, score, member)...
-- Records as discarded, and acknowledges, those of the entries that are pending.
-- -> {id that was pending...}
local discarded = {}
for i = 2, #ARGV, 3 do
  local id = ARGV[i]
  if #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1) > 0 then
    redis.call('ZADD', KEYS[2], ARGV[i + 1], ARGV[i + 2])
    redis.call('XACK', KEYS[1], ARGV[1], id)
    redis.pcall('HDEL', KEYS[3], id .. ' ' .. ARGV[1])
    discarded[#discarded + 1] = id
  end
end
return discarded
