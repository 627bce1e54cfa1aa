-- Claims, renews or releases leases of users on connections, by Redis' own clock.
--
-- KEYS: one sorted set for each lease (member: the lease, score: when it ends, in seconds).
-- ARGV: what ('claim', 'renew' or 'release'), most leases of a user, lease_seconds, then for each key its lease.
-- Returns for each key of a claim 1, or 0 when it was refused; an empty list for 'renew' and 'release'.
local what, most, seconds = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local now = tonumber(redis.call('TIME')[1])
local results = {}
for i, key in ipairs(KEYS) do
  local lease = ARGV[3 + i]
  results[i] = 1
  if redis.call('TYPE', key)['ok'] ~= 'zset' then redis.call('DEL', key) end
  if what == 'release' then
    redis.call('ZREM', key, lease)
  else
    if what == 'claim' then
      redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
      -- No lease ends so late. Another program wrote such an entry, and it would lock the user out.
      redis.call('ZREMRANGEBYSCORE', key, '(' .. now + seconds, '+inf')
      if redis.call('ZCARD', key) >= most then results[i] = 0 end
    end
    if results[i] == 1 then
      redis.call('ZADD', key, now + seconds, lease)
      redis.call('EXPIRE', key, seconds)
    end
  end
end
return what == 'claim' and results or {}
