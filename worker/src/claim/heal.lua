-- Make a work stream usable: a stream with its group, that takes entries and gives them to readers. Without any it is made.
-- KEYS[1] stream  ARGV[1] group
-- Returns {1 if the group is there, what was mended}: 0 nothing, 1 the key held something else, 2 its ids were used up, 3 the group was ahead
-- of all that will be added. A full Redis makes no group, and moves one.
local key, group = KEYS[1], ARGV[1]

local function field(record, name)
  for i = 1, #record, 2 do
    if record[i] == name then return record[i + 1] end
  end
end

-- Whether one id is behind another. As text: a number of Lua holds no 64 bits.
local function is_ahead(a, b)
  local a_ms, a_nth = string.match(a, '^(%d+)%-(%d+)$')
  local b_ms, b_nth = string.match(b, '^(%d+)%-(%d+)$')
  if #a_ms ~= #b_ms then return #a_ms > #b_ms end
  if a_ms ~= b_ms then return a_ms > b_ms end
  if #a_nth ~= #b_nth then return #a_nth > #b_nth end
  return a_nth > b_nth
end

local mended, last, read_to = 0, nil, nil
local kind = redis.call('TYPE', key).ok
if kind == 'stream' then
  last = field(redis.call('XINFO', 'STREAM', key), 'last-generated-id')
  if last == '18446744073709551615-18446744073709551615' then
    mended = 2
  else
    for _, record in ipairs(redis.call('XINFO', 'GROUPS', key)) do
      if field(record, 'name') == group then read_to = field(record, 'last-delivered-id') end
    end
  end
elseif kind ~= 'none' then
  mended = 1
end
if mended > 0 then redis.call('DEL', key) end
if not read_to then
  -- At 0, never at $, so that entries which were added before the group are seen.
  local made = redis.pcall('XGROUP', 'CREATE', key, group, '0', 'MKSTREAM')
  if made.err and string.find(made.err, '^OOM') then return {0, mended} end
  if made.err then return made end
elseif is_ahead(read_to, last) then
  redis.call('XGROUP', 'SETID', key, group, last)
  mended = 3
end
return {1, mended}
