-- Do with a stream of the probe's own whatever the work does with streams, and tell what is refused.
-- KEYS[1] stream of the probe  KEYS[2] the window of its queue  the others: keys that the work uses. They are only named: before a script runs,
-- the server asks for the right to each of its keys. With one key alone nothing else is done.
-- ARGV[1] group  ARGV[2] consumer
-- Returns a list without end marks: the command that was refused, what the server said, and so on; empty if all of it was done.
-- One step for everybody else: probes of several processes do not meet, and nothing is left of one whose process dies.
if #KEYS == 1 then return {} end
local stream, window, group, consumer = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local refused = {}
local function try(name, ...)
  local answer = redis.pcall(...)
  if type(answer) == 'table' and answer.err then
    refused[#refused + 1] = name
    refused[#refused + 1] = answer.err
    return nil
  end
  return answer
end
try('del', 'DEL', stream)
try('type', 'TYPE', stream)
try('get', 'GET', window)
try('exists', 'EXISTS', stream)
try('xgroup|create', 'XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
try('xlen', 'XLEN', stream)
local id = try('xadd', 'XADD', stream, '*', 'p', '0', 'j', 'probe') or '1-1'
local read = try('xreadgroup', 'XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', stream, '>')
if #refused == 0 and not (read and read[1][2][1][1] == id) then
  refused = {'xreadgroup', 'ERR the entry that was added was not given to its reader'}
end
try('xpending', 'XPENDING', stream, group, '-', '+', 1)
try('xrange', 'XRANGE', stream, '-', '+', 'COUNT', 1)
try('xinfo|stream', 'XINFO', 'STREAM', stream)
try('xinfo|groups', 'XINFO', 'GROUPS', stream)
try('xinfo|consumers', 'XINFO', 'CONSUMERS', stream, group)
try('xack', 'XACK', stream, group, id)
try('xdel', 'XDEL', stream, id)
try('xgroup|setid', 'XGROUP', 'SETID', stream, group, '0')
try('xgroup|delconsumer', 'XGROUP', 'DELCONSUMER', stream, group, consumer)
redis.pcall('DEL', stream)
return refused
