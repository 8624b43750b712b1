-- KEYS stream
-- ARGV group, consumer, (id, delivery count or '')...
-- Sets the idle time of what this consumer still holds to 0, and its delivery count where one is given.
-- -> number of entries that it still holds
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
