-- Sends one request, unless nobody serves the channel.
-- KEYS 1 LIST of waiting requests, 2 ZSET of live servers, 3 (optional) LIST of the caller's replies
-- ARGV 1 Pub/Sub channel of the servers, 2 timeout in ms, 3 envelope, 4 marker for KEYS[3]
-- Returns 1 when sent, 0 when refused; then the marker is in KEYS[3], so that a BLPOP on it returns.
--
-- The ZSET alone lies after a pause or a flush of the server; subscribers alone lie while a server
-- reconnects. Only when both are empty is nobody there.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('ZCOUNT', KEYS[2], string.format('(%.0f', now), '+inf') == 0
  and redis.call('PUBSUB', 'NUMSUB', ARGV[1])[2] == 0 then
  if KEYS[3] then
    redis.call('RPUSH', KEYS[3], ARGV[4])
    redis.call('PEXPIRE', KEYS[3], 60000)
  end
  return 0
end
redis.call('RPUSH', KEYS[1], string.format('%.0f ', now + ARGV[2]) .. ARGV[3])
local keep = ARGV[2] + 60000
if redis.call('PTTL', KEYS[1]) < keep then
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', keep))
end
return 1
