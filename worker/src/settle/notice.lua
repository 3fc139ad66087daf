-- Add a notice to a board. A board that takes no entries any more is made anew. Attempt and removal are one step: another worker
-- may have made it anew meanwhile, and its notices would go with it.
-- KEYS[1] board  ARGV[1] and on: the arguments of XADD after the key
-- Returns the id of the entry, or the error of XADD.
local added = redis.pcall('XADD', KEYS[1], unpack(ARGV))
local refusal = type(added) == 'table' and added.err or ''
if not (string.find(refusal, 'WRONGTYPE', 1, true) or string.find(refusal, 'exhausted', 1, true)) then return added end
redis.call('DEL', KEYS[1])
return redis.call('XADD', KEYS[1], unpack(ARGV))
