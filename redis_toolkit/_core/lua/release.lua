-- Gives back what one consumer has claimed and does not run, so that no delivery is counted.
-- KEYS 1 the STREAM
-- ARGV 1 group, 2 consumer, 3 lease in ms, 4 Pub/Sub channel of control, then for each: 5 entry id, deliveries
-- Returns how many were given back.
--
-- They stay claimed by this consumer, as idle as if the lease had run out: whoever recovers next has them.
local group, me, given = ARGV[1], ARGV[2], 0
for at = 5, #ARGV, 2 do
  local entry, delivered = ARGV[at], tonumber(ARGV[at + 1])
  local row = redis.call('XPENDING', KEYS[1], group, entry, entry, 1, me)[1]
  if row and row[4] == delivered then
    redis.call('XCLAIM', KEYS[1], group, me, 0, entry, 'IDLE', ARGV[3] + 1, 'RETRYCOUNT', delivered - 1, 'JUSTID')
    given = given + 1
  end
end
if given > 0 and ARGV[4] ~= '' then
  redis.pcall('PUBLISH', ARGV[4], 'released')
end
return given
