-- Says that connections are in a room, for one lease from now; who was not there joins it, and is announced.
-- KEYS 1 STREAM, the log of the room, 2 ZSET of user by expiry, 3 prefix of the HASHes of the users
-- ARGV 1 channel of the room, 2 lease ms, 3 ttl ms of the ZSET, 4 entries kept, 5 ms for which they are kept
--   or 0; then for each connection: user, connection, ms since when or '' for now, metadata
-- Returns {the server's ms, number of users whose time has run out, last id of the log or '', and for each
--   connection the entry that announces it or ''}.
--
-- A user is announced with the first connection only, and is there as long as the one with the longest lease
-- says. PEXPIRE comes first, as it is allowed when memory is full,
-- and a script that has begun to write may go on then: who is there stays there.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local expiry = string.format('%.0f', now + ARGV[2])
local announced = {}
redis.call('PEXPIRE', KEYS[2], ARGV[3])
for place = 6, #ARGV, 4 do
  local user, key, entry = ARGV[place], KEYS[3] .. ARGV[place], ''
  redis.call('PEXPIRE', key, string.format('%.0f', 2 * ARGV[2]))
  redis.call('HLEN', key)
  local before = redis.call('ZSCORE', KEYS[2], user)
  if not before then
    local body = '{"type":"join","user":' .. cjson.encode(user) .. ',"text":""}'
    entry = redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[4], '*', 'b', body)
    local seconds, ms = entry:match('^(%d-)(%d%d%d)%-')
    local head = '{"id":"' .. entry .. '","timestamp":' .. seconds .. '.' .. ms .. ','
    local said = redis.pcall('PUBLISH', ARGV[1], head .. body:sub(2))
    if type(said) == 'table' then
      redis.call('XDEL', KEYS[1], entry)
      return said
    end
    if ARGV[5] ~= '0' then
      redis.call('PEXPIRE', KEYS[1], ARGV[5])
    end
  end
  local since = ARGV[place + 2] == '' and string.format('%.0f', now) or ARGV[place + 2]
  redis.call('HSET', key, ARGV[place + 1], expiry .. ' ' .. since .. ' ' .. ARGV[place + 3])
  local latest = tonumber(expiry)
  if before and tonumber(before) > latest then
    for _, value in ipairs(redis.call('HVALS', key)) do
      latest = math.max(latest, tonumber(value:match('^%d+')) or 0)
    end
  end
  redis.call('PEXPIRE', key, string.format('%.0f', latest - now + ARGV[2]))
  redis.call('ZADD', KEYS[2], string.format('%.0f', latest), user)
  announced[#announced + 1] = entry
end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
local last = ''
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for place = 1, #info, 2 do
    if info[place] == 'last-generated-id' then
      last = info[place + 1]
    end
  end
end
local lapsed = redis.call('ZCOUNT', KEYS[2], '-inf', string.format('%.0f', now))
return {string.format('%.0f', now), lapsed, last, unpack(announced)}
