-- Counts what a queue holds, all at one moment.
-- KEYS 1 ZSET of what is due later, 2 STREAM of dead letters, 3 HASH of counters, 4 STRING while paused,
--   5 and on: the STREAMs of its priorities
-- ARGV 1 group
-- Returns {due later, dead letters, paused, counters as names and values, {length, claimed, consumers}, ...}.
--
-- What has ended has left its stream, so a length counts what is ready and what is claimed. What a worker has
-- taken while the queue was paused, and given back, is claimed still, delivered 0 times: it counts as ready.
local found = {
  redis.call('ZCARD', KEYS[1]), redis.call('XLEN', KEYS[2]), redis.call('EXISTS', KEYS[4]),
  redis.call('HGETALL', KEYS[3])
}
for place = 5, #KEYS do
  local length, claimed, consumers = redis.call('XLEN', KEYS[place]), 0, 0
  if redis.call('EXISTS', KEYS[place]) == 1 then
    for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[place])) do
      local info = {}
      for field = 1, #flat, 2 do
        info[flat[field]] = flat[field + 1]
      end
      if info.name == ARGV[1] then
        claimed, consumers = info.pending, info.consumers
        local most = found[3] == 1 and math.min(claimed, 1000) or 0
        for _, row in ipairs(most > 0 and redis.call('XPENDING', KEYS[place], ARGV[1], '-', '+', most) or {}) do
          claimed = claimed - (row[4] == 0 and 1 or 0)
        end
      end
    end
  end
  found[#found + 1] = {length, claimed, consumers}
end
return found
