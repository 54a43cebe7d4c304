-- Takes out of a room whose time has run out, and announces that they are lost: once, whoever does it.
-- KEYS 1 STREAM, the log of the room, 2 ZSET of user by expiry, 3 prefix of the HASHes of the users
-- ARGV 1 channel of the room, 2 entries kept, 3 ms for which they are kept or 0, 4 ms that must have passed
--   since, 5 how many at most
-- Returns how many.
--
-- ZREM, which frees memory, comes first: a script that has begun to write may go on when memory is full.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local until_ms = string.format('%.0f', now - ARGV[4])
local lost = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', until_ms, 'LIMIT', 0, ARGV[5])
for _, user in ipairs(lost) do
  redis.call('ZREM', KEYS[2], user)
  redis.call('DEL', KEYS[3] .. user)
  local body = '{"type":"leave","user":' .. cjson.encode(user) .. ',"text":"","reason":"lost"}'
  local entry = redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[2], '*', 'b', body)
  local seconds, ms = entry:match('^(%d-)(%d%d%d)%-')
  local head = '{"id":"' .. entry .. '","timestamp":' .. seconds .. '.' .. ms .. ','
  redis.pcall('PUBLISH', ARGV[1], head .. body:sub(2))
  if ARGV[3] ~= '0' then
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
  end
end
return #lost
