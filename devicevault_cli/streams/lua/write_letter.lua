-- Included by dead_letter.lua and late_letter.lua, with the same KEYS stream, dead, dead ids
-- and ARGV group, id, first id, consumer, reason, detail, at. Uses the locals group, entry, deliveries.
-- Writes a dead letter of the entry unless it has one. A script cannot pass on 4,000 fields: a larger message is packed
-- into one field, as netstrings. -> nothing
local name = ARGV[3] .. ' ' .. group
local known = redis.call('HGET', KEYS[3], name)
if not known or #redis.call('XRANGE', KEYS[2], known, known) == 0 then
  local own = {['_dvctl.id'] = 1, ['_dvctl.reason'] = 1, ['_dvctl.detail'] = 1, ['_dvctl.group'] = 1,
    ['_dvctl.consumer'] = 1, ['_dvctl.deliveries'] = 1, ['_dvctl.at'] = 1, ['_dvctl.attempts'] = 1,
    ['_dvctl.packed'] = 1}
  local letter, fields = {}, entry[2]
  for i = 1, #fields, 2 do
    if not own[fields[i]] then
      letter[#letter + 1] = fields[i]
      letter[#letter + 1] = fields[i + 1]
    end
  end
  if #letter > 7000 then
    for i = 1, #letter do letter[i] = #letter[i] .. ':' .. letter[i] .. ',' end
    letter = {'_dvctl.packed', table.concat(letter)}
  end
  for _, v in ipairs({'_dvctl.id', ARGV[3], '_dvctl.reason', ARGV[5], '_dvctl.detail', ARGV[6], '_dvctl.group', group,
    '_dvctl.consumer', ARGV[4], '_dvctl.deliveries', deliveries, '_dvctl.at', ARGV[7], '_dvctl.attempts', '0'}) do
    letter[#letter + 1] = v
  end
  redis.call('HSET', KEYS[3], name, redis.call('XADD', KEYS[2], '*', unpack(letter)))
end
