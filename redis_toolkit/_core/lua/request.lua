-- Sends one request, unless nobody serves the channel.
-- KEYS 1 LIST of waiting requests, 2 ZSET of live servers, 3 (optional) LIST of the caller's replies
-- ARGV 1 Pub/Sub channel of the servers, 2 timeout in ms, 3 envelope, 4 marker for KEYS[3]
-- Returns 1 when sent, 0 when refused; then the marker is in KEYS[3], so that a BLPOP on it returns.
--
-- The ZSET alone lies after a pause or a flush of the server; subscribers alone lie while a server
-- reconnects. Only when both are empty is nobody there.
--
-- What an ACL refuses is not half done: a list is pushed to only if it may be given its TTL, and if the
-- caller may wait for the reply. acl_check_cmd tells beforehand; Redis 6.2 has none, so the push is taken
-- back there. PEXPIRE cannot come first: after a write, want of memory would no longer refuse the push.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local list, body, keep, answer = KEYS[1], ARGV[3], ARGV[2] + 60000, 1
if redis.call('ZCOUNT', KEYS[2], string.format('(%.0f', now), '+inf') == 0
  and redis.call('PUBSUB', 'NUMSUB', ARGV[1])[2] == 0 then
  if not KEYS[3] then
    return 0
  end
  list, body, keep, answer = KEYS[3], ARGV[4], 60000, 0
else
  body = string.format('%.0f ', now + ARGV[2]) .. body
end
local may = redis.acl_check_cmd
if may and KEYS[3] and not may('BLPOP', KEYS[3], 1) then
  return redis.error_reply("NOPERM no permissions to run the 'blpop' command on '" .. KEYS[3] .. "'")
end
if redis.call('PTTL', list) >= keep then
  redis.call('RPUSH', list, body)
  return answer
end
if may and not may('PEXPIRE', list, 1) then
  return redis.error_reply("NOPERM no permissions to run the 'pexpire' command on '" .. list .. "'")
end
redis.call('RPUSH', list, body)
local set = redis.pcall('PEXPIRE', list, string.format('%.0f', keep))
if type(set) == 'table' then
  redis.call('RPOP', list)
  return set
end
return answer
