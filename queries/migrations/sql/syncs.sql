-- What syncs, errors and unusable rows make of their accounts.

CREATE TYPE guardwire.sync_sums AS (
    user_id uuid,
    syncs bigint,
    last_sync_at timestamptz,
    duration_ms double precision,
    last_position_at timestamptz,
    error_at timestamptz,
    error_message text,
    ignored bigint
);
COMMENT ON TYPE guardwire.sync_sums IS 'What a batch of rows adds to an account; named as in guardwire.accounts';

CREATE FUNCTION guardwire.sync_sums(rows guardwire.log_row[]) RETURNS SETOF guardwire.sync_sums LANGUAGE sql STABLE AS $$
    SELECT r.user_id,
           count(*) FILTER (WHERE r.is_sync AND r.inserted AND r.ticket IS NOT NULL),
           max(r.at) FILTER (WHERE r.is_sync AND NOT r.failed AND r.ticket IS NOT NULL),
           (array_agg(r.duration_ms ORDER BY r.at DESC, r.revision DESC, r.ordinal DESC)
               FILTER (WHERE r.is_sync AND NOT r.failed AND r.ticket IS NOT NULL))[1],
           max(coalesce(r.updated_at, r.at)) FILTER (WHERE NOT r.failed AND r.ticket IS NOT NULL),
           max(r.at) FILTER (WHERE r.ticket IS NOT NULL),
           (array_agg(r.error_message ORDER BY r.at DESC, r.revision DESC, r.ordinal DESC) FILTER (WHERE r.ticket IS NOT NULL))[1],
           count(*) FILTER (WHERE r.ticket IS NULL)
    FROM unnest(rows) AS r
    WHERE r.kind IN ('open', 'close')
    GROUP BY r.user_id
$$;

-- Adds what a batch says to what batches before it said; it is later in arrival, so it wins where the times are equal.
CREATE FUNCTION guardwire.add_sums(before guardwire.sync_sums, batch guardwire.sync_sums) RETURNS guardwire.sync_sums
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF batch.last_sync_at >= coalesce(before.last_sync_at, batch.last_sync_at) THEN
        before.duration_ms := batch.duration_ms;
    END IF;
    IF batch.error_at >= coalesce(before.error_at, batch.error_at) THEN
        before.error_message := batch.error_message;
    END IF;
    before.syncs := coalesce(before.syncs, 0) + batch.syncs;
    before.last_sync_at := greatest(before.last_sync_at, batch.last_sync_at);
    before.last_position_at := greatest(before.last_position_at, batch.last_position_at);
    before.error_at := greatest(before.error_at, batch.error_at);
    before.ignored := coalesce(before.ignored, 0) + batch.ignored;
    RETURN before;
END
$$;

CREATE FUNCTION guardwire.apply_syncs(rows guardwire.log_row[], arrived_at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE guardwire.accounts AS a
    SET total_syncs = a.total_syncs + s.syncs,
        source = CASE WHEN s.last_sync_at IS NULL THEN a.source ELSE 'live' END,
        last_sync_arrived_at = CASE WHEN s.last_sync_at IS NULL THEN a.last_sync_arrived_at ELSE arrived_at END,
        sync_due_at = CASE WHEN s.last_sync_at IS NULL THEN a.sync_due_at ELSE coalesce(a.sync_due_at, arrived_at) END,
        last_sync_duration_ms = CASE WHEN s.last_sync_at IS NULL OR s.last_sync_at < a.last_sync_at
                                     THEN a.last_sync_duration_ms ELSE s.duration_ms END,
        last_sync_at = greatest(a.last_sync_at, s.last_sync_at),
        last_position_at = greatest(a.last_position_at, s.last_position_at),
        error_message = CASE WHEN s.error_at IS NULL OR s.error_at < a.error_at THEN a.error_message ELSE s.error_message END,
        error_at = greatest(a.error_at, s.error_at),
        ignored_rows = a.ignored_rows + s.ignored
    FROM guardwire.sync_sums(rows) AS s
    WHERE a.user_id = s.user_id;
END
$$;
