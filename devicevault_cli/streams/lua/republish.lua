-- KEYS stream
-- ARGV most copies of one message, id...
-- Adds copies of entries to the stream, byte for byte, with the first id and how many times it has been republished.
-- -> {id of a copy...}, {id refused: copied too often, or too many fields...}
local copies, refused = {}, {}
for i = 2, #ARGV do
  local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  if entry then
    local first, times, copy = ARGV[i], 0, {}
    for j = 1, #entry[2], 2 do
      if entry[2][j] == '_dvctl.id' then first = entry[2][j + 1]
      elseif entry[2][j] == '_dvctl.republished' then times = tonumber(entry[2][j + 1]) or 0
      else
        copy[#copy + 1] = entry[2][j]
        copy[#copy + 1] = entry[2][j + 1]
      end
    end
    if times >= tonumber(ARGV[1]) or #copy > 7000 then
      refused[#refused + 1] = ARGV[i]
    else
      for _, v in ipairs({'_dvctl.id', first, '_dvctl.republished', tostring(times + 1)}) do copy[#copy + 1] = v end
      copies[#copies + 1] = redis.call('XADD', KEYS[1], '*', unpack(copy))
    end
  end
end
return {copies, refused}
