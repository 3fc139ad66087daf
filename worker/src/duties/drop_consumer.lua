-- Remove a consumer that has nothing pending. Check and removal are one step: XGROUP DELCONSUMER throws pending entries away.
-- KEYS[1] stream  ARGV[1] group  ARGV[2] consumer
-- Returns 1 if removed, 0 if it has pending entries (or the stream or group is gone).
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2])
if pending.err or #pending > 0 then return 0 end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 1
