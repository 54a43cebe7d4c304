-- Tells callers that the replies to their requests do not fit into the server's memory.
-- KEYS 1 LIST of the caller's replies
-- ARGV 1 its TTL in ms, 2... envelopes, a few bytes each
-- Returns how many were pushed.
--
-- A script that has written may go on writing when memory is full. PEXPIRE is always allowed and counts as
-- a write also when there is no such key yet.
redis.call('PEXPIRE', KEYS[1], ARGV[1])
for place = 2, #ARGV do
  redis.call('RPUSH', KEYS[1], ARGV[place])
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return #ARGV - 1
