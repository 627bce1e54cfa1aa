-- The history that was there before the capture, read account by account; and the same for an account to be rebuilt.
--
-- While an account is not ready its rows only queue in arrivals, and nobody but the one who reads its history writes its
-- derived rows. They appear in one commit, with the account ready.

-- Who reads the history of an account inserts a row here and deletes it in the same transaction: a second reader waits at the
-- unique index. An advisory lock would do the same, but any login could hold it.
CREATE UNLOGGED TABLE guardwire.history_readers (
    user_id uuid PRIMARY KEY
);
COMMENT ON TABLE guardwire.history_readers IS 'Accounts whose history is being read; no row is ever committed';
COMMENT ON COLUMN guardwire.history_readers.user_id IS 'The account';

-- How the users of the log are written where the column is text, so that their rows can be found by its index.
CREATE TABLE guardwire.log_users (
    written text PRIMARY KEY,
    user_id uuid
);
CREATE INDEX log_users_by_user ON guardwire.log_users (user_id);
COMMENT ON TABLE guardwire.log_users IS 'Every form of a user in reconciliation_logs.user_id, where that column is not a uuid';
COMMENT ON COLUMN guardwire.log_users.written IS 'As the platform wrote it';
COMMENT ON COLUMN guardwire.log_users.user_id IS 'The account; null when it is none';

CREATE FUNCTION guardwire.log_users_are_uuids() RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT a.atttypid = 'uuid'::regtype
    FROM pg_attribute AS a WHERE a.attrelid = 'public.reconciliation_logs'::regclass AND a.attname = 'user_id'
$$;

-- Lists the users of the log, jumping from each to the next by the index on the column.
CREATE FUNCTION guardwire.list_log_users() RETURNS void LANGUAGE plpgsql SET enable_seqscan = off SET jit = off AS $$
BEGIN
    WITH RECURSIVE users (written) AS (
        (SELECT l.user_id FROM public.reconciliation_logs AS l WHERE l.user_id IS NOT NULL ORDER BY l.user_id LIMIT 1)
        UNION ALL
        SELECT (SELECT l.user_id FROM public.reconciliation_logs AS l WHERE l.user_id > u.written ORDER BY l.user_id LIMIT 1)
        FROM users AS u WHERE u.written IS NOT NULL
    )
    INSERT INTO guardwire.log_users (written, user_id)
    SELECT u.written::text, guardwire.read_user(u.written) FROM users AS u WHERE u.written IS NOT NULL
    ON CONFLICT (written) DO NOTHING;
END
$$;

-- Lists every account that has history, once.
CREATE FUNCTION guardwire.list_accounts() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = warning SET trace_notify = off AS $$
DECLARE
    added integer;
BEGIN
    -- Whoever comes second finds it done.
    IF (SELECT b.listed FROM guardwire.backfill AS b FOR UPDATE) THEN
        RETURN 0;
    END IF;
    PERFORM guardwire.list_log_users();
    INSERT INTO guardwire.accounts (user_id, revision, ready)
    SELECT found.user_id, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, false
    FROM (SELECT l.user_id FROM guardwire.log_users AS l WHERE l.user_id IS NOT NULL
          UNION SELECT e.user_id FROM guardwire.equity_rows() AS e WHERE e.user_id IS NOT NULL) AS found
    ORDER BY found.user_id
    ON CONFLICT ON CONSTRAINT accounts_pkey DO NOTHING;
    GET DIAGNOSTICS added = ROW_COUNT;
    UPDATE guardwire.backfill SET listed = true;
    RETURN added;
END
$$;

