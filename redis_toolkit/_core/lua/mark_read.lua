-- Marks notifications as read, for all devices of a user, and tells those.
-- KEYS 1 STREAM of the user's unread notifications, 2 HASH of what was read of the broadcasts
-- ARGV 1 the user's channel of events, 2 what is said there, 3 for how many ms broadcasts are kept,
--   4 the id of the broadcast up to which all are read, or '', 5 the id below which all notifications of the user
--   are read, or '', 6 how many ids of notifications follow, then those, then ids of broadcasts
-- Returns how many notifications of the user became read.
--
-- Deleting comes first, as full memory allows that. The position among the broadcasts only grows, whichever
-- device comes last; ids of single ones stand beside it until it has passed them.
local function numbers(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms) or 0, tonumber(seq) or 0
end
local function passed(id, upto)
  local ms, seq = numbers(id)
  local upto_ms, upto_seq = numbers(upto)
  return ms < upto_ms or (ms == upto_ms and seq <= upto_seq)
end
local before = redis.call('HGET', KEYS[2], 'upto') or '0-0'
local gone, single = 0, tonumber(ARGV[6])
if ARGV[5] ~= '' then
  gone = redis.call('XTRIM', KEYS[1], 'MINID', ARGV[5])
end
for place = 7, 6 + single do
  gone = gone + redis.call('XDEL', KEYS[1], ARGV[place])
end
local upto = ARGV[4]
if upto == '' or passed(upto, before) then
  upto = before
else
  redis.call('HSET', KEYS[2], 'upto', upto)
end
for place = 7 + single, #ARGV do
  if not passed(ARGV[place], upto) then
    redis.call('HSET', KEYS[2], ARGV[place], 1)
  end
end
for _, id in ipairs(redis.call('HKEYS', KEYS[2])) do
  if id ~= 'upto' and passed(id, upto) then
    redis.call('HDEL', KEYS[2], id)
  end
end
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[3]) then
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
redis.call('PUBLISH', ARGV[1], ARGV[2])
return gone
