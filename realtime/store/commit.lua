-- Store newer snapshots of many accounts, and the edge that each took, by compare-and-set on (epoch, revision).
--
-- KEYS: for account i, KEYS[2i-1] its snapshot (hash) and KEYS[2i] its edges (list, oldest first).
-- ARGV: snapshot_ttl_seconds, edge_count, edge_bytes, edge_seconds, now_seconds,
--       then for account i: epoch, revision, as_of, owner, state, base (or ''), patch.
-- Returns for each account 1 (stored), 0 (not newer) or -1 (of an older epoch).
local ttl, most, most_bytes, oldest = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[5]) - tonumber(ARGV[4])
local results = {}

-- An edge is 'base revision seconds patch'; the first three are needed without decoding the patch. State and patch
-- come with their owner in front, which only readers look at.
local function trim(snapshot, edges)
  local bytes = tonumber(redis.call('HGET', snapshot, 'edge_bytes') or '0')
  local count = redis.call('LLEN', edges)
  while count > 0 do
    local first = redis.call('LINDEX', edges, 0)
    local seconds = tonumber(string.match(first, '^%S+ %S+ (%S+)')) or 0
    if count <= most and bytes <= most_bytes and seconds >= oldest then break end
    redis.call('LPOP', edges)
    bytes, count = bytes - #first, count - 1
  end
  redis.call('HSET', snapshot, 'edge_bytes', math.max(bytes, 0))
end

for i = 1, #KEYS / 2 do
  local snapshot, edges, a = KEYS[2 * i - 1], KEYS[2 * i], 5 + (i - 1) * 7
  local epoch, revision, as_of, owner, state, base, patch =
    ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4], ARGV[a + 5], ARGV[a + 6], ARGV[a + 7]
  -- A value of another type (somebody else's, or poison) is no snapshot: start over.
  if redis.call('TYPE', snapshot)['ok'] ~= 'hash' then redis.call('DEL', snapshot, edges) end
  if redis.call('TYPE', edges)['ok'] ~= 'list' then redis.call('DEL', edges) end
  local held = redis.call('HMGET', snapshot, 'epoch', 'revision')
  local held_epoch, held_revision = tonumber(held[1] or '') or -1, tonumber(held[2] or '') or -1
  if tonumber(epoch) < held_epoch then
    results[i] = -1
  elseif tonumber(epoch) == held_epoch and tonumber(revision) < held_revision then
    results[i] = 0
  else
    -- History does not reach across an epoch.
    if tonumber(epoch) > held_epoch then
      redis.call('DEL', edges)
      redis.call('HSET', snapshot, 'edge_bytes', 0)
    end
    if base ~= '' and base ~= revision then
      local edge = base .. ' ' .. revision .. ' ' .. ARGV[5] .. ' ' .. patch
      redis.call('RPUSH', edges, edge)
      redis.call('HINCRBY', snapshot, 'edge_bytes', #edge)
    end
    redis.call('HSET', snapshot, 'epoch', epoch, 'revision', revision, 'as_of', as_of, 'owner', owner, 'state', state)
    trim(snapshot, edges)
    redis.call('EXPIRE', snapshot, ttl)
    redis.call('EXPIRE', edges, ttl)
    results[i] = 1
  end
end
return results
