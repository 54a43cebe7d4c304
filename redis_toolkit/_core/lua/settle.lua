-- Ends, or puts off, a batch of what one consumer has claimed from one stream.
-- KEYS 1 the STREAM, 2 ZSET of what is due later, 3 HASH of its bodies, 4 STREAM of dead letters,
--   5 HASH of counters, 6 HASH of waiters, 7 ZSET of cancelled ids, 8 prefix of the records (HASHes),
--   9 prefix of the locks (STRINGs)
-- ARGV 1 group, 2 consumer, 3 the stream's name after its prefix, 4 '1' if what ends leaves the stream,
--   5 Pub/Sub channel of due times, 6 number of entries, then for each: 7 entry id, deliveries, outcome;
--   unless that is ok: id, attempt, unique key or '', and by outcome
--   done, failed, cancelled, expired: ttl ms of the record, type, reply
--   dead: ttl ms of the record, type, reply, reason, error, traceback
--   later: delay ms, before the attempt that is given
-- Returns {{place in the batch, why it did not count, ...}, {id, addresses that wait for it, ...}}.
--
-- What is ok is done, and nobody asks for it: there is no record, no waiter and no lock. A ttl of 0 keeps no record; -1 also removes what progress has left of one. 'lost' is why when the entry
-- is this consumer's no more, or was delivered again since; else it is the text of an error, and the entry
-- stays claimed. XACK ignores who owns an entry, so each is looked up first, most of them by one XPENDING or two:
-- what has ended in its order are the first that this consumer has from the first entry on.
--
-- When memory is full, a write that needs more is refused only as the first write of a script. So the first
-- ones remove nothing, which also proves that removing is allowed; then comes what is kept, then the removal.
local stream, group, me, leaves, count = KEYS[1], ARGV[1], ARGV[2], ARGV[4] == '1', tonumber(ARGV[6])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local stamp = string.format('%.0f', now)
redis.call('XACK', stream, group, '0-0')
if leaves then
  redis.call('XDEL', stream, '0-0')
end

local owned, from, pages = {}, ARGV[7], count > 2 and 2 or 0
local function deliveries(entry)
  while not owned[entry] and pages > 0 do
    pages = pages - 1
    local rows = redis.call('XPENDING', stream, group, from, '+', count, me)
    for _, row in ipairs(rows) do
      owned[row[1]] = row[4]
    end
    if #rows < count then
      pages = 0
    else
      from = '(' .. rows[count][1]
    end
  end
  if not owned[entry] then
    local row = redis.call('XPENDING', stream, group, entry, entry, 1, me)[1]
    owned[entry] = row and row[4] or -1
  end
  return owned[entry]
end

local function failure(...)
  local said = redis.pcall(...)
  return type(said) == 'table' and said.err
end
local function body(entry)
  local found = redis.call('XRANGE', stream, entry, entry)[1]
  for place = 1, found and #found[2] or 0, 2 do
    if found[2][place] == 'b' then
      return found[2][place + 1]
    end
  end
  -- not one of ours: all that it has
  return found and table.concat(found[2], ' ')
end
local function record(id, state, ttl, attempt, delivered, task, reply)
  if ttl == '0' then
    return
  end
  local key = KEYS[8] .. id
  if ttl == '-1' then
    return failure('DEL', key)
  end
  local why = failure('HSET', key, 'state', state, 'reply', reply, 'finished', stamp, 'type', task,
    'attempt', attempt, 'deliveries', delivered, 'worker', me)
  if why then
    return why
  end
  why = failure('PEXPIRE', key, ttl)
  if why then
    redis.pcall('DEL', key)
  end
  return why
end

local lacks, gone, ended, totals, first = {}, {}, {}, {}, nil
local waited = redis.call('EXISTS', KEYS[6]) == 1
local stopped = redis.call('EXISTS', KEYS[7]) == 1
local at = 7
for place = 1, count do
  local entry, delivered, outcome, id, attempt = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local lock, more, why = ARGV[at + 5], at + 6, nil
  if deliveries(entry) ~= tonumber(delivered) then
    why = 'lost'
    at = outcome == 'ok' and at + 3 or more + (outcome == 'later' and 1 or outcome == 'dead' and 6 or 3)
  elseif outcome == 'ok' then
    at = at + 3
  elseif outcome == 'later' then
    at = more + 1
    local kept = body(entry)
    local due = now + ARGV[more]
    why = kept and (failure('HSET', KEYS[3], id, ARGV[3] .. ' ' .. attempt .. ' ' .. kept)
      or failure('ZADD', KEYS[2], string.format('%.0f', due), id))
    if not why and kept and (not first or due < first) then
      first = due
    end
  elseif outcome == 'dead' then
    at = more + 6
    why = failure('XADD', KEYS[4], '*', 'b', body(entry) or '', 'id', id, 'type', ARGV[more + 1], 'from', ARGV[3],
      'reason', ARGV[more + 3], 'error', ARGV[more + 4], 'traceback', ARGV[more + 5], 'attempt', attempt,
      'deliveries', delivered, 'at', stamp)
    if not why then
      record(id, 'failed', ARGV[more], attempt, delivered, ARGV[more + 1], ARGV[more + 2])
    end
  else
    at = more + 3
    why = record(id, outcome, ARGV[more], attempt, delivered, ARGV[more + 1], ARGV[more + 2])
  end
  if why then
    lacks[#lacks + 1] = place
    lacks[#lacks + 1] = why
  else
    gone[#gone + 1] = entry
    owned[entry] = -1
    totals[outcome] = (totals[outcome] or 0) + 1
    if outcome ~= 'ok' and outcome ~= 'later' then
      if waited or stopped then
        ended[#ended + 1] = id
      end
      if lock ~= '' and redis.pcall('GET', KEYS[9] .. lock) == id then
        redis.pcall('DEL', KEYS[9] .. lock)
      end
    end
  end
end

if #gone > 0 then
  redis.call('XACK', stream, group, unpack(gone))
  if leaves then
    redis.call('XDEL', stream, unpack(gone))
  end
end
for outcome, number in pairs(totals) do
  redis.pcall('HINCRBY', KEYS[5], outcome == 'ok' and 'done' or outcome, number)
end
local waiters = {}
if waited and #ended > 0 then
  for place, addresses in ipairs(redis.pcall('HMGET', KEYS[6], unpack(ended))) do
    if addresses then
      waiters[#waiters + 1] = ended[place]
      waiters[#waiters + 1] = addresses
      redis.pcall('HDEL', KEYS[6], ended[place])
    end
  end
end
if stopped and #ended > 0 then
  redis.pcall('ZREM', KEYS[7], unpack(ended))
end
if first then
  local earliest = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
  if earliest == string.format('%.0f', first) or (tonumber(earliest) or 0) <= now then
    redis.pcall('PUBLISH', ARGV[5], string.format('%.0f', first))
  end
end
return {lacks, waiters}
