-- KEYS stream
-- ARGV group, consumer
-- Deletes the consumer if it has nothing pending: DELCONSUMER drops pending entries.
-- -> 1 deleted, 0 it has pending entries
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) > 0 then return 0 end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 1
