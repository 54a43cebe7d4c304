-- Makes a group of a channel, unless it is there, and sets its limits.
-- KEYS 1 STREAM of the channel, 2 HASH of its limits, 3 STREAM of what the group takes again
-- ARGV 1 group, 2 id after which it begins ('0' all, '$' new ones only), 3 '1' if that is where it was: then
--   it begins with all there is if the stream has not come so far, as that is a new stream, 4 limit of its
--   backlog or '', 5 'refuse' or 'drop' when that is reached, 6 ms for which entries are kept that all groups
--   have finished
-- Returns {1 if it was made, the id it stands at}.
local function find()
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local info = {}
    for field = 1, #flat, 2 do
      info[flat[field]] = flat[field + 1]
    end
    if info.name == ARGV[1] then
      return info['last-delivered-id']
    end
  end
end
local function behind(last)
  local ms, sequence = ARGV[2]:match('^(%d+)-(%d+)$')
  local last_ms, last_sequence = last:match('^(%d+)-(%d+)$')
  ms, last_ms = tonumber(ms or 0), tonumber(last_ms)
  return last_ms < ms or (last_ms == ms and tonumber(last_sequence) < tonumber(sequence or 0))
end
local there = redis.call('EXISTS', KEYS[1]) == 1
local at = there and find()
local made = 0
if not at then
  local from = ARGV[2]
  if ARGV[3] == '1' then
    local last = '0-0'
    local info = there and redis.call('XINFO', 'STREAM', KEYS[1]) or {}
    for field = 1, #info, 2 do
      if info[field] == 'last-generated-id' then
        last = info[field + 1]
      end
    end
    if behind(last) then
      from = '0'
    end
  end
  redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], from, 'MKSTREAM')
  made, at = 1, find()
end
local again = redis.pcall('XGROUP', 'CREATE', KEYS[3], ARGV[1], '0', 'MKSTREAM')
if again.err and not again.err:find('BUSYGROUP', 1, true) then
  return again
end
local limit = ARGV[4] ~= '' and ARGV[4] .. ' ' .. ARGV[5]
if redis.call('HGET', KEYS[2], 'limit:' .. ARGV[1]) ~= limit then
  if limit then
    redis.call('HSET', KEYS[2], 'limit:' .. ARGV[1], limit)
  else
    redis.call('HDEL', KEYS[2], 'limit:' .. ARGV[1])
  end
  redis.call('HSET', KEYS[2], 'check', 0)
end
if (redis.call('HGET', KEYS[2], 'keep:' .. ARGV[1]) or '0') ~= ARGV[6] then
  redis.call('HSET', KEYS[2], 'keep:' .. ARGV[1], ARGV[6])
end
return {made, at}
