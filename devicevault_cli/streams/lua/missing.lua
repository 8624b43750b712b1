-- KEYS stream
-- ARGV id...
-- Looks for entries without sending them.
-- -> {id that is not on the stream...}
local missing = {}
for i = 1, #ARGV do
  if #redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i]) == 0 then missing[#missing + 1] = ARGV[i] end
end
return missing
