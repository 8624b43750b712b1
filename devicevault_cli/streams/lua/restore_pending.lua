-- KEYS stream
-- ARGV group, (id, consumer, ms of its last delivery, delivery count)...
-- Makes entries pending as they were.
-- -> {id no longer on the stream...}
-- Redis 6.2 would make a deleted entry pending, 7.0 silently would not: so the existence check comes first.
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
