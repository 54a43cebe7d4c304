-- Removes a consumer that stops, from one stream, unless it holds something there.
-- KEYS 1 the STREAM
-- ARGV 1 group, 2 consumer
-- Returns 1 if it was removed.
--
-- What it has given back is pending under its name until others take it: then CLEAN removes it.
local held = redis.pcall('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2])
if held.err then
  return held.err:find('NOGROUP', 1, true) and 0 or held
end
if #held > 0 then
  return 0
end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 1
