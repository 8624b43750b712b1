-- KEYS stream
-- ARGV group, new owner ('' keeps each entry's), owner wanted ('' any), least idle ms, idle ms to set,
--      number to add to the delivery count, id...
-- Claims what is still pending, idle enough and of that owner; acknowledges what is no longer on the stream.
-- -> {{id, delivery count found}...}, {id no longer on the stream...}
-- The existence check comes first because XCLAIM on 7.0 silently removes deleted entries.
local group, to, owner, min_idle, idle, more = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local claimed, gone = {}, {}
for i = 7, #ARGV do
  local id = ARGV[i]
  local p = redis.call('XPENDING', KEYS[1], group, id, id, 1)[1]
  if p and (owner == '' or p[2] == owner) and p[3] >= min_idle then
    if #redis.call('XRANGE', KEYS[1], id, id) == 0 then
      redis.call('XACK', KEYS[1], group, id)
      gone[#gone + 1] = id
    else
      local new_owner, new_idle = to, idle
      if to == '' then new_owner, new_idle = p[2], math.max(p[3], idle) end
      redis.call('XCLAIM', KEYS[1], group, new_owner, 0, id, 'IDLE', new_idle, 'RETRYCOUNT', p[4] + more, 'JUSTID')
      claimed[#claimed + 1] = {id, p[4]}
    end
  end
end
return {claimed, gone}
