-- Moves what is due to the stream where it is claimed.
-- KEYS 1 ZSET of what is due later, 2 HASH of its bodies, 3 prefix of the STREAMs, 4 STREAM for what names none
-- ARGV 1 how many at most, 2 field that gets the id or ''
-- Returns {server ms, earliest due ms or '', how many were moved, error or ''}.
--
-- The first writes remove nothing: they prove that removing is allowed, and let the others pass when memory
-- is full. A body that is none of ours goes to the last stream as it is: whoever claims it buries it. What
-- a stream refuses stays where it is, due one second later, so that it stops nothing else.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREM', KEYS[1], '')
redis.call('HDEL', KEYS[2], '')
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[1])
local gone, moved, trouble = {}, 0, ''
for place, value in ipairs(#ids > 0 and redis.call('HMGET', KEYS[2], unpack(ids)) or {}) do
  local id, said = ids[place], nil
  if value then
    local one = value:find(' ', 1, true)
    local two = one and value:find(' ', one + 1, true)
    local stream = two and KEYS[3] .. value:sub(1, one - 1) or KEYS[4]
    local fields = {'b', two and value:sub(two + 1) or value}
    local attempt = two and value:sub(one + 1, two - 1) or '1'
    if attempt ~= '1' then
      fields[3], fields[4] = 'a', attempt
    end
    if ARGV[2] ~= '' then
      fields[#fields + 1] = ARGV[2]
      fields[#fields + 1] = id
    end
    said = redis.pcall('XADD', stream, '*', unpack(fields))
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
