-- Reads what a member of a room has not seen: of the log, and of what was sent to this user directly.
-- KEYS 1 STREAM, the log of the room, 2 STREAM of the user
-- ARGV 1 id after which, 2 how many of each
-- Returns {first id of the log or '', last id that it has ever had or '', entries, entries of the user}.
local first, last = '', ''
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for place = 1, #info, 2 do
    if info[place] == 'last-generated-id' then
      last = info[place + 1]
    elseif info[place] == 'first-entry' and info[place + 1] then
      first = info[place + 1][1]
    end
  end
end
local after = '(' .. ARGV[1]
return {
  first,
  last,
  redis.call('XRANGE', KEYS[1], after, '+', 'COUNT', ARGV[2]),
  redis.call('XRANGE', KEYS[2], after, '+', 'COUNT', ARGV[2])
}
