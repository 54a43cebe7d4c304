-- Removes what dead workers have left in one stream, and puts back what nobody would ever claim.
-- KEYS 1 the STREAM, 2 ZSET of cancelled ids
-- ARGV 1 group, 2 idle ms after which a consumer with nothing pending goes, 3 '1' if what ends leaves the
--   stream, 4 how many orphans to look for at most
-- Returns {consumers removed, orphans put back}.
--
-- An orphan was delivered, has not left the stream and is pending for nobody: somebody else has deleted its
-- consumer. It is added again, then deleted. In a stream that keeps what ended they cannot be told apart.
local group, removed, put = ARGV[1], 0, 0
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now))
local function fields(flat)
  local found = {}
  for place = 1, #flat, 2 do
    found[flat[place]] = flat[place + 1]
  end
  return found
end
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], group)
if consumers.err then
  if redis.call('EXISTS', KEYS[1]) == 0 or consumers.err:find('NOGROUP', 1, true) then
    return {0, 0}
  end
  return consumers
end
for _, flat in ipairs(consumers) do
  local consumer = fields(flat)
  if consumer.pending == 0 and consumer.idle >= tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], group, consumer.name)
    removed = removed + 1
  end
end
if ARGV[3] == '1' then
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local info = fields(flat)
    if info.name == group then
      local most = info.pending + ARGV[4]
      local seen = redis.call('XRANGE', KEYS[1], '-', info['last-delivered-id'], 'COUNT', most)
      if #seen > info.pending then
        local held = {}
        for _, row in ipairs(redis.call('XPENDING', KEYS[1], group, '-', '+', most)) do
          held[row[1]] = true
        end
        for _, entry in ipairs(seen) do
          if not held[entry[1]] then
            redis.call('XDEL', KEYS[1], '0-0')
            redis.call('XADD', KEYS[1], '*', unpack(entry[2]))
            redis.call('XDEL', KEYS[1], entry[1])
            put = put + 1
          end
        end
      end
    end
  end
end
return {removed, put}
