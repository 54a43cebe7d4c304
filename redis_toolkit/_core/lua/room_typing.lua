-- Says something in a room that is not kept, with the server's time.
-- KEYS 1 the log of the room, which is not touched: a script runs where its keys are
-- ARGV 1 channel of the room, 2 body
-- Returns nothing.
local time = redis.call('TIME')
local head = '{"id":null,"timestamp":' .. time[1] .. string.format('.%03d', math.floor(time[2] / 1000)) .. ','
redis.call('PUBLISH', ARGV[1], head .. ARGV[2]:sub(2))
