-- Cancels a task: at once if it is due later or its entry is known and free, else when a worker hears of it.
-- KEYS 1 ZSET of what is due later, 2 HASH of its bodies, 3 HASH of its record, 4 ZSET of cancelled ids,
--   5 HASH of waiters, 6 HASH of counters, 7 (optional) STREAM that has its entry
-- ARGV 1 id, 2 reply that says so, 3 ttl ms of the record, 4 ms to remember it, 5 Pub/Sub channel of control,
--   6 group and 7 entry id for KEYS[7]
-- Returns {'cancelled', addresses that wait or '', its body}, {'ended', state} or {'asked'}.
local state = redis.call('HGET', KEYS[3], 'state')
if state and state ~= 'running' then
  return {'ended', state}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local body
if redis.call('ZREM', KEYS[1], ARGV[1]) == 1 then
  body = redis.call('HGET', KEYS[2], ARGV[1]) or ''
  body = body:match('^%S+ %d+ (.*)$') or body
  redis.call('HDEL', KEYS[2], ARGV[1])
elseif KEYS[7] then
  local entry = redis.call('XRANGE', KEYS[7], ARGV[7], ARGV[7])[1]
  local rows = entry and redis.pcall('XPENDING', KEYS[7], ARGV[6], ARGV[7], ARGV[7], 1)
  if rows and rows.err and not rows.err:find('NOGROUP', 1, true) then
    return rows
  end
  -- what a worker has given back is claimed still, and delivered 0 times
  if rows and (rows.err or #rows == 0 or rows[1][4] == 0) then
    redis.call('XDEL', KEYS[7], ARGV[7])
    if not rows.err then
      redis.call('XACK', KEYS[7], ARGV[6], ARGV[7])
    end
    body = entry[2][2]
  end
end
if body then
  if ARGV[3] ~= '0' then
    redis.call('HSET', KEYS[3], 'state', 'cancelled', 'reply', ARGV[2], 'finished', string.format('%.0f', now))
    redis.call('PEXPIRE', KEYS[3], ARGV[3])
  end
  local waiting = redis.call('HGET', KEYS[5], ARGV[1]) or ''
  redis.call('HDEL', KEYS[5], ARGV[1])
  redis.pcall('HINCRBY', KEYS[6], 'cancelled', 1)
  return {'cancelled', waiting, body}
end
redis.call('ZADD', KEYS[4], string.format('%.0f', now + ARGV[4]), ARGV[1])
redis.call('PUBLISH', ARGV[5], 'cancel ' .. ARGV[1])
return {'asked'}
