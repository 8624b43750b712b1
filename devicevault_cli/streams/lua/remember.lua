-- KEYS seen, incidents
-- ARGV group, marker expected ('' none), new marker ('' remove), most incidents to keep,
--      (number ('' new), JSON)...
-- Replaces the marker of a group, and records incidents before that, only if the marker is the expected one.
-- -> {number...}, or nil where another process replaced the marker
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return false end
local numbers = {}
for i = 5, #ARGV, 2 do
  local number = ARGV[i]
  if number == '' then
    number = redis.call('HINCRBY', KEYS[2], 'next', 1)
    redis.call('HDEL', KEYS[2], number - tonumber(ARGV[4]))
  end
  redis.call('HSET', KEYS[2], number, ARGV[i + 1])
  numbers[#numbers + 1] = tostring(number)
end
if ARGV[3] == '' then redis.call('HDEL', KEYS[1], ARGV[1]) else redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) end
return numbers
