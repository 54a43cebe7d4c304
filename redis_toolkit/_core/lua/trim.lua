-- Removes what every group has finished, and finds out how much more the limits let in.
-- KEYS 1 STREAM of the channel, 2 HASH of its limits
-- ARGV 1 how many at most may be dropped of a group at once
-- Returns {entries removed, entries dropped, name of a full group or '', its backlog, its limit}.
--
-- An entry is finished when its group has been given it and has it no more pending; what a group has put off
-- is kept by the group. The stream ends before the oldest entry that some group has not finished, or that is
-- younger than the longest 'keep:<group>' (ms). A group
-- has a field 'limit:<group>' of '<backlog> refuse' or '<backlog> drop'; when it drops, its position is moved
-- over its oldest entries, which 'dropped:<group>' counts. Redis 6.2 does not tell how far a group is
-- behind, and later ones not always: then it is counted, up to the limit.
local function parts(id)
  local ms, sequence = id:match('^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(sequence), ms, sequence
end
local function before(one, other)
  local ms, sequence = parts(one)
  local other_ms, other_sequence = parts(other)
  return ms < other_ms or (ms == other_ms and sequence < other_sequence)
end
local function after(id)
  local _, sequence, ms, text = parts(id)
  if sequence >= 9007199254740991 then
    return id
  end
  return ms .. '-' .. string.format('%.0f', sequence + 1)
end
if redis.call('EXISTS', KEYS[1]) == 0 then
  return {0, 0, '', 0, 0}
end
local groups, oldest, keep = {}, nil, 0
for place, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local info = {}
  for field = 1, #flat, 2 do
    info[flat[field]] = flat[field + 1]
  end
  groups[place] = info
  keep = math.max(keep, tonumber(redis.call('HGET', KEYS[2], 'keep:' .. info.name) or 0))
  local first = after(info['last-delivered-id'])
  if info.pending > 0 then
    first = redis.call('XPENDING', KEYS[1], info.name, '-', '+', 1)[1][1]
  end
  if not oldest or before(first, oldest) then
    oldest = first
  end
end
if oldest and keep > 0 then
  local time = redis.call('TIME')
  local since = string.format('%.0f-0', math.max(time[1] * 1000 + math.floor(time[2] / 1000) - keep, 0))
  if before(since, oldest) then
    oldest = since
  end
end
local removed = oldest and redis.call('XTRIM', KEYS[1], 'MINID', '=', oldest) or 0

local room, dropped, full, backlog, limit = nil, 0, '', 0, 0
for _, info in ipairs(groups) do
  local said = redis.call('HGET', KEYS[2], 'limit:' .. info.name)
  if said then
    local most, overflow = said:match('^(%d+) (%a+)$')
    most = tonumber(most)
    local last, behind = info['last-delivered-id'], info.lag
    if type(behind) ~= 'number' then
      behind = #redis.call('XRANGE', KEYS[1], '(' .. last, '+', 'COUNT', most + 1)
    end
    local left = most - behind - info.pending
    if left < 1 and overflow == 'drop' and behind > 0 then
      local number = math.min(math.max(1 - left, math.floor(most / 10)), tonumber(ARGV[1]), behind)
      local over = redis.call('XRANGE', KEYS[1], '(' .. last, '+', 'COUNT', number)
      if #over > 0 then
        local set = {'XGROUP', 'SETID', KEYS[1], info.name, over[#over][1]}
        if type(info['entries-read']) == 'number' then
          set[6], set[7] = 'ENTRIESREAD', info['entries-read'] + #over
        end
        redis.call(unpack(set))
        redis.call('HINCRBY', KEYS[2], 'dropped:' .. info.name, #over)
        dropped = dropped + #over
        left = left + #over
      end
    end
    if left < 1 then
      full, backlog, limit = info.name, most - left, most
    end
    room = math.min(room or left, left)
  end
end
if room then
  local appended = redis.call('HGET', KEYS[2], 'appended') or 0
  redis.call('HSET', KEYS[2], 'check', string.format('%.0f', appended + math.max(room, 0)))
else
  redis.call('HDEL', KEYS[2], 'check', 'appended')
end
return {removed, dropped, full, backlog, limit}
