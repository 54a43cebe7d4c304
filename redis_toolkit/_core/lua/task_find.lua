-- Says where a task is, and what is known of it.
-- KEYS 1 HASH of its record, 2 ZSET of what is due later, 3 and on: the STREAMs of the queue
-- ARGV 1 id, 2 group, 3 which of the STREAMs has its entry (from 1) or '', 4 entry id, 5 most entries to look
--   at in each STREAM, 6 most bytes of them
-- Returns {where, fields and values of its record}; where is 'ended', 'later', 'running', 'ready', 'nowhere', or
--   'unseen' when it is not among the entries that were looked at and there are more.
--
-- Entries have no id but in their bodies. Those that are claimed are the oldest, and seen first. A body
-- that only mentions the id is taken for the task: better too late to say that there is none than too early.
local record = redis.call('HGETALL', KEYS[1])
for place = 1, #record, 2 do
  if record[place] == 'state' and record[place + 1] ~= 'running' then
    return {'ended', record}
  end
end
if redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  return {'later', record}
end
local function held(stream, entry)
  local rows = redis.pcall('XPENDING', stream, ARGV[2], entry, entry, 1)
  if rows.err and not rows.err:find('NOGROUP', 1, true) then
    error(rows.err, 0)
  end
  -- what a worker has given back is claimed still, and delivered 0 times
  return (rows.err or #rows == 0 or rows[1][4] == 0) and 'ready' or 'running'
end
if ARGV[3] ~= '' then
  local stream = KEYS[2 + ARGV[3]]
  if redis.call('XRANGE', stream, ARGV[4], ARGV[4])[1] then
    return {held(stream, ARGV[4]), record}
  end
end
local where, bytes = 'nowhere', 0
for place = 3, #KEYS do
  local from, left, entries = '-', tonumber(ARGV[5]), nil
  repeat
    entries = redis.call('XRANGE', KEYS[place], from, '+', 'COUNT', 16)
    for _, entry in ipairs(entries) do
      for field = 1, #entry[2], 2 do
        local value = entry[2][field + 1]
        bytes = bytes + #value
        if entry[2][field] == 'b' and value:find(ARGV[1], 1, true) then
          return {held(KEYS[place], entry[1]), record}
        end
      end
      from = '(' .. entry[1]
    end
    left = left - #entries
  until #entries == 0 or left <= 0 or bytes > tonumber(ARGV[6])
  if #entries > 0 then
    where = 'unseen'
  end
end
return {where, record}
