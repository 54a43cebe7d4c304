-- Renews the lease of what one consumer runs from one stream.
-- KEYS 1 the STREAM, 2 ZSET of cancelled ids
-- ARGV 1 group, 2 consumer, then for each: 3 entry id, deliveries, id
-- Returns {server ms, lost entry ids, cancelled ids}.
--
-- An entry that another consumer holds, or that was delivered again, is not taken back. XCLAIM with JUSTID
-- counts no delivery, and sets the idle time to 0.
local group, me = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local count = (#ARGV - 2) / 3
local owned, mine, lost, ids, cancelled = {}, {}, {}, {}, {}
if count > 2 then
  for _, row in ipairs(redis.call('XPENDING', KEYS[1], group, ARGV[3], '+', 2 * count, me)) do
    owned[row[1]] = row[4]
  end
end
for at = 3, #ARGV, 3 do
  local entry = ARGV[at]
  if not owned[entry] then
    local row = redis.call('XPENDING', KEYS[1], group, entry, entry, 1, me)[1]
    owned[entry] = row and row[4]
  end
  if owned[entry] == tonumber(ARGV[at + 1]) then
    mine[#mine + 1] = entry
    ids[#ids + 1] = ARGV[at + 2]
  else
    lost[#lost + 1] = entry
  end
end
if #mine > 0 then
  local claim = {'XCLAIM', KEYS[1], group, me, 0}
  for place, entry in ipairs(mine) do
    claim[5 + place] = entry
  end
  claim[#claim + 1] = 'JUSTID'
  redis.call(unpack(claim))
  if redis.call('EXISTS', KEYS[2]) == 1 then
    for place, score in ipairs(redis.call('ZMSCORE', KEYS[2], unpack(ids))) do
      if score then
        cancelled[#cancelled + 1] = ids[place]
      end
    end
  end
end
return {string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), lost, cancelled}
