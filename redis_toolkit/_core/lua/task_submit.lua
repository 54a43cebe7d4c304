-- Submits one task that is more than an entry: later, once, or only while there is room.
-- KEYS 1 STREAM of its priority, 2 ZSET of what is due later, 3 HASH of its bodies, 4 STRING of its dedupe
--   id or the bodies again, 5 STRING of its lock or the bodies again, 6 and on: the STREAMs of all priorities
-- ARGV 1 id, 2 envelope, 3 priority, 4 delay ms or '', 5 server ms when it is due or '', 6 most that may be
--   pending or '', 7 ttl ms of the dedupe id or '', 8 ttl ms of the lock or '', 9 Pub/Sub channel of due times
-- Returns {'ready', entry id}, {'later', due ms}, {'same', what the first submit returned}, {'locked', id of
--   the task that holds the lock} or {'full', how many are pending}.
--
-- The task comes first, as that is what full memory refuses; what cannot be marked is taken back. Only a delay
-- that becomes the earliest is published: it wakes the timers that sleep longer. One that is due before it and
-- has not been moved may be somebody's who did not say so: then it is published too.
local id, once, lock = ARGV[1], ARGV[7] ~= '', ARGV[8] ~= ''
local before = once and redis.call('GET', KEYS[4])
if before then
  return {'same', before}
end
local holder = lock and redis.call('GET', KEYS[5])
if holder then
  return {'locked', holder}
end
if ARGV[6] ~= '' then
  local pending = redis.call('ZCARD', KEYS[2])
  for place = 6, #KEYS do
    pending = pending + redis.call('XLEN', KEYS[place])
  end
  if pending >= tonumber(ARGV[6]) then
    return {'full', pending}
  end
end
local due, now
if ARGV[4] ~= '' or ARGV[5] ~= '' then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
  due = ARGV[5] ~= '' and tonumber(ARGV[5]) or now + ARGV[4]
  due = due > now and string.format('%.0f', due)
end
local entry, undo
if due then
  redis.call('HSET', KEYS[3], id, ARGV[3] .. ' 1 ' .. ARGV[2])
  local said = redis.pcall('ZADD', KEYS[2], due, id)
  if type(said) == 'table' then
    redis.call('HDEL', KEYS[3], id)
    return said
  end
else
  entry = redis.call('XADD', KEYS[1], '*', 'b', ARGV[2])
end
local function mark(key, value, ttl)
  local said = redis.pcall('SET', key, value, 'PX', ttl)
  if said.err then
    undo = said
  end
end
if lock then
  mark(KEYS[5], id, ARGV[8])
end
if once and not undo then
  mark(KEYS[4], due or entry, ARGV[7])
end
if undo then
  if due then
    redis.call('ZREM', KEYS[2], id)
    redis.call('HDEL', KEYS[3], id)
  else
    redis.call('XDEL', KEYS[1], entry)
  end
  if lock then
    redis.pcall('DEL', KEYS[5])
  end
  return undo
end
if due then
  local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
  if first[1] == id or (tonumber(first[2]) or 0) <= now then
    redis.pcall('PUBLISH', ARGV[9], due)
  end
end
return {due and 'later' or 'ready', due or entry}
