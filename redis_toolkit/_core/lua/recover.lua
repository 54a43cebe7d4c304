-- Claims what was claimed a lease ago and never ended: its consumer is dead, or lost the reply.
-- KEYS 1 the STREAM
-- ARGV 1 group, 2 consumer, 3 lease in ms, 4 how many at most
-- Returns {how many had left the stream and were dropped, {entry id, fields, deliveries}, ...}.
--
-- By XPENDING and XCLAIM: XAUTOCLAIM tells no deliveries, and does with deleted entries what the version of
-- the server wants. An entry that was deleted can be handled by nobody, so it is acknowledged. Where there is
-- no group there is nothing to recover: the next claim makes it, or says so.
local group, me = ARGV[1], ARGV[2]
local taken, dropped = {0}, {}
local idle = redis.pcall('XPENDING', KEYS[1], group, 'IDLE', ARGV[3], '-', '+', ARGV[4])
if idle.err then
  return idle.err:find('NOGROUP', 1, true) and taken or idle
end
for _, row in ipairs(idle) do
  local entry = row[1]
  if #redis.call('XRANGE', KEYS[1], entry, entry) == 0 then
    dropped[#dropped + 1] = entry
  else
    local found = redis.call('XCLAIM', KEYS[1], group, me, ARGV[3], entry)[1]
    if found then
      taken[#taken + 1] = {entry, found[2], row[4] + 1}
    end
  end
end
if #dropped > 0 then
  taken[1] = redis.call('XACK', KEYS[1], group, unpack(dropped))
end
return taken