-- An account's rows of the log, by the index on its user.
CREATE FUNCTION guardwire.log_rows_of(account uuid) RETURNS SETOF guardwire.log_row LANGUAGE plpgsql STABLE
SET enable_seqscan = off AS $$
BEGIN
    IF guardwire.log_users_are_uuids() THEN
        RETURN QUERY SELECT l.* FROM guardwire.log_rows() AS l WHERE l.user_id = account;
    ELSE
        RETURN QUERY
        SELECT l.* FROM guardwire.log_rows() AS l
        WHERE l.id IN (SELECT o.id FROM public.reconciliation_logs AS o
                       WHERE o.user_id::text IN (SELECT u.written FROM guardwire.log_users AS u WHERE u.user_id = account))
          AND l.user_id = account;
    END IF;
END
$$;

-- An account's rows in the order in which they count: first those whose arrival nobody saw, by time and closes last, then
-- those that arrived. Rows that wait as notes have not arrived yet. A row that was updated counts where it arrived last.
CREATE FUNCTION guardwire.history_of(account uuid, no_time timestamptz) RETURNS SETOF guardwire.log_row
LANGUAGE sql STABLE AS $$
    SELECT r.*
    FROM (SELECT h AS of_log, a.revision,
                 coalesce(a.ordinal, row_number() OVER (ORDER BY coalesce(h.at, no_time), h.kind = 'close', h.id))::integer AS ordinal
          FROM guardwire.log_rows_of(account) AS h
          LEFT JOIN (SELECT DISTINCT ON (s.log_id) s.log_id, s.revision, s.ordinal FROM guardwire.arrivals AS s
                     WHERE s.user_id = account AND s.source = 'l'
                     ORDER BY s.log_id, s.revision DESC) AS a ON a.log_id = h.id
          WHERE h.id::text NOT IN (SELECT n.row_key FROM guardwire.capture_notes AS n WHERE n.source = 'l')) AS found
    CROSS JOIN LATERAL guardwire.arrived(
        found.of_log, coalesce(to_timestamp(found.revision / 1000000.0), no_time), coalesce(found.revision, 0), found.ordinal, true) AS r
    ORDER BY coalesce(found.revision, 0), found.ordinal
$$;

-- What arrived for an account since a revision, sorted as apply_positions takes it.
CREATE FUNCTION guardwire.arrived_since(account uuid, since bigint) RETURNS guardwire.log_row[] LANGUAGE plpgsql STABLE
SET enable_seqscan = off AS $$
BEGIN
    RETURN (
        SELECT array_agg(guardwire.arrived(l, to_timestamp(a.revision / 1000000.0), a.revision, a.ordinal, a.inserted)
                         ORDER BY l.user_id, l.ticket, a.revision, a.ordinal)
        FROM (SELECT s.log_id, max(s.revision) AS revision, (array_agg(s.ordinal ORDER BY s.revision DESC))[1] AS ordinal,
                     bool_or(s.inserted) AS inserted
              FROM guardwire.arrivals AS s
              WHERE s.user_id = account AND s.source = 'l' AND s.revision > since
              GROUP BY s.log_id) AS a
        JOIN guardwire.log_rows() AS l ON l.id = a.log_id);
END
$$;

-- Makes an account's derived rows from its history, and the account ready. Raises its revision. Nobody waits for it: the
-- account is locked at the end, for what arrived meanwhile. The number of rows read; null when the account was ready.
CREATE FUNCTION guardwire.read_history(account uuid) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = warning SET trace_notify = off SET jit = off AS $$
DECLARE
    no_time timestamptz := clock_timestamp();
    upto bigint;
    equity_upto bigint;
    equity guardwire.equity_state;
    sums guardwire.sync_sums;
    rows guardwire.log_row[] := '{}';
    r guardwire.log_row;
    seen bigint := 0;
