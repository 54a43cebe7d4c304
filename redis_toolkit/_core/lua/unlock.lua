-- Frees locks whose tasks will not run.
-- KEYS 1 and on: STRINGs, the locks
-- ARGV 1 and on: for each the id of the task
-- Returns how many were freed; a lock that another task holds stays.
local freed = 0
for place, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[place] then
    freed = freed + redis.call('DEL', key)
  end
end
return freed
