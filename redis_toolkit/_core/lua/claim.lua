-- Takes what is ready from the streams of one source, in their order, without waiting.
-- KEYS 1 ZSET of what is due later, 2 STRING while paused, 3 ZSET of cancelled ids, 4 and on: STREAMs
-- ARGV 1 group, 2 consumer, 3 how many at most, 4 how many of the first streams may be made with their group
-- Returns {server ms, earliest due ms or '', paused, ids cancelled last, groups made, error or '', items}
--   ids: at most 100; items: {index of the stream from 1, {{entry id, fields}, ...}} for each stream that had some.
--
-- What a stream has delivered is in nobody's hands but this reply's, so no later failure may lose it: an
-- error after the first stream comes as text, beside what was taken. COUNT 0 would mean all there is.
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local due = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] or ''
local group, me, free = ARGV[1], ARGV[2], tonumber(ARGV[3])
local paused, cancelled, made, items = 0, {}, 0, {}
if redis.call('EXISTS', KEYS[2], KEYS[3]) > 0 then
  paused = redis.call('EXISTS', KEYS[2])
  cancelled = redis.pcall('ZREVRANGE', KEYS[3], 0, 99)
  if cancelled.err then
    cancelled = {}
  end
end
if paused == 1 then
  return {now, due, 1, cancelled, 0, '', items}
end
for place = 4, #KEYS do
  if free < 1 then
    break
  end
  local key = KEYS[place]
  local read = redis.pcall('XREADGROUP', 'GROUP', group, me, 'COUNT', free, 'STREAMS', key, '>')
  if read and read.err and read.err:find('NOGROUP', 1, true) and place < 4 + ARGV[4] then
    read = redis.pcall('XGROUP', 'CREATE', key, group, '0', 'MKSTREAM')
    if not read.err then
      made = made + 1
      read = redis.pcall('XREADGROUP', 'GROUP', group, me, 'COUNT', free, 'STREAMS', key, '>')
    end
  end
  if read and read.err then
    if #items == 0 then
      return read
    end
    return {now, due, 0, cancelled, made, read.err, items}
  end
  if read then
    local taken = read[1][2]
    free = free - #taken
    items[#items + 1] = {place - 3, taken}
  end
end
return {now, due, 0, cancelled, made, '', items}
