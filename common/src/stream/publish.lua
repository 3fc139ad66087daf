-- Publish entries to one work stream, if there is room. The only way an entry gets into a work stream.
-- KEYS[1] stream  KEYS[2] window (entries the stream may hold)
-- ARGV[1] group  ARGV[2] window to assume when KEYS[2] is missing
-- ARGV[3] number of parcels, then for each parcel: its number, its count of entries, and each entry's packed jobs
-- Returns {parcels accepted, entries in the stream, 2 if the stream was made anew because its ids were used up, else 0}. Parcels are
-- accepted whole and in order; one that finds the stream full is refused, and so are those behind it. A parcel may overshoot the window by
-- its own entries.
-- The group is made first, at id 0, so that no entry can ever lie before the group's start.
local window = tonumber(redis.call('GET', KEYS[2])) or tonumber(ARGV[2])
-- The parcels from the first one on; the error of an entry that is refused.
local function publish()
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
      local added = redis.pcall('XADD', KEYS[1], '*', 'p', parcel, 'j', ARGV[at + 1 + i])
      if type(added) == 'table' then return added end
    end
    length = length + entries
    accepted = accepted + 1
    at = at + 2 + entries
  end
  return nil, accepted, length
end
local refused, accepted, length = publish()
local mended = 0
if refused and string.find(refused.err, 'exhausted', 1, true) then
  -- Nothing will ever be added again: away with it. What it held is missed and handed out again, and these go in from the first one on.
  redis.call('DEL', KEYS[1])
  mended = 2
  refused, accepted, length = publish()
end
if refused then return refused end
return {accepted, length, mended}
