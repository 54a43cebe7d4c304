-- Puts dead letters back where they are claimed, as first attempts.
-- KEYS 1 STREAM of dead letters, 2 prefix of the STREAMs, 3 prefix of the records (HASHes)
-- ARGV 1 field that gets the id or '', then 2 and on: entry ids in KEYS[1]
-- Returns {how many were put back, error or ''}.
--
-- Nothing is removed first, which proves that removing is allowed, and lets the rest pass in full memory. What
-- is no dead letter of ours stays where it is.
local revived, trouble = 0, ''
redis.call('XDEL', KEYS[1], '0-0')
for place = 2, #ARGV do
  local found = redis.call('XRANGE', KEYS[1], ARGV[place], ARGV[place])[1]
  local letter = {}
  if found then
    for field = 1, #found[2], 2 do
      letter[found[2][field]] = found[2][field + 1]
    end
  end
  if letter.from and letter.b and letter.id then
    local add = {'XADD', KEYS[2] .. letter.from, '*', 'b', letter.b}
    if ARGV[1] ~= '' then
      add[6], add[7] = ARGV[1], letter.id
    end
    local said = redis.pcall(unpack(add))
    if type(said) == 'table' and said.err then
      trouble = said.err
      break
    end
    redis.call('XDEL', KEYS[1], ARGV[place])
    if KEYS[3] then
      redis.pcall('DEL', KEYS[3] .. letter.id)
    end
    revived = revived + 1
  end
end
return {revived, trouble}
