-- KEYS stream
-- ARGV group, position planned, number of pending entries planned, 'DESTROY' or 'SETID', new position,
--      new entries-read ('' leaves it to Redis)
-- Deletes the group or sets its position, only if its position and number of pending entries are as planned.
-- -> 1 done, 0 the group changed, -1 there is no such group
-- include: pairs_of
local group
for _, list in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local found = pairs_of(list)
  if found['name'] == ARGV[1] then group = found end
end
if not group then return -1 end
if group['last-delivered-id'] ~= ARGV[2] or tonumber(group['pending']) ~= tonumber(ARGV[3]) then return 0 end
if ARGV[4] == 'DESTROY' then
  redis.call('XGROUP', 'DESTROY', KEYS[1], ARGV[1])
elseif ARGV[6] == '' then
  redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], ARGV[5])
else
  redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], ARGV[5], 'ENTRIESREAD', ARGV[6])
end
return 1
