-- KEYS stream, dead, dead ids
-- ARGV group, id, first id, consumer, reason, detail, at
-- Writes the dead letter of an entry that was acknowledged without one, only while it is not pending.
-- -> 1 the letter exists, 0 the entry is pending, -1 it is no longer on the stream
local group, id, deliveries = ARGV[1], ARGV[2], '0'
if #redis.call('XPENDING', KEYS[1], group, id, id, 1) > 0 then return 0 end
local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
if not entry then return -1 end
-- include: write_letter
return 1
