-- Publishes one event to all who listen now, and appends it for the groups of its channel, if there are any.
-- KEYS 1 STREAM of the channel, 2 HASH of its limits, 3 (optional) STRING of its dedupe id
-- ARGV 1 channel, 2 body, 3 ttl ms of the dedupe id
-- Returns {live receivers, entry id or ''}; receivers is -1 for an event that was published before, and -2
--   when nothing was done, as the limits have to be looked at first (trim).
--
-- 'check' is the number of entries ever appended at which a group may be full: until then, no limit costs
-- more than a counter. The counter comes first, as that is what full memory refuses. What cannot be
-- published is taken back.
local before = KEYS[3] and redis.call('GET', KEYS[3])
if before then
  return {-1, before}
end
local entry = ''
if redis.call('EXISTS', KEYS[1]) == 1 then
  local limits = redis.call('HMGET', KEYS[2], 'check', 'appended')
  if limits[1] then
    if tonumber(limits[2] or 0) >= tonumber(limits[1]) then
      return {-2, ''}
    end
    redis.call('HINCRBY', KEYS[2], 'appended', 1)
  end
  entry = redis.call('XADD', KEYS[1], '*', 'b', ARGV[2])
end
local said = KEYS[3] and redis.pcall('SET', KEYS[3], entry, 'PX', ARGV[3])
if not said or said.ok then
  said = redis.pcall('PUBLISH', ARGV[1], ARGV[2])
  if type(said) == 'number' then
    return {said, entry}
  end
  if KEYS[3] then
    redis.pcall('DEL', KEYS[3])
  end
end
if entry ~= '' then
  redis.call('XDEL', KEYS[1], entry)
end
return said
