-- Removes a group of a channel with all it has, and the channel's stream after its last group.
-- KEYS 1 STREAM of the channel, 2 HASH of its limits, 3 and on: the group's own keys
-- ARGV 1 group
-- Returns 1, or 0 when there was no such group, nor anything of one.
local there = 0
if redis.call('EXISTS', KEYS[1]) == 1 then
  there = redis.call('XGROUP', 'DESTROY', KEYS[1], ARGV[1])
  if #redis.call('XINFO', 'GROUPS', KEYS[1]) == 0 then
    redis.call('DEL', KEYS[1], KEYS[2])
  end
end
for place = 3, #KEYS do
  if redis.call('DEL', KEYS[place]) == 1 then
    there = 1
  end
end
redis.call('HDEL', KEYS[2], 'limit:' .. ARGV[1], 'dropped:' .. ARGV[1], 'keep:' .. ARGV[1])
if redis.call('HEXISTS', KEYS[2], 'check') == 1 then
  redis.call('HSET', KEYS[2], 'check', 0)
end
return there
