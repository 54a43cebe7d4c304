-- Reads the broadcasts that one user has not read.
-- KEYS 1 STREAM of the broadcasts, 2 HASH of what was dropped there
-- ARGV 1 the id after which to read, 2 how many at most, 3 1 to count those that follow as well,
--   4... ids that the user has read
-- Returns {1 if there is a stream, {{id, body}, ...}, how many are unread after that id,
--   the id up to which all are read, the last id, how many were dropped or '', the last of those or '',
--   those of the ids that there are}.
--
-- They are looked at a hundred at a time: the bodies of all of them may be more than fits into memory twice.
local read = {}
for place = 4, #ARGV do
  read[ARGV[place]] = true
end
local limit, all, found, unread, known = tonumber(ARGV[2]), ARGV[3] == '1', {}, 0, {}
local last, upto = ARGV[1], ARGV[1]
while all or #found < limit do
  local some = redis.call('XRANGE', KEYS[1], '(' .. last, '+', 'COUNT', 100)
  for _, entry in ipairs(some) do
    last = entry[1]
    if not read[last] then
      unread = unread + 1
      if #found < limit then
        found[#found + 1] = {last, entry[2][1] == 'b' and entry[2][2] or ''}
      end
    else
      known[#known + 1] = last
      if unread == 0 then
        upto = last
      end
    end
  end
  if #some < 100 then
    break
  end
end
local lost = redis.call('HMGET', KEYS[2], 'dropped', 'upto')
return {redis.call('EXISTS', KEYS[1]), found, unread, upto, last, lost[1] or '', lost[2] or '', known}
