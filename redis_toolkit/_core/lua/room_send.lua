-- Sends a message to a room: appends it to the log, and publishes it with its id.
-- KEYS 1 STREAM, the log of the room, 2 (optional) STRING of the id that its sender chose
-- ARGV 1 channel of the room, 2 body without id, 3 entries kept, 4 ms for which they are kept or 0,
--   5 ttl ms of the sender's id
-- Returns the entry; that of the first one, when its sender has sent it before.
--
-- The timestamp is that of the entry, so that who reads the log sees the same. What cannot be published is
-- taken back.
local before = KEYS[2] and redis.call('GET', KEYS[2])
if before then
  return before
end
local id = redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[3], '*', 'b', ARGV[2])
local said = KEYS[2] and redis.pcall('SET', KEYS[2], id, 'PX', ARGV[5])
if not said or said.ok then
  local seconds, ms = id:match('^(%d-)(%d%d%d)%-')
  local head = '{"id":"' .. id .. '","timestamp":' .. seconds .. '.' .. ms .. ','
  said = redis.pcall('PUBLISH', ARGV[1], head .. ARGV[2]:sub(2))
end
if type(said) == 'table' and said.err then
  redis.call('XDEL', KEYS[1], id)
  if KEYS[2] then
    redis.pcall('DEL', KEYS[2])
  end
  return said
end
if ARGV[4] == '0' then
  redis.call('PERSIST', KEYS[1])
else
  local time = redis.call('TIME')
  redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f', time[1] * 1000 - ARGV[4]))
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return id
