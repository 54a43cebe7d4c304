-- Keeps one notification as unread, and publishes it to those who listen now.
-- KEYS 1 STREAM of the user's unread ones, or of the broadcasts, 2 HASH of what was dropped there,
--   3 (optional) STRING of its dedupe id
-- ARGV 1 channel, 2 body, a JSON object, 3 what stands before its id, 4 1 to add the server's time,
--   5 the channel of all notifications, 6 the user as JSON, 7 how many are kept, 8 for how many ms,
--   9 ttl ms of the dedupe id
-- Returns {1, entry id}; {0, the first one's entry id} when it was sent before.
--
-- The id exists only here, so the text that is published is made here. XADD comes first, as that is what full
-- memory refuses; what cannot be published is taken back; the oldest make room last.
local before = KEYS[3] and redis.call('GET', KEYS[3])
redis.call('HGET', KEYS[2], 'dropped')
if before then
  return {0, before}
end
local entry = redis.call('XADD', KEYS[1], '*', 'b', ARGV[2])
local ms = string.match(entry, '^%d+')
local text = '{"id":"' .. ARGV[3] .. entry .. '"'
if ARGV[4] == '1' then
  local padded = string.rep('0', 4 - #ms) .. ms
  text = text .. ',"timestamp":' .. string.sub(padded, 1, -4) .. '.' .. string.sub(padded, -3)
end
local rest = string.sub(ARGV[2], 2)
text = text .. (rest == '}' and rest or ',' .. rest)
local said = redis.pcall('PEXPIRE', KEYS[1], ARGV[8])
if type(said) == 'number' and KEYS[3] then
  said = redis.pcall('SET', KEYS[3], entry, 'PX', ARGV[9])
  said = said.ok and 1 or said
end
if type(said) == 'number' then
  said = redis.pcall('PUBLISH', ARGV[5], '{"user_id":' .. ARGV[6] .. ',"notification":' .. text .. '}')
end
if type(said) == 'number' then
  said = redis.pcall('PUBLISH', ARGV[1], text)
end
if type(said) ~= 'number' then
  redis.pcall('XDEL', KEYS[1], entry)
  if KEYS[3] then
    redis.pcall('DEL', KEYS[3])
  end
  return said
end
local oldest, upto = math.max(ms - ARGV[8], 0), nil
if oldest > 0 then
  local old = redis.call('XREVRANGE', KEYS[1], string.format('(%.0f-0', oldest), '-', 'COUNT', 1)
  upto = old[1] and old[1][1]
  if upto then
    redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f', oldest))
  end
end
local over = redis.call('XLEN', KEYS[1]) - ARGV[7]
if over > 0 then
  local gone = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', over)
  upto = gone[#gone][1]
  redis.call('XTRIM', KEYS[1], 'MAXLEN', ARGV[7])
  redis.call('HINCRBY', KEYS[2], 'dropped', over)
end
if upto then
  redis.call('HSET', KEYS[2], 'upto', upto)
  redis.call('PEXPIRE', KEYS[2], ARGV[8])
end
return {1, entry}
