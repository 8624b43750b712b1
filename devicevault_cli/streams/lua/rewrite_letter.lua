-- KEYS dead, dead ids
-- ARGV letter id, member of dead ids, (field, value)...
-- Replaces a dead letter by one with these fields instead of the old ones, the others byte for byte.
-- -> id of the new letter, or nil where the letter does not exist
local old = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not old then return false end
local replaced, letter = {}, {}
for i = 3, #ARGV, 2 do replaced[ARGV[i]] = true end
for i = 1, #old[2], 2 do
  if not replaced[old[2][i]] then
    letter[#letter + 1] = old[2][i]
    letter[#letter + 1] = old[2][i + 1]
  end
end
for i = 3, #ARGV do letter[#letter + 1] = ARGV[i] end
local new = redis.call('XADD', KEYS[1], '*', unpack(letter))
redis.call('XDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[2], new)
return new
