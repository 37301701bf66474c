-- The leases of one slot, as the node that calls holds them, live on: those that
-- have expired meanwhile, or that this server has lost, come back.
-- KEYS: the slot. ARGV: life in microseconds, then the members.
local server = redis.call('TIME')
local life = tonumber(ARGV[1])
local dies = string.format('%.0f', server[1] * 1000000 + server[2] + life)
for i = 2, #ARGV do
  redis.call('ZADD', KEYS[1], dies, ARGV[i])
end
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', life / 1000 + 1000))
return #ARGV - 1
