-- KEYS stream, and (where the caller may use them) seen, incidents, dead letters
-- ARGV group
-- Reads the state of a stream and of one group at one moment, without the contents of entries.
-- -> kind, {length, first id, last generated id, entries added, max deleted id, last id that exists},
--    {position, entries read, pending, lag, consumers, next id} or {}, marker or '', {incident number, JSON...},
--    number of dead letters of every group or ''
-- kind: '' a stream, 'none', 'other'. What Redis does not know is ''.
-- include: pairs_of
local function known(value) if value == nil or value == false then return '' end return tostring(value) end
local marker, incidents, letters = '', {}, ''
if #KEYS > 1 then
  local found = redis.pcall('HGET', KEYS[2], ARGV[1])
  if type(found) == 'string' then marker = found end
  found = redis.pcall('HGETALL', KEYS[3])
  if not found.err then incidents = found end
  -- Not XLEN, which a consumer has no right to.
  found = redis.pcall('XINFO', 'STREAM', KEYS[4])
  if not found.err then
    letters = known(pairs_of(found)['length'])
  elseif string.find(tostring(found.err), 'no such key') then
    letters = '0'
  end
end
local info = redis.pcall('XINFO', 'STREAM', KEYS[1])
if info.err then
  if string.find(tostring(info.err), 'no such key') then return {'none', {}, {}, marker, incidents, letters} end
  if string.find(tostring(info.err), 'WRONGTYPE') then return {'other', {}, {}, marker, incidents, letters} end
  return info
end
info = pairs_of(info)
local first, last = info['first-entry'], info['last-entry']
local stream = {known(info['length']), first and first[1] or '', info['last-generated-id'],
  known(info['entries-added']), known(info['max-deleted-entry-id']), last and last[1] or ''}
for _, list in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = pairs_of(list)
  if group['name'] == ARGV[1] then
    local position = group['last-delivered-id']
    -- After the largest id there is nothing, and Redis refuses to look there.
    local at_end = position == '18446744073709551615-18446744073709551615'
    local following = not at_end and redis.call('XRANGE', KEYS[1], '(' .. position, '+', 'COUNT', 1)[1]
    return {'', stream, {position, known(group['entries-read']), known(group['pending']), known(group['lag']),
      known(group['consumers']), following and following[1] or ''}, marker, incidents, letters}
  end
end
return {'', stream, {}, marker, incidents, letters}
