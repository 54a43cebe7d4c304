-- Sends a message from one user of a room to another: to the logs and the channels of these two only.
-- KEYS 1 STREAM, the log of the room, 2 STREAM of who gets it, 3 STREAM of who sends it,
--   4 (optional) STRING of the id that its sender chose
-- ARGV 1 channel of who gets it, 2 channel of who sends it, 3 body without id, 4 entries kept,
--   5 ms for which they are kept or 0, 6 ttl ms of the sender's id
-- Returns the entry; that of the first one, when its sender has sent it before.
--
-- Its id is taken from the log of the room, so that ids tell the order of all that a member hears.
local before = KEYS[4] and redis.call('GET', KEYS[4])
if before then
  return before
end
redis.call('XLEN', KEYS[2])
redis.call('XLEN', KEYS[3])
local id = redis.call('XADD', KEYS[1], '*', 'b', '')
redis.call('XDEL', KEYS[1], id)
if ARGV[5] ~= '0' then
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
end
local seconds, ms = id:match('^(%d-)(%d%d%d)%-')
local body = '{"id":"' .. id .. '","timestamp":' .. seconds .. '.' .. ms .. ',' .. ARGV[3]:sub(2)
local time = redis.call('TIME')
for place = 2, KEYS[2] == KEYS[3] and 2 or 3 do
  redis.call('XADD', KEYS[place], 'MAXLEN', ARGV[4], id, 'b', ARGV[3])
  if ARGV[5] == '0' then
    redis.call('PERSIST', KEYS[place])
  else
    redis.call('XTRIM', KEYS[place], 'MINID', string.format('%.0f', time[1] * 1000 - ARGV[5]))
    redis.call('PEXPIRE', KEYS[place], ARGV[5])
  end
  local said = redis.pcall('PUBLISH', ARGV[place - 1], body)
  if type(said) == 'table' and said.err then
    redis.call('XDEL', KEYS[place], id)
    return said
  end
end
if KEYS[4] then
  redis.call('SET', KEYS[4], id, 'PX', ARGV[6])
end
return id
