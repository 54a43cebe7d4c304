-- Says how far a running task has come, if it is still run by who says so.
-- KEYS 1 the STREAM, 2 HASH of its record
-- ARGV 1 group, 2 consumer, 3 entry id, 4 deliveries, 5 what to say, 6 ms to keep it
-- Returns 1, or 0 when the task is not this consumer's any more.
local row = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2])[1]
if not row or row[4] ~= tonumber(ARGV[4]) then
  return 0
end
redis.call('HSET', KEYS[2], 'state', 'running', 'progress', ARGV[5], 'worker', ARGV[2], 'deliveries', ARGV[4])
local set = redis.pcall('PEXPIRE', KEYS[2], ARGV[6])
if type(set) == 'table' then
  redis.call('DEL', KEYS[2])
  return set
end
return 1