BEGIN
    -- One reader of an account at a time; writers are not in its way.
    INSERT INTO guardwire.history_readers (user_id) VALUES (account);
    DELETE FROM guardwire.history_readers AS h WHERE h.user_id = account;
    IF (SELECT a.ready FROM guardwire.accounts AS a WHERE a.user_id = account) IS NOT FALSE THEN
        RETURN NULL;
    END IF;
    DELETE FROM guardwire.positions AS p WHERE p.user_id = account;
    -- What equity caused is not in the log: it stays.
    DELETE FROM guardwire.events AS e WHERE e.user_id = account AND e.event_type <> 'drawdown_alert';
    DELETE FROM guardwire.market_alerts AS m WHERE m.user_id = account;

    SELECT coalesce(max(s.revision), 0) INTO equity_upto FROM guardwire.arrivals AS s WHERE s.user_id = account AND s.source = 'e';
    equity := guardwire.equity_state(account, guardwire.noted_equity());
    SELECT coalesce(max(s.revision), 0) INTO upto FROM guardwire.arrivals AS s WHERE s.user_id = account AND s.source = 'l';
    FOR r IN SELECT h.* FROM guardwire.history_of(account, no_time) AS h LOOP
        CONTINUE WHEN r.revision > upto;
        rows := rows || r;
        seen := seen + 1;
        IF cardinality(rows) >= 2000 THEN
            sums := guardwire.apply_history(account, rows, sums, no_time);
            rows := '{}';
        END IF;
    END LOOP;
    sums := guardwire.apply_history(account, rows, sums, no_time);

    PERFORM guardwire.lock_reference(false);
    PERFORM guardwire.lock_accounts(ARRAY[account]);
    rows := guardwire.arrived_since(account, upto);
    sums := guardwire.apply_history(account, rows, sums, no_time);
    IF EXISTS (SELECT FROM guardwire.arrivals AS s WHERE s.user_id = account AND s.source = 'e' AND s.revision > equity_upto) THEN
        equity := guardwire.equity_state(account, guardwire.noted_equity());
    END IF;
    PERFORM guardwire.finish_history(account, sums, equity, no_time);
    RETURN seen + coalesce(cardinality(rows), 0);
END
$$;

-- A chunk of history, later in arrival than the chunks before it; adds what it says of syncs to what they said.
CREATE FUNCTION guardwire.apply_history(
    account uuid, chunk guardwire.log_row[], before guardwire.sync_sums, no_time timestamptz
) RETURNS guardwire.sync_sums LANGUAGE plpgsql AS $$
DECLARE
    batch guardwire.sync_sums;
BEGIN
    IF coalesce(cardinality(chunk), 0) = 0 THEN
        RETURN before;
    END IF;
    PERFORM guardwire.apply_positions(ARRAY(SELECT r FROM unnest(chunk) AS r ORDER BY r.ticket, r.revision, r.ordinal));
    PERFORM guardwire.apply_market(chunk, no_time);
    FOR batch IN SELECT s.* FROM guardwire.sync_sums(chunk) AS s LOOP
        before := guardwire.add_sums(before, batch);
    END LOOP;
    RETURN before;
END
$$;

