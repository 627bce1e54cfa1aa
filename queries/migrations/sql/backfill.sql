-- The history that was there before the capture, read account by account; and the same for an account to be rebuilt.

-- Lists every account that has history, once; until its history is read an account's new rows only queue in arrivals.
CREATE FUNCTION guardwire.list_accounts() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    added integer;
BEGIN
    INSERT INTO guardwire.accounts (user_id, revision, ready)
    SELECT found.user_id, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, false
    FROM (SELECT l.user_id FROM guardwire.log_rows() AS l WHERE l.user_id IS NOT NULL
          UNION SELECT e.user_id FROM guardwire.equity_rows() AS e WHERE e.user_id IS NOT NULL) AS found
    ORDER BY found.user_id
    ON CONFLICT ON CONSTRAINT accounts_pkey DO NOTHING;
    GET DIAGNOSTICS added = ROW_COUNT;
    UPDATE guardwire.backfill SET listed = true;
    RETURN added;
END
$$;

-- An account's rows of the log in the order in which they count: first those whose arrival nobody saw, by time and closes
-- last, then those that arrived since.
CREATE FUNCTION guardwire.history_of(account uuid, arrived_at timestamptz) RETURNS SETOF guardwire.log_row
LANGUAGE sql STABLE AS $$
    SELECT h.id, h.user_id, h.ticket, h.kind, h.failed, h.is_sync, coalesce(h.at, arrived_at), h.updated_at, h.duration_ms,
           h.matched, h.symbol, h.direction, h.volume, h.entry_price, h.current_price, h.take_profit, h.stop_loss, h.close_reason,
           h.closed_price, h.pnl_gbp, h.divergence_reason, h.error_message, coalesce(a.revision, 0),
           coalesce(a.ordinal, row_number() OVER (ORDER BY coalesce(h.at, arrived_at), h.kind = 'close', h.id))::integer, true
    FROM guardwire.log_rows() AS h
    LEFT JOIN (SELECT DISTINCT ON (s.log_id) s.log_id, s.revision, s.ordinal FROM guardwire.arrivals AS s
               WHERE s.user_id = account AND s.source = 'l'
               ORDER BY s.log_id, s.revision DESC) AS a ON a.log_id = h.id
    WHERE h.user_id = account
    ORDER BY coalesce(a.revision, 0), 24
$$;

-- Makes an account's derived rows from its history, and the account ready. Raises its revision. The account is locked for
-- the last step only.
CREATE FUNCTION guardwire.read_history(account uuid) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
    arrived_at timestamptz := clock_timestamp();
    rows guardwire.log_row[];
    r guardwire.log_row;
    seen bigint := 0;
    upto bigint;
    found_revision bigint;
    limits public.guard_limits := guardwire.limits_of(account);
