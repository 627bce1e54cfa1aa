-- Record how many clients a node has, and count all of them, by Redis' own clock.
--
-- KEYS: a hash of a node's name to "<clients> <second in which this ends>".
-- ARGV: the node, its clients (-1: it takes none any more), seconds for which this holds.
-- Returns how many nodes there are, and how many clients they have together.
local key, node, clients, seconds = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local now = tonumber(redis.call('TIME')[1])
if redis.call('TYPE', key)['ok'] ~= 'hash' then redis.call('DEL', key) end
if clients < 0 then
  redis.call('HDEL', key, node)
else
  redis.call('HSET', key, node, string.format('%d %d', clients, now + seconds))
  redis.call('EXPIRE', key, seconds)
end
local nodes, total = 0, 0
local found = redis.call('HGETALL', key)
for i = 1, #found, 2 do
  -- One with more clients than this, or that ends later, was written by no node.
  local count, ends = string.match(found[i + 1], '^(%d%d?%d?%d?%d?%d?%d?) (%d+)$')
  if count and tonumber(ends) > now and tonumber(ends) <= now + seconds then
    nodes, total = nodes + 1, total + tonumber(count)
  else
    redis.call('HDEL', key, found[i])
  end
end
return {nodes, total}
