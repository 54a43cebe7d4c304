-- Takes connections out of a room; a user is gone with the last one, and that is announced.
-- KEYS 1 STREAM, the log of the room, 2 ZSET of user by expiry, 3 prefix of the HASHes of the users
-- ARGV 1 channel of the room, 2 entries kept, 3 ms for which they are kept or 0; then for each connection:
--   user, connection
-- Returns how many users are gone.
--
-- HDEL, which frees memory, comes first: a script that has begun to write may go on when memory is full.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local gone = 0
for place = 4, #ARGV, 2 do
  local user, key = ARGV[place], KEYS[3] .. ARGV[place]
  local latest = 0
  redis.call('HDEL', key, ARGV[place + 1])
  for _, value in ipairs(redis.call('HVALS', key)) do
    latest = math.max(latest, tonumber(value:match('^%d+')) or 0)
  end
  if latest > now then
    redis.call('ZADD', KEYS[2], string.format('%.0f', latest), user)
  else
    redis.call('DEL', key)
    if redis.call('ZREM', KEYS[2], user) == 1 then
      gone = gone + 1
      local body = '{"type":"leave","user":' .. cjson.encode(user) .. ',"text":""}'
      local entry = redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[2], '*', 'b', body)
      local seconds, ms = entry:match('^(%d-)(%d%d%d)%-')
      local head = '{"id":"' .. entry .. '","timestamp":' .. seconds .. '.' .. ms .. ','
      redis.pcall('PUBLISH', ARGV[1], head .. body:sub(2))
      if ARGV[3] ~= '0' then
        redis.call('PEXPIRE', KEYS[1], ARGV[3])
      end
    end
  end
end
return gone
