-- KEYS stream
-- ARGV group, new owner, least idle ms of a consumer (-1 any), most entries to move, consumer...
-- Moves what the consumers hold, keeping delivery counts and idle times, then deletes the consumers: DELCONSUMER drops
-- pending entries.
-- -> moved, no longer on the stream, {consumer deleted...}, {consumer left because it is active...},
--    number of the consumers that are finished
-- include: pairs_of
local group, to, dead, left = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local idle, moved, gone, retired, active = {}, 0, 0, {}, {}
for _, list in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], group)) do
  local consumer = pairs_of(list)
  idle[consumer['name']] = tonumber(consumer['idle'])
end
for i = 5, #ARGV do
  local name = ARGV[i]
  if idle[name] and idle[name] < dead then
    active[#active + 1] = name
  elseif idle[name] then
    repeat
      if left <= 0 then return {moved, gone, retired, active, i - 5} end
      local page = redis.call('XPENDING', KEYS[1], group, '-', '+', math.min(left, 100), name)
      for _, p in ipairs(page) do
        if #redis.call('XRANGE', KEYS[1], p[1], p[1]) == 0 then
          redis.call('XACK', KEYS[1], group, p[1])
          gone = gone + 1
        else
          redis.call('XCLAIM', KEYS[1], group, to, 0, p[1], 'IDLE', p[3], 'RETRYCOUNT', p[4], 'JUSTID')
          moved = moved + 1
        end
      end
      left = left - #page
    until #page == 0
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], group, name)
    retired[#retired + 1] = name
    left = left - 1
  end
end
return {moved, gone, retired, active, #ARGV - 4}
