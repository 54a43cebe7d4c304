-- Claims what was claimed a lease ago and never ended: its consumer is dead, or lost the reply.
-- KEYS 1 the STREAM
-- ARGV 1 group, 2 consumer, 3 lease in ms, 4 how many at most, 5 (optional) which delivery, and later ones,
--   is left alone, 6 '1' if one of those is taken
-- Returns {how many had left the stream and were dropped, how many were left alone, {entry id, fields,
--   deliveries}, ...}.
--
-- By XPENDING and XCLAIM: XAUTOCLAIM tells no deliveries, and does with deleted entries what the version of
-- the server wants. An entry that was deleted can be handled by nobody, so it is acknowledged. Where there is
-- no group there is nothing to recover: the next claim makes it, or says so. What is left alone hides nothing
-- behind it, up to some five thousand entries, which takes a few ms.
local group, me, most = ARGV[1], ARGV[2], tonumber(ARGV[4])
local often, allowed = tonumber(ARGV[5]) or math.huge, ARGV[6] == '1'
local taken = {0, 0}
local from, count = '-', math.min(math.max(most, 100), 500)
for _ = 1, 10 do
  local dropped = {}
  local idle = redis.pcall('XPENDING', KEYS[1], group, 'IDLE', ARGV[3], from, '+', count)
  if idle.err then
    return idle.err:find('NOGROUP', 1, true) and taken or idle
  end
  for _, row in ipairs(idle) do
    local entry, suspect = row[1], row[4] + 1 >= often
    from = '(' .. entry
    if #taken - 2 >= most then
      break
    end
    if suspect and not allowed then
      taken[2] = taken[2] + 1
    elseif #redis.call('XRANGE', KEYS[1], entry, entry) == 0 then
      dropped[#dropped + 1] = entry
    else
      local found = redis.call('XCLAIM', KEYS[1], group, me, ARGV[3], entry)[1]
      if found then
        taken[#taken + 1] = {entry, found[2], row[4] + 1}
        allowed = allowed and not suspect
      end
    end
  end
  if #dropped > 0 then
    taken[1] = taken[1] + redis.call('XACK', KEYS[1], group, unpack(dropped))
  end
  if #idle < count or #taken - 2 >= most then
    break
  end
  count = 500
end
return taken
