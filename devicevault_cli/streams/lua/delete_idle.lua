-- KEYS stream
-- ARGV group, least idle ms, consumer that stays
-- Deletes the consumers that have nothing pending and were idle for so long: DELCONSUMER drops pending entries.
-- -> {consumer deleted...}
-- include: pairs_of
local deleted = {}
for _, list in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = pairs_of(list)
  local empty = tonumber(consumer['pending']) == 0
  if empty and tonumber(consumer['idle']) >= tonumber(ARGV[2]) and consumer['name'] ~= ARGV[3] then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer['name'])
    deleted[#deleted + 1] = consumer['name']
  end
end
return deleted
