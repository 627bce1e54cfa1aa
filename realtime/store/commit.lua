-- Store newer snapshots of many accounts, and the edge that each took, by compare-and-set on (epoch, revision).
--
-- A state is stored seldom, and an edge each time: the newest state is the stored one and the edges since. So an edge
-- alone is taken only where it goes on from what is stored, and while those since the state are few and young.
--
-- KEYS: for account i, KEYS[2i-1] its snapshot (hash) and KEYS[2i] its edges (list, oldest first).
-- ARGV: now_seconds, ttl_seconds, edge_count, edge_bytes, edge_seconds, steps, steps_bytes, steps_seconds; then in one
--       string (because many would cost the client more than all else) for each account epoch, revision, as_of, owner,
--       state (or ''), base (or '') and patch, each after its length in four bytes, the greatest first.
-- Returns for each account 1 (stored), 0 (not newer), -1 (of an older epoch) or 2 (the state is wanted too).
local now, ttl, most, most_bytes = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local edge_seconds, steps, steps_bytes = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local steps_seconds, accounts, at = tonumber(ARGV[8]), ARGV[9], 1
local results = {}

-- An edge is 'base revision seconds patch'; the first three are needed without decoding the patch. State and patch
-- come with their owner in front, which only readers look at.
local function trim(snapshot, edges)
  local bytes = tonumber(redis.call('HGET', snapshot, 'edge_bytes') or '0')
  local count = redis.call('LLEN', edges)
  while count > 0 do
    local first = redis.call('LINDEX', edges, 0)
    local seconds = tonumber(string.match(first, '^%S+ %S+ (%S+)')) or 0
    if count <= most and bytes <= most_bytes and seconds >= now - edge_seconds then break end
    redis.call('LPOP', edges)
    bytes, count = bytes - #first, count - 1
  end
  redis.call('HSET', snapshot, 'edge_bytes', math.max(bytes, 0))
end

-- Whether the state is still to be had from the stored one when this edge is added.
local function goes_on(snapshot, held_revision, base, patch)
  local since = redis.call('HMGET', snapshot, 'steps', 'steps_bytes', 'state_seconds')
  return base == held_revision and since[3]
    and (tonumber(since[1]) or steps) < steps
    and (tonumber(since[2]) or steps_bytes) + #patch < steps_bytes
    and (tonumber(since[3]) or 0) > now - steps_seconds
end

for i = 1, #KEYS / 2 do
  local snapshot, edges = KEYS[2 * i - 1], KEYS[2 * i]
  local epoch, revision, as_of, owner, state, base, patch
  epoch, revision, as_of, owner, state, base, patch, at =
    struct.unpack('>I4c0I4c0I4c0I4c0I4c0I4c0I4c0', accounts, at)
  -- A value of another type (somebody else's, or poison) is no snapshot: start over.
  if redis.call('TYPE', snapshot)['ok'] ~= 'hash' then redis.call('DEL', snapshot, edges) end
  if redis.call('TYPE', edges)['ok'] ~= 'list' then redis.call('DEL', edges) end
  local held = redis.call('HMGET', snapshot, 'epoch', 'revision')
  local held_epoch, held_revision = tonumber(held[1] or '') or -1, tonumber(held[2] or '') or -1
  if tonumber(epoch) < held_epoch then
    results[i] = -1
  elseif tonumber(epoch) == held_epoch and tonumber(revision) < held_revision then
    results[i] = 0
  elseif state == '' and (epoch ~= held[1] or not goes_on(snapshot, held[2], base, patch)) then
    results[i] = 2
  else
    -- History does not reach across an epoch.
    if tonumber(epoch) > held_epoch then
      redis.call('DEL', edges)
      redis.call('HSET', snapshot, 'edge_bytes', 0)
    end
    if base ~= '' and base ~= revision then
      local edge = base .. ' ' .. revision .. ' ' .. ARGV[1] .. ' ' .. patch
      redis.call('RPUSH', edges, edge)
      redis.call('HINCRBY', snapshot, 'edge_bytes', #edge)
    end
    if state == '' then
      redis.call('HSET', snapshot, 'revision', revision, 'as_of', as_of)
      redis.call('HINCRBY', snapshot, 'steps', 1)
      redis.call('HINCRBY', snapshot, 'steps_bytes', #patch)
    else
      redis.call('HSET', snapshot, 'epoch', epoch, 'revision', revision, 'as_of', as_of, 'owner', owner, 'state', state,
                 'state_revision', revision, 'state_seconds', ARGV[1], 'steps', 0, 'steps_bytes', 0)
    end
    trim(snapshot, edges)
    redis.call('EXPIRE', snapshot, ttl)
    redis.call('EXPIRE', edges, ttl)
    results[i] = 1
  end
end
return results
