-- Lists the globs that answer requests now.
-- KEYS 1 ZSET of glob by expiry
-- Returns the globs whose lease has not run out.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%.0f', now), '+inf')
