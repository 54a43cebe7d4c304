-- Says that a process serves a channel no more.
-- KEYS 1 ZSET of live servers, 2 LIST of waiting requests
-- ARGV 1 member: the process
-- Returns how many requests wait.
--
-- What may be refused and changes nothing comes first.
local waiting = redis.call('LLEN', KEYS[2])
redis.call('ZREM', KEYS[1], ARGV[1])
return waiting
