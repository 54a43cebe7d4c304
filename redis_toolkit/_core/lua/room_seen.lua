-- Says that rooms have members.
-- KEYS 1 ZSET of room by the server's ms when that was said last
-- ARGV 1 ms after which a room is forgotten; then the names of the rooms
-- Returns the server's ms.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - ARGV[1]))
for place = 2, #ARGV do
  redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[place])
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return string.format('%.0f', now)
