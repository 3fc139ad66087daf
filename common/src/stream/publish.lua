-- Publish entries to one work stream, if there is room. The only way an entry gets into a work stream.
-- KEYS[1] stream  KEYS[2] window (entries the stream may hold)
-- ARGV[1] group  ARGV[2] window to assume when KEYS[2] is missing
-- ARGV[3] number of parcels, then for each parcel: its number, its count of entries, and each entry's packed jobs
-- Returns {parcels accepted, entries in the stream}. Parcels are accepted whole and in order; one that finds the stream
-- full is refused, and so are those behind it. A parcel may overshoot the window by its own entries.
-- The group is made first, at id 0, so that no entry can ever lie before the group's start.
local window = tonumber(redis.call('GET', KEYS[2])) or tonumber(ARGV[2])
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
end
local length = redis.call('XLEN', KEYS[1])
local accepted = 0
local at = 4
for _ = 1, tonumber(ARGV[3]) do
  if length >= window then break end
  local parcel, entries = ARGV[at], tonumber(ARGV[at + 1])
  for i = 1, entries do
    redis.call('XADD', KEYS[1], '*', 'p', parcel, 'j', ARGV[at + 1 + i])
  end
  length = length + entries
  accepted = accepted + 1
  at = at + 2 + entries
end
return {accepted, length}
