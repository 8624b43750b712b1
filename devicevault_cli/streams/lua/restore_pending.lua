-- KEYS stream
-- ARGV group, '1': also entries that are not pending, (id, consumer, ms of its last delivery, delivery count)...
-- Makes entries pending as they were.
-- -> {id no longer on the stream...}, {id not pending, and left so...}
-- Redis 6.2 would make a deleted entry pending, 7.0 silently would not: so the existence check comes first.
local force = ARGV[2] == '1'
local missing, acknowledged = {}, {}
for i = 3, #ARGV, 4 do
  local id = ARGV[i]
  if #redis.call('XRANGE', KEYS[1], id, id) == 0 then
    missing[#missing + 1] = id
  elseif not force and #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1) == 0 then
    acknowledged[#acknowledged + 1] = id
  else
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[i + 1], 0, id,
      'TIME', ARGV[i + 2], 'RETRYCOUNT', ARGV[i + 3], 'FORCE', 'JUSTID')
  end
end
return {missing, acknowledged}
