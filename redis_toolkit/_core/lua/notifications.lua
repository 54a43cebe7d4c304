-- Reads a user's unread notifications, and what the user has read of the broadcasts.
-- KEYS 1 STREAM of the unread ones, 2 HASH of what was dropped there, 3 HASH of what was read of the broadcasts
-- ARGV 1 the id after which to read, 2 how many at most, 3 for how many ms they are kept
-- Returns {now in ms, 1 if there is a stream, {{id, body}, ...}, how many are unread in all,
--   how many were dropped or '', the last of those or '', what was read (flat)}.
--
-- What has grown too old since the last one came is still there: it is not counted.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local oldest = string.format('%.0f', math.max(now - ARGV[3], 0))
local function id_less(one, other)
  local ms, seq = string.match(one, '^(%d+)-?(%d*)$')
  local other_ms, other_seq = string.match(other, '^(%d+)-?(%d*)$')
  ms, seq, other_ms, other_seq = tonumber(ms), tonumber(seq) or 0, tonumber(other_ms), tonumber(other_seq) or 0
  return ms < other_ms or (ms == other_ms and seq < other_seq)
end
local found = {}
if tonumber(ARGV[2]) > 0 then
  local start = id_less(ARGV[1], oldest) and oldest or '(' .. ARGV[1]
  for _, entry in ipairs(redis.call('XRANGE', KEYS[1], start, '+', 'COUNT', ARGV[2])) do
    found[#found + 1] = {entry[1], entry[2][1] == 'b' and entry[2][2] or ''}
  end
end
local unread = redis.call('XLEN', KEYS[1])
if unread > 0 and oldest ~= '0' then
  unread = unread - #redis.call('XRANGE', KEYS[1], '-', '(' .. oldest .. '-0')
end
local lost = redis.call('HMGET', KEYS[2], 'dropped', 'upto')
return {
  string.format('%.0f', now), redis.call('EXISTS', KEYS[1]), found, unread,
  lost[1] or '', lost[2] or '', redis.call('HGETALL', KEYS[3])
}
