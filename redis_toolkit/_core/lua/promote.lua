-- Moves what is due to the stream where it is claimed.
-- KEYS 1 ZSET of what is due later, 2 HASH of its bodies, 3 prefix of the STREAMs, 4 the first of them
-- ARGV 1 how many at most, 2 field that gets the id or '', 3 and on: what the STREAMs are called after the prefix
-- Returns {server ms, earliest due ms or '', how many were moved, error or ''}.
--
-- The first writes remove nothing: they prove that removing is allowed, and let the others pass when memory
-- is full. What a stream refuses stays where it is, due one second later, so that it stops nothing else.
-- A body that is not '<stream> <attempt> <body>' is none of ours: it goes to the first STREAM as it is, where
-- whoever claims it makes a dead letter of it. So does one for a STREAM that nobody here knows and nobody else
-- has made, without what is in front: should it be a task, it is run.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREM', KEYS[1], '')
redis.call('HDEL', KEYS[2], '')
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[1])
local gone, moved, trouble, known = {}, 0, '', {}
for place = 3, #ARGV do
  known[ARGV[place]] = true
end
for place, value in ipairs(#ids > 0 and redis.call('HMGET', KEYS[2], unpack(ids)) or {}) do
  local id, said = ids[place], nil
  if value then
    local stream, attempt, body = value:match('^([^ ]+) (%d[^ ]*) (.*)$')
    local fields = {'b', body or value}
    if attempt and attempt ~= '1' then
      fields[3], fields[4] = 'a', attempt
    end
    if ARGV[2] ~= '' then
      fields[#fields + 1] = ARGV[2]
      fields[#fields + 1] = id
    end
    local to = stream and KEYS[3] .. stream
    if not to or not (known[stream] or redis.call('EXISTS', to) == 1) then
      to = KEYS[4]
    end
    said = redis.pcall('XADD', to, '*', unpack(fields))
  end
  if type(said) == 'table' and said.err then
    trouble = said.err
    redis.call('ZADD', KEYS[1], string.format('%.0f', now + 1000), id)
  else
    gone[#gone + 1] = id
    moved = moved + (value and 1 or 0)
  end
end
if #gone > 0 then
  redis.call('ZREM', KEYS[1], unpack(gone))
  redis.call('HDEL', KEYS[2], unpack(gone))
end
local due = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] or ''
return {string.format('%.0f', now), due, moved, trouble}
