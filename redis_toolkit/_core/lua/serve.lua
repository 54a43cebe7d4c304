-- Says that a process serves a channel, for one lease from now.
-- KEYS 1 ZSET of live servers (or of live globs)
-- ARGV 1 member: the process (or the glob), 2 lease in ms
-- Returns the server's clock in ms.
--
-- What is allowed when memory is full comes first, and so does PEXPIRE: what may not be given a TTL is
-- not written. It comes again at the end, as the sweep may have removed the last member and so the key.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local keep = string.format('%.0f', 2 * ARGV[2])
redis.call('PEXPIRE', KEYS[1], keep)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
redis.call('PEXPIRE', KEYS[1], keep)
return string.format('%.0f', now)
