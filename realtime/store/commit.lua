-- Stores newer snapshots of many accounts, and the edge to each, by compare-and-set on (epoch, revision).
--
-- A whole state is stored seldom, and an edge each time. The newest state is the stored state plus the edges since. An
-- edge alone is therefore accepted only when it continues the stored revision, and the edges since the state are few,
-- short and young.
--
-- Another program may have written anything under these keys. When a value has a form that this script never writes, the
-- script deletes both keys of the account, so that one account does not block the others of its batch.
--
-- KEYS: for account i, KEYS[2i-1] its snapshot (hash) and KEYS[2i] its edges (list, oldest first).
-- ARGV: now_seconds, ttl_seconds, edge_count, edge_bytes, edge_seconds, steps, steps_bytes, steps_seconds; then one
--       string (many arguments would cost the client more than everything else) with epoch, revision, as_of, owner,
--       state (or ''), base (or '') and patch of each account, each after its length in four bytes, big-endian.
-- Returns two lists: for each account 1 (stored), 0 (not newer), -1 (of an older epoch) or 2 (send the whole state too);
-- and the numbers of the accounts whose keys were deleted.
local now, ttl, most, most_bytes = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local edge_seconds, steps, steps_bytes = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local steps_seconds, accounts, at = tonumber(ARGV[8]), ARGV[9], 1
local results, removed = {}, {}

-- A revision is the time of its commit in microseconds, by the database's clock, and an epoch eight times the time of its
-- begin in milliseconds (queries/live_query.py). Values beyond tomorrow are wrong, and would keep all later ones out.
local DAY_SECONDS = 86400
local MOST_REVISION = (now + 2 * DAY_SECONDS) * 1000000
local MOST_EPOCH = (now + 2 * DAY_SECONDS) * 8000

-- `text` as a whole number from 0 to `limit`; nil for anything else. tonumber alone accepts 'nan', 'inf', '0x1' and '1e9'.
local function whole(text, limit)
  local number = text and #text <= 16 and string.match(text, '^%d+$') and tonumber(text)
  return number and number <= limit and number or nil
end

-- The stored numbers of an account; {} without any, nil when a value has a form that this script never writes.
local function held_of(snapshot, edges)
  local kind, edges_kind = redis.call('TYPE', snapshot)['ok'], redis.call('TYPE', edges)['ok']
  if edges_kind ~= 'none' and (edges_kind ~= 'list' or redis.call('LLEN', edges) > 2 * most) then return nil end
  if kind == 'none' then return {} end
  if kind ~= 'hash' then return nil end
  local fields = redis.call('HMGET', snapshot, 'epoch', 'revision', 'state_revision', 'state_seconds', 'steps',
                            'steps_bytes', 'edge_bytes')
  local held = {
    epoch = whole(fields[1], MOST_EPOCH), revision = whole(fields[2], MOST_REVISION),
    state_revision = whole(fields[3], MOST_REVISION), state_seconds = whole(fields[4], now + DAY_SECONDS),
    steps = whole(fields[5], 2 * steps), steps_bytes = whole(fields[6], 2 * steps_bytes),
    edge_bytes = whole(fields[7], 2 * most_bytes),
  }
  if held.epoch and held.revision and held.state_revision and held.state_seconds and held.steps and held.steps_bytes
      and held.edge_bytes and held.state_revision <= held.revision then
    return held
  end
  return nil
end

-- Removes the oldest edges beyond the limits. An edge is 'base revision seconds patch', so that the first three are read
-- without decoding the patch. State and patch begin with their owner, which only readers check.
local function trim(snapshot, edges, bytes)
  local count = redis.call('LLEN', edges)
  while count > 0 do
    local first = redis.call('LINDEX', edges, 0)
    local seconds = whole(string.match(first, '^%S+ %S+ (%S+)'), now + DAY_SECONDS) or 0
    if count <= most and bytes <= most_bytes and seconds >= now - edge_seconds then break end
    redis.call('LPOP', edges)
    bytes, count = bytes - #first, count - 1
  end
  redis.call('HSET', snapshot, 'edge_bytes', count > 0 and math.max(bytes, 0) or 0)
end

-- Whether a reader can still compute the newest state from the stored one when this edge is added.
local function goes_on(held, base, patch)
  return tonumber(base) == held.revision
    and held.steps < steps
    and held.steps_bytes + #patch < steps_bytes
    and held.state_seconds > now - steps_seconds
end

for i = 1, #KEYS / 2 do
  local snapshot, edges = KEYS[2 * i - 1], KEYS[2 * i]
  local epoch, revision, as_of, owner, state, base, patch
  epoch, revision, as_of, owner, state, base, patch, at =
    struct.unpack('>I4c0I4c0I4c0I4c0I4c0I4c0I4c0', accounts, at)
  local held = held_of(snapshot, edges)
  if not held then
    redis.call('DEL', snapshot, edges)
    removed[#removed + 1] = i
    held = {}
  end
  local held_epoch, held_revision, edge_bytes = held.epoch or -1, held.revision or -1, held.edge_bytes or 0
  if tonumber(epoch) < held_epoch then
    results[i] = -1
  elseif tonumber(epoch) == held_epoch and tonumber(revision) < held_revision then
    results[i] = 0
  elseif state == '' and (tonumber(epoch) ~= held_epoch or not goes_on(held, base, patch)) then
    results[i] = 2
  else
    -- Edges never lead from one epoch to another.
    if tonumber(epoch) > held_epoch then
      redis.call('DEL', edges)
      edge_bytes = 0
    end
    if base ~= '' and base ~= revision then
      local edge = base .. ' ' .. revision .. ' ' .. ARGV[1] .. ' ' .. patch
      redis.call('RPUSH', edges, edge)
      edge_bytes = edge_bytes + #edge
    end
    if state == '' then
      redis.call('HSET', snapshot, 'revision', revision, 'as_of', as_of, 'steps', held.steps + 1,
                 'steps_bytes', held.steps_bytes + #patch)
    else
      redis.call('HSET', snapshot, 'epoch', epoch, 'revision', revision, 'as_of', as_of, 'owner', owner, 'state', state,
                 'state_revision', revision, 'state_seconds', ARGV[1], 'steps', 0, 'steps_bytes', 0)
    end
    trim(snapshot, edges, edge_bytes)
    redis.call('EXPIRE', snapshot, ttl)
    redis.call('EXPIRE', edges, ttl)
    results[i] = 1
  end
end
return {results, removed}
