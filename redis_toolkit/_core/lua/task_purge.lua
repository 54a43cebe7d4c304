-- Removes tasks that no worker has: what is due later, and what waits in one stream, or was given back there.
-- KEYS 1 ZSET of what is due later, 2 HASH of its bodies, 3 the STREAM
-- ARGV 1 group, 2 how many at most, 3 text that is in the body of a task with a lock
-- Returns {how many were removed, bodies that have the text}.
--
-- What a worker has given back before its first delivery counted is claimed still, and delivered 0 times.
local removed, marked, most = 0, {}, tonumber(ARGV[2])
local function look(body)
  if body and body:find(ARGV[3], 1, true) then
    marked[#marked + 1] = body
  end
end
local ids = redis.call('ZRANGE', KEYS[1], 0, most - 1)
if #ids > 0 then
  for _, value in ipairs(redis.call('HMGET', KEYS[2], unpack(ids))) do
    look(value and value:match('^%S+ %d+ (.*)$'))
  end
  redis.call('ZREM', KEYS[1], unpack(ids))
  redis.call('HDEL', KEYS[2], unpack(ids))
  removed = #ids
end
if removed < most and redis.call('EXISTS', KEYS[3]) == 1 then
  local from, given = '-', {}
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[3])) do
    local info = {}
    for place = 1, #flat, 2 do
      info[flat[place]] = flat[place + 1]
    end
    if info.name == ARGV[1] then
      from = '(' .. info['last-delivered-id']
      local claimed = math.min(info.pending, 10000)
      for _, row in ipairs(claimed > 0 and redis.call('XPENDING', KEYS[3], ARGV[1], '-', '+', claimed) or {}) do
        if row[4] == 0 and #given < most - removed then
          given[#given + 1] = row[1]
        end
      end
    end
  end
  local entries = {}
  local function take(found)
    for _, entry in ipairs(found) do
      entries[#entries + 1] = entry[1]
      for field = 1, #entry[2], 2 do
        if entry[2][field] == 'b' then
          look(entry[2][field + 1])
        end
      end
    end
  end
  for _, entry in ipairs(given) do
    take(redis.call('XRANGE', KEYS[3], entry, entry))
  end
  if #given > 0 then
    redis.call('XACK', KEYS[3], ARGV[1], unpack(given))
  end
  if removed + #entries < most then
    take(redis.call('XRANGE', KEYS[3], from, '+', 'COUNT', most - removed - #entries))
  end
  if #entries > 0 then
    redis.call('XDEL', KEYS[3], unpack(entries))
    removed = removed + #entries
  end
end
return {removed, marked}