BEGIN
    -- One reader of an account at a time; writers are not in its way.
    PERFORM pg_advisory_xact_lock(hashtextextended('guardwire.read_history ' || account::text, 0));
    IF (SELECT a.ready FROM guardwire.accounts AS a WHERE a.user_id = account) IS NOT FALSE THEN
        RETURN NULL;
    END IF;
    DELETE FROM guardwire.positions AS p WHERE p.user_id = account;
    DELETE FROM guardwire.events AS e WHERE e.user_id = account;
    DELETE FROM guardwire.market_alerts AS m WHERE m.user_id = account;

    SELECT max(s.revision) INTO upto FROM guardwire.arrivals AS s WHERE s.user_id = account AND s.source = 'l';
    rows := '{}';
    FOR r IN SELECT h.* FROM guardwire.history_of(account, arrived_at) AS h LOOP
        CONTINUE WHEN r.revision > coalesce(upto, 0);
        rows := rows || r;
        seen := seen + 1;
        IF cardinality(rows) >= 1000 THEN
            PERFORM guardwire.apply_history(rows, arrived_at);
            rows := '{}';
        END IF;
    END LOOP;
    PERFORM guardwire.apply_history(rows, arrived_at);

    SELECT a.revision INTO found_revision FROM guardwire.lock_accounts(ARRAY[account]) AS a;
    UPDATE guardwire.accounts AS a
    SET ready = true, total_syncs = greatest(a.total_syncs, s.syncs), last_sync_at = s.last_sync_at,
        last_sync_arrived_at = NULL, last_sync_duration_ms = s.duration_ms, last_position_at = s.last_position_at,
        error_at = s.error_at, error_message = s.error_message, sync_due_at = arrived_at,
        source = CASE WHEN s.last_sync_at > arrived_at - make_interval(secs => limits.sync_overdue_seconds) THEN 'live' ELSE 'silent' END
    FROM (SELECT count(*) FILTER (WHERE h.is_sync) AS syncs,
                 max(h.at) FILTER (WHERE h.is_sync AND NOT h.failed) AS last_sync_at,
                 (array_agg(h.duration_ms ORDER BY h.at DESC, h.revision DESC, h.ordinal DESC) FILTER (WHERE h.is_sync AND NOT h.failed))[1] AS duration_ms,
                 max(coalesce(h.updated_at, h.at)) FILTER (WHERE NOT h.failed) AS last_position_at,
                 max(h.at) AS error_at,
                 (array_agg(h.error_message ORDER BY h.at DESC, h.revision DESC, h.ordinal DESC))[1] AS error_message
          FROM guardwire.history_of(account, arrived_at) AS h
          WHERE h.kind IN ('open', 'close') AND h.ticket IS NOT NULL) AS s
    WHERE a.user_id = account;
    -- What arrived while the history was read.
    SELECT array_agg(h ORDER BY h.ticket, h.revision, h.ordinal) INTO rows
    FROM guardwire.history_of(account, arrived_at) AS h WHERE h.revision > coalesce(upto, 0);
    IF rows IS NOT NULL THEN
        PERFORM guardwire.apply_positions(rows);
        PERFORM guardwire.apply_market(rows, arrived_at);
    END IF;
    PERFORM guardwire.read_equity(account, limits.peak_since, '{}');
    PERFORM guardwire.follow_currency(account);
    PERFORM guardwire.judge_drawdown(account, 'history-' || found_revision, least(a.equity_at, arrived_at), found_revision, 0)
    FROM guardwire.accounts AS a WHERE a.user_id = account;
    PERFORM guardwire.notify_nodes(ARRAY[account], ARRAY[found_revision]);
    RETURN seen;
END
$$;

-- A chunk of history: later in arrival than the chunks before it.
CREATE FUNCTION guardwire.apply_history(chunk guardwire.log_row[], arrived_at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    rows guardwire.log_row[];
BEGIN
    SELECT array_agg(r ORDER BY r.ticket, r.revision, r.ordinal) INTO rows FROM unnest(chunk) AS r;
    IF rows IS NOT NULL THEN
        PERFORM guardwire.apply_positions(rows);
        PERFORM guardwire.apply_market(
            (SELECT coalesce(array_agg(r ORDER BY r.revision, r.ordinal), '{}') FROM unnest(chunk) AS r WHERE r.kind = 'guard'),
            arrived_at);
    END IF;
END
$$;

-- Reads the history of one account that waits for it; null when none does.
CREATE FUNCTION guardwire.backfill_next() RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    account uuid;
BEGIN
    IF NOT (SELECT b.listed FROM guardwire.backfill AS b) THEN
        PERFORM guardwire.list_accounts();
    END IF;
    SELECT a.user_id INTO account FROM guardwire.accounts AS a WHERE NOT a.ready LIMIT 1;
    IF account IS NULL THEN
        UPDATE guardwire.backfill SET done = true, done_at = clock_timestamp() WHERE NOT done;
    ELSE
        PERFORM guardwire.read_history(account);
    END IF;
    RETURN account;
END
$$;

-- Makes one account's derived rows anew from the raw log and equity history.
CREATE FUNCTION guardwire.rebuild(account uuid) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM guardwire.lock_accounts(ARRAY[account]);
    UPDATE guardwire.accounts AS a SET ready = false, total_syncs = 0 WHERE a.user_id = account;
    RETURN guardwire.read_history(account);
END
$$;
