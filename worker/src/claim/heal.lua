-- Remove a work stream's key if it holds anything but a stream: nothing can be read or published until it is gone.
-- KEYS[1] stream  ARGV[1] the type it must have
-- Returns 1 if it was removed, 0 if it is of that type or missing.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == ARGV[1] or kind == 'none' then return 0 end
redis.call('DEL', KEYS[1])
return 1