-- Makes an account that is locked ready, with what its history says.
CREATE FUNCTION guardwire.finish_history(
    account uuid, sums guardwire.sync_sums, equity guardwire.equity_state, now_at timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    limits public.guard_limits := guardwire.limits_of(account);
    given bigint;
BEGIN
    UPDATE guardwire.accounts AS a
    SET ready = true, total_syncs = greatest(a.total_syncs, sums.syncs), last_sync_at = sums.last_sync_at,
        last_sync_arrived_at = NULL, last_sync_duration_ms = sums.duration_ms, last_position_at = sums.last_position_at,
        error_at = sums.error_at, error_message = sums.error_message, ignored_rows = greatest(a.ignored_rows, sums.ignored),
        source = CASE WHEN sums.last_sync_at > now_at - make_interval(secs => limits.sync_overdue_seconds) THEN 'live' ELSE 'silent' END,
        sync_due_at = CASE WHEN sums.last_sync_at > now_at - make_interval(secs => limits.sync_overdue_seconds) THEN now_at END,
        equity = equity.equity, balance = equity.balance, currency = equity.currency, equity_at = equity.at,
        equity_flow = coalesce(equity.flow, 0), peak_adjusted = equity.peak, peak_since = limits.peak_since
    WHERE a.user_id = account
    RETURNING a.revision INTO given;
    -- Instruments and the account's currency as they are now: nobody told this account's positions while it was not ready.
    PERFORM guardwire.put_positions('{}', ARRAY(
        SELECT guardwire.reckoned(guardwire.with_instrument(p)) FROM guardwire.positions AS p WHERE p.user_id = account AND p.is_open));
    PERFORM guardwire.judge_drawdown(account, 'history-' || given, least(equity.at, now_at), given, 0);
    PERFORM guardwire.settle_breaches(account, 'history-' || given, now_at);
    PERFORM guardwire.notify_nodes(ARRAY[account], ARRAY[given]);
END
$$;

-- What is critical has one breach that stands open, the oldest there is, and nothing else has one. While rows come one by one
-- that follows by itself; after history was read anew, or derived rows were altered by hand, it may not.
CREATE FUNCTION guardwire.settle_breaches(account uuid, cause text, now_at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    a guardwire.accounts;
    countdown interval := make_interval(secs => (guardwire.limits_of(account)).countdown_seconds);
    begun timestamptz;
BEGIN
    DELETE FROM guardwire.breaches AS b USING guardwire.breaches AS o
    WHERE b.user_id = account AND b.cleared_at IS NULL AND o.user_id = account AND o.cleared_at IS NULL AND b.kind = o.kind
      AND b.symbol IS NOT DISTINCT FROM o.symbol AND b.condition_type IS NOT DISTINCT FROM o.condition_type
      AND (o.raised_at, o.breach_id) < (b.raised_at, b.breach_id);
    SELECT o.* INTO a FROM guardwire.accounts AS o WHERE o.user_id = account;
    IF a.drawdown_level = 'critical' THEN
        SELECT b.raised_at INTO begun FROM guardwire.breaches AS b
        WHERE b.user_id = account AND b.kind = 'drawdown' AND b.cleared_at IS NULL;
        IF NOT FOUND THEN
            begun := least(a.liquidation_at - countdown, a.equity_at, now_at);
            PERFORM guardwire.raise_breach(account, cause, 'drawdown', begun, a.drawdown_pct, NULL, NULL);
        END IF;
        -- A countdown is never begun anew.
        UPDATE guardwire.accounts AS o SET liquidation_at = least(o.liquidation_at, begun + countdown) WHERE o.user_id = account;
    ELSE
        UPDATE guardwire.accounts AS o SET liquidation_at = NULL WHERE o.user_id = account AND o.liquidation_at IS NOT NULL;
        PERFORM guardwire.clear_breach(account, 'drawdown', least(a.equity_at, now_at), NULL, NULL);
    END IF;
    UPDATE guardwire.breaches AS b SET cleared_at = greatest(now_at, b.raised_at)
    WHERE b.user_id = account AND b.kind = 'market' AND b.cleared_at IS NULL
      AND NOT EXISTS (SELECT FROM guardwire.market_alerts AS m
                      WHERE m.user_id = account AND m.symbol = b.symbol AND m.condition_type = b.condition_type
                        AND m.alert_type = 'critical');
    PERFORM guardwire.raise_breach(account, m.log_id::text, 'market', m.detected_at, coalesce(m.gap_pct, m.spread_pct),
                                   m.symbol, m.condition_type)
    FROM guardwire.market_alerts AS m
    WHERE m.user_id = account AND m.alert_type = 'critical'
      AND NOT EXISTS (SELECT FROM guardwire.breaches AS b
                      WHERE b.user_id = account AND b.kind = 'market' AND b.cleared_at IS NULL
                        AND b.symbol = m.symbol AND b.condition_type = m.condition_type);
END
$$;

-- Lists accounts whose every row was written past the triggers, so that their history is read.
CREATE FUNCTION guardwire.list_missed_accounts() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = warning SET trace_notify = off AS $$
DECLARE
    added integer;
BEGIN
    PERFORM guardwire.list_log_users();
    INSERT INTO guardwire.accounts (user_id, revision, ready)
    SELECT found.user_id, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, false
    FROM (SELECT l.user_id FROM guardwire.log_users AS l WHERE l.user_id IS NOT NULL
          UNION SELECT e.user_id FROM guardwire.equity_rows() AS e WHERE e.user_id IS NOT NULL) AS found
    ORDER BY found.user_id
    ON CONFLICT ON CONSTRAINT accounts_pkey DO NOTHING;
    GET DIAGNOSTICS added = ROW_COUNT;
    RETURN added;
END
$$;

-- Makes the newest rate of each pair current again, whatever was written past the triggers or altered by hand.
CREATE FUNCTION guardwire.reread_rates() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = warning SET trace_notify = off AS $$
DECLARE
    newest text[] := ARRAY(
        SELECT 'xi' || f.id::text
        FROM (SELECT DISTINCT ON (r.base, r.quote) r.id, r.base, r.quote, r.rate, r.at FROM guardwire.fx_rows() AS r
              WHERE r.base IS NOT NULL AND r.quote IS NOT NULL AND r.rate IS NOT NULL AND r.at IS NOT NULL
              ORDER BY r.base, r.quote, r.at DESC) AS f
        LEFT JOIN guardwire.fx_current AS c ON c.base = f.base AND c.quote = f.quote
        -- Of rates of one time the one that arrived last is current; that is not on record.
        WHERE c.as_of IS NULL OR c.as_of < f.at
           OR NOT EXISTS (SELECT FROM guardwire.fx_rows() AS o
                          WHERE o.base = c.base AND o.quote = c.quote AND o.rate = c.rate AND (o.at = c.as_of OR o.at IS NULL)));
BEGIN
    IF cardinality(newest) > 0 THEN
        -- One that was altered to be newer than any row would stand against them all.
        DELETE FROM guardwire.fx_current AS c
        WHERE NOT EXISTS (SELECT FROM guardwire.fx_rows() AS o WHERE o.base = c.base AND o.quote = c.quote
                            AND (o.at >= c.as_of OR o.at IS NULL))
          AND EXISTS (SELECT FROM guardwire.fx_rows() AS o WHERE o.base = c.base AND o.quote = c.quote AND o.rate IS NOT NULL);
        PERFORM guardwire.apply_tokens(newest);
    END IF;
END
$$;

-- Reads the history of one account that waits for it and that nobody else is reading; null when none does.
CREATE FUNCTION guardwire.backfill_next() RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = warning SET trace_notify = off AS $$
DECLARE
    account uuid;
BEGIN
    SELECT a.user_id INTO account FROM guardwire.accounts AS a WHERE NOT a.ready ORDER BY random() LIMIT 1;
    IF account IS NULL THEN
        UPDATE guardwire.backfill SET done = true, done_at = clock_timestamp() WHERE listed AND NOT done;
    ELSE
        PERFORM guardwire.read_history(account);
    END IF;
    RETURN account;
END
$$;

-- Makes one account's derived rows anew from the raw log and equity history; until that is done it is not ready.
CREATE FUNCTION guardwire.unready(account uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = warning SET trace_notify = off AS $$
DECLARE
    users uuid[];
    revisions bigint[];
BEGIN
    IF NOT guardwire.log_users_are_uuids() THEN
        PERFORM guardwire.list_log_users();
    END IF;
    SELECT array_agg(a.user_id), array_agg(a.revision) INTO users, revisions FROM guardwire.lock_accounts(ARRAY[account]) AS a;
    UPDATE guardwire.accounts AS a SET ready = false WHERE a.user_id = account;
    PERFORM guardwire.notify_nodes(users, revisions);
END
$$;

-- The same in one transaction, which holds the account's lock throughout; for an operator at psql.
CREATE FUNCTION guardwire.rebuild(account uuid) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = warning SET trace_notify = off AS $$
BEGIN
    PERFORM guardwire.unready(account);
    RETURN guardwire.read_history(account);
END
$$;
