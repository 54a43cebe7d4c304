-- Waits for the end of a task, by leaving an address, unless it has ended.
-- KEYS 1 HASH of its record, 2 HASH of waiters; (both or none) 3 ZSET of what is due later, 4 STREAM that had
--   its entry; and as the last (optional) LIST of the caller's replies
-- ARGV 1 id, 2 address, 3 ms that the caller waits, 4 marker for the LIST, 5 entry id in KEYS[4]
-- Returns 1 when the end will come to the address, 0 when the task has ended, or its entry is gone: then the
--   marker is in the LIST, so that a BLPOP on it returns.
local list = #KEYS % 2 == 1 and KEYS[#KEYS]
local state = redis.call('HGET', KEYS[1], 'state')
if not state and KEYS[4] and not redis.call('XRANGE', KEYS[4], ARGV[5], ARGV[5])[1]
  and not redis.call('ZSCORE', KEYS[3], ARGV[1]) then
  state = 'gone'
end
if state and state ~= 'running' then
  if list then
    redis.call('RPUSH', list, ARGV[4])
    local set = redis.pcall('PEXPIRE', list, '60000')
    if type(set) == 'table' then
      redis.call('RPOP', list)
      return set
    end
  end
  return 0
end
local known = redis.call('HGET', KEYS[2], ARGV[1])
if not known then
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
elseif not ('\n' .. known .. '\n'):find('\n' .. ARGV[2] .. '\n', 1, true) then
  redis.call('HSET', KEYS[2], ARGV[1], known .. '\n' .. ARGV[2])
end
local keep = ARGV[3] + 60000
if redis.call('PTTL', KEYS[2]) < keep then
  local set = redis.pcall('PEXPIRE', KEYS[2], string.format('%.0f', keep))
  if type(set) == 'table' then
    redis.call('HDEL', KEYS[2], ARGV[1])
    return set
  end
end
return 1
