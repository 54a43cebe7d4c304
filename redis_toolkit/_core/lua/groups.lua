-- Tells of each group of a channel how far it is behind.
-- KEYS 1 STREAM of the channel, 2 HASH of its limits
-- ARGV 1 up to which number entries are counted where the server does not know how many there are
-- Returns {length of the stream, {group, not yet claimed, claimed, consumers, id it stands at, id of the
--   oldest entry that it has not finished or '', limit or '', dropped}, ...}.
local found = {redis.call('XLEN', KEYS[1])}
if redis.call('EXISTS', KEYS[1]) == 0 then
  return found
end
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local info = {}
  for field = 1, #flat, 2 do
    info[flat[field]] = flat[field + 1]
  end
  local last, behind, oldest = info['last-delivered-id'], info.lag, ''
  if type(behind) ~= 'number' then
    behind = #redis.call('XRANGE', KEYS[1], '(' .. last, '+', 'COUNT', ARGV[1])
  end
  if info.pending > 0 then
    oldest = redis.call('XPENDING', KEYS[1], info.name, '-', '+', 1)[1][1]
  elseif behind > 0 then
    local first = redis.call('XRANGE', KEYS[1], '(' .. last, '+', 'COUNT', 1)[1]
    oldest = first and first[1] or ''
  end
  local said = redis.call('HMGET', KEYS[2], 'limit:' .. info.name, 'dropped:' .. info.name)
  found[#found + 1] = {info.name, behind, info.pending, info.consumers, last, oldest, said[1] or '', said[2] or '0'}
end
return found
