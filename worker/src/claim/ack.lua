-- Acknowledge and delete entries in one go: an entry acknowledged but not deleted would take up the window for ever.
-- KEYS[1] stream  ARGV[1] group  ARGV[2...] entry ids, at most 500
-- Returns the number of entries deleted. Neither command needs memory, so this also works when Redis is full (MULTI does not).
redis.call('XACK', KEYS[1], unpack(ARGV))
return redis.call('XDEL', KEYS[1], unpack(ARGV, 2))
