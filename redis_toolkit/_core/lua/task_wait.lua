-- Asks for the end of a task, and waits for it by leaving an address.
-- KEYS 1 HASH of its record, 2 HASH of waiters, 3 (optional) LIST of a sync caller's replies
-- ARGV 1 id, 2 address or '' to ask only, 3 ms that it will wait
-- Returns the record as names and values; while it has no end, what progress says, if anything.
--
-- A reply that is there already is pushed to KEYS[3] too, so that a BLPOP behind this returns at once.
local record = redis.call('HGETALL', KEYS[1])
local state, reply
for place = 1, #record, 2 do
  if record[place] == 'state' then
    state = record[place + 1]
  elseif record[place] == 'reply' then
    reply = record[place + 1]
  end
end
if state and state ~= 'running' then
  if KEYS[3] then
    redis.call('RPUSH', KEYS[3], reply)
    local set = redis.pcall('PEXPIRE', KEYS[3], '60000')
    if type(set) == 'table' then
      redis.call('RPOP', KEYS[3])
      return set
    end
  end
  return record
end
if ARGV[2] ~= '' then
  local known = redis.call('HGET', KEYS[2], ARGV[1])
  if not known then
    redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
  elseif not ('\n' .. known .. '\n'):find('\n' .. ARGV[2] .. '\n', 1, true) then
    redis.call('HSET', KEYS[2], ARGV[1], known .. '\n' .. ARGV[2])
  end
  local keep = ARGV[3] + 60000
  if redis.call('PTTL', KEYS[2]) < keep then
    redis.call('PEXPIRE', KEYS[2], string.format('%.0f', keep))
  end
end
return record
