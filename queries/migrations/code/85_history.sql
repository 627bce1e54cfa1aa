-- History: the rows that were there before the triggers, and accounts that are rebuilt.
--
-- While an account is not ready its new rows wait in the inbox, and its history is read in one snapshot of the platform's
-- tables, without the rows that wait. The same rules apply to history and to rows of the inbox.

CREATE OR REPLACE FUNCTION guardwire.log_users_are_uuids() RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT a.atttypid = 'uuid'::regtype
    FROM pg_attribute AS a WHERE a.attrelid = 'public.reconciliation_logs'::regclass AND a.attname = 'user_id'
$$;

-- Lists every spelling of a user in the log, jumping from each to the next by the index on the column.
CREATE OR REPLACE FUNCTION guardwire.list_log_users() RETURNS void LANGUAGE plpgsql SET enable_seqscan = off SET jit = off AS $$
BEGIN
    WITH RECURSIVE users (written) AS (
        (SELECT l.user_id FROM public.reconciliation_logs AS l WHERE l.user_id IS NOT NULL ORDER BY l.user_id LIMIT 1)
        UNION ALL
        SELECT (SELECT l.user_id FROM public.reconciliation_logs AS l WHERE l.user_id > u.written ORDER BY l.user_id LIMIT 1)
        FROM users AS u WHERE u.written IS NOT NULL
    )
    INSERT INTO guardwire.log_users (written, user_id)
    SELECT u.written::text, guardwire.read_user(u.written::text) FROM users AS u WHERE u.written IS NOT NULL
    ON CONFLICT (written) DO NOTHING;
END
$$;

-- Gives every account that has rows in the platform's tables a row that is not ready, unless it has one; how many.
CREATE OR REPLACE FUNCTION guardwire.list_accounts() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    added integer;
BEGIN
    PERFORM FROM guardwire.backfill AS b FOR UPDATE;
    PERFORM guardwire.list_log_users();
    INSERT INTO guardwire.accounts (user_id, revision, ready)
    SELECT found.user_id, guardwire.unix_us(clock_timestamp()), false
    FROM (SELECT l.user_id FROM guardwire.log_users AS l WHERE l.user_id IS NOT NULL
          UNION SELECT guardwire.read_user(e.user_id::text) FROM public.equity_snapshots AS e) AS found
    WHERE found.user_id IS NOT NULL
    ORDER BY found.user_id
    ON CONFLICT ON CONSTRAINT accounts_pkey DO NOTHING;
    GET DIAGNOSTICS added = ROW_COUNT;
    UPDATE guardwire.backfill SET listed = true WHERE NOT listed;
    RETURN added;
END
$$;

-- An account's rows of the log, by the index on its user.
CREATE OR REPLACE FUNCTION guardwire.log_of(of_account uuid) RETURNS SETOF jsonb LANGUAGE plpgsql STABLE
SET enable_seqscan = off AS $$
BEGIN
    IF guardwire.log_users_are_uuids() THEN
        RETURN QUERY SELECT guardwire.parse_copy('l', guardwire.copy_of('l', l)) FROM public.reconciliation_logs AS l WHERE l.user_id = of_account;
    ELSE
        RETURN QUERY
        SELECT guardwire.parse_copy('l', guardwire.copy_of('l', l)) FROM public.reconciliation_logs AS l
        WHERE l.user_id IN (SELECT u.written FROM guardwire.log_users AS u WHERE u.user_id = of_account);
    END IF;
END
$$;

-- An account's history in the order in which it counts: first the rows whose arrival nobody recorded, by time and closes
-- last, then the recorded ones. A row that was updated counts where it arrived last. Changes that wait in the inbox are left out.
CREATE OR REPLACE FUNCTION guardwire.history_of(of_account uuid, read_at timestamptz, batch guardwire.inbox[], after_nth bigint)
RETURNS SETOF guardwire.log_row LANGUAGE sql STABLE AS $$
    WITH waiting AS MATERIALIZED (
        SELECT w.* FROM guardwire.waiting_rows(of_account, 'l', batch, after_nth) AS w
    ), logged AS (
        SELECT h.log FROM guardwire.log_of(of_account) AS h (log)
        WHERE NOT EXISTS (SELECT FROM waiting AS w WHERE w.id = guardwire.read_user(h.log ->> 'id'))
        UNION ALL
        SELECT w.old_row FROM waiting AS w WHERE guardwire.read_user(w.old_row ->> 'user_id') = of_account
    )
    SELECT r.*
    FROM (SELECT h.log, a.revision, a.arrived_at,
                 least(guardwire.read_time(h.log ->> 'created_at'), read_at) AS at,
                 coalesce(a.ordinal, row_number() OVER (
                     ORDER BY least(guardwire.read_time(h.log ->> 'created_at'), read_at),
                              guardwire.log_kind(guardwire.read_word(h.log ->> 'event_type'),
                                                 guardwire.read_text(h.log ->> 'close_reason', 500)) = 'close',
                              h.log ->> 'id'))::integer AS ordinal
          FROM logged AS h
          LEFT JOIN (SELECT DISTINCT ON (s.log_id) s.log_id, s.revision, s.ordinal, s.arrived_at FROM guardwire.arrivals AS s
                     WHERE s.user_id = of_account AND s.source = 'l'
                     ORDER BY s.log_id, s.revision DESC, s.ordinal DESC) AS a ON a.log_id = guardwire.read_user(h.log ->> 'id')) AS found
    CROSS JOIN LATERAL guardwire.read_log(
        found.log, coalesce(found.arrived_at, to_timestamp(found.revision / 1000000.0), found.at),
        coalesce(found.revision, 0), found.ordinal, true) AS r
    ORDER BY coalesce(found.revision, 0), found.ordinal
$$;

-- Whether an update in place did no more than correct the time of a row about a position. The correction is not one more arrival:
-- the row counts where it arrived first. A guard trigger has no history to be read again, so its correction is applied like any other change.
CREATE OR REPLACE FUNCTION guardwire.corrects_time(r guardwire.copied_row) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT r.operation = 'u' AND r.source = 'l' AND r.new_row -> 'created_at' IS DISTINCT FROM r.old_row -> 'created_at'
           AND r.new_row - 'created_at' - 'updated_at' = r.old_row - 'created_at' - 'updated_at'
           AND guardwire.read_ticket(r.new_row -> 'mt5_position_id') IS NOT NULL
           AND coalesce(guardwire.log_kind(guardwire.read_word(r.new_row ->> 'event_type'),
                                           guardwire.read_text(r.new_row ->> 'close_reason', 500)) IN ('open', 'close'), false)
$$;

-- Makes positions anew from the log, because times of their rows were corrected in place. Rows of the batch after `after_nth` are
-- still to be applied. The log of the account is read, as in a rebuild: corrections are rare.
CREATE OR REPLACE FUNCTION guardwire.reread_tickets(of_account uuid, tickets bigint[], batch guardwire.inbox[], after_nth bigint)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    held guardwire.positions[] := ARRAY(
        SELECT p FROM guardwire.positions AS p WHERE p.user_id = of_account AND p.ticket = ANY (tickets));
    rows guardwire.log_row[] := ARRAY(
        SELECT guardwire.date_row(h) FROM guardwire.history_of(of_account, clock_timestamp(), batch, after_nth) AS h
        WHERE h.ticket = ANY (tickets) ORDER BY h.ticket, h.revision, h.ordinal);
BEGIN
    DELETE FROM guardwire.positions AS p WHERE p.user_id = of_account AND p.ticket = ANY (tickets);
    DELETE FROM guardwire.events AS e
    WHERE e.user_id = of_account AND e.ticket = ANY (tickets) AND e.event_type <> 'market_condition_alert' AND e.notice IS NULL;
    PERFORM guardwire.apply_positions(rows);
    -- A position keeps its id, also when the row that gave it was pruned.
    UPDATE guardwire.positions AS p SET position_id = h.position_id
    FROM unnest(held) AS h WHERE p.user_id = of_account AND p.ticket = h.ticket;
END
$$;

-- Makes an account's derived rows from its history, and the account ready. Writers are never held up. The number of rows
-- read; null when the account was ready, or another process reads it.
CREATE OR REPLACE FUNCTION guardwire.read_history(of_account uuid) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
    read_at timestamptz := clock_timestamp();
    before guardwire.accounts;
    rows guardwire.log_row[] := '{}';
    r guardwire.log_row;
    signs guardwire.clock_signs;
    seen bigint := 0;
BEGIN
    PERFORM guardwire.refuse_hidden_rows();
    SELECT a.* INTO before FROM guardwire.accounts AS a WHERE a.user_id = of_account AND NOT a.ready FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    PERFORM guardwire.forget_syncs(of_account);
    DELETE FROM guardwire.positions AS p WHERE p.user_id = of_account;
    -- Events that equity caused, and what Guardwire found itself, are not in the log: they stay.
    DELETE FROM guardwire.events AS e WHERE e.user_id = of_account AND e.event_type <> 'drawdown_alert' AND e.notice IS NULL;
    DELETE FROM guardwire.market_alerts AS m WHERE m.user_id = of_account;
    IF EXISTS (SELECT FROM guardwire.set_aside AS s WHERE s.account = of_account AND s.source = 'g') THEN
        PERFORM guardwire.copy_limits(
            of_account, (SELECT guardwire.parse_copy('g', guardwire.copy_of('g', l)) FROM public.guard_limits AS l WHERE l.user_id = of_account), guardwire.last_nth());
    END IF;
    DELETE FROM guardwire.set_aside AS s WHERE s.account = of_account;
    -- One statement is one snapshot: the rows of the log that it sees, and those that wait in the inbox, fit together.
    FOR r IN SELECT h.* FROM guardwire.history_of(of_account, read_at, '{}', 0) AS h LOOP
        rows := rows || r;
        seen := seen + 1;
        IF cardinality(rows) >= 2000 THEN
            signs := guardwire.apply_history(rows, signs, read_at);
            rows := '{}';
        END IF;
    END LOOP;
    signs := guardwire.apply_history(rows, signs, read_at);
    PERFORM guardwire.finish_history(of_account, before, signs, read_at);
    RETURN seen;
END
$$;

-- Takes back what an account's row holds of its log, before the log is read again. That the platform's clock went back stays
-- known: arrivals are forgotten after some days.
CREATE OR REPLACE FUNCTION guardwire.forget_syncs(of_account uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE guardwire.accounts AS a
    SET total_syncs = 0, last_sync_at = NULL, last_sync_arrived_at = NULL, last_sync_duration_ms = NULL, last_position_at = NULL,
        last_loop_at = NULL, error_at = NULL, error_message = NULL, ignored_rows = 0, clock_doubted_at = NULL, recent_offsets = NULL,
        clock_offset_seconds = NULL,
        older_syncs = NULL
    WHERE a.user_id = of_account;
END
$$;

-- Applies a chunk of history, later in order than the chunks before it; what all of them say of the clock.
CREATE OR REPLACE FUNCTION guardwire.apply_history(chunk guardwire.log_row[], signs guardwire.clock_signs, read_at timestamptz)
RETURNS guardwire.clock_signs LANGUAGE plpgsql AS $$
BEGIN
    chunk := guardwire.settle_rows(ARRAY(SELECT r FROM unnest(chunk) AS r ORDER BY r.ticket, r.revision, r.ordinal));
    PERFORM guardwire.apply_syncs(chunk);
    PERFORM guardwire.apply_market(chunk, read_at);
    RETURN guardwire.add_signs(signs, chunk);
END
$$;

-- Makes a locked account ready, with what its history says.
CREATE OR REPLACE FUNCTION guardwire.finish_history(
    of_account uuid, before guardwire.accounts, signs guardwire.clock_signs, read_at timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    limits guardwire.limits := guardwire.limits_of(of_account);
    given bigint;
BEGIN
    SELECT l.revision INTO given FROM guardwire.lock_accounts(ARRAY[of_account]) AS l;
    PERFORM guardwire.rebuild_equity(of_account, limits, signs, read_at, given);
    -- Equity is a sign of life of an account without positions.
    IF NOT EXISTS (SELECT FROM guardwire.positions AS p WHERE p.user_id = of_account AND p.is_open) THEN
        UPDATE guardwire.accounts AS a
        SET last_sync_arrived_at = greatest(a.last_sync_arrived_at, a.equity_arrived_at)
        WHERE a.user_id = of_account;
    END IF;
    UPDATE guardwire.accounts AS a
    SET ready = true, total_syncs = greatest(a.total_syncs, before.total_syncs),
        ignored_rows = greatest(a.ignored_rows, before.ignored_rows),
        clock_offset_seconds = CASE WHEN EXISTS (SELECT FROM guardwire.arrivals AS s WHERE s.user_id = of_account AND s.source = 'l')
                                    THEN a.clock_offset_seconds ELSE before.clock_offset_seconds END,
        source = CASE WHEN a.last_sync_arrived_at > read_at - make_interval(secs => limits.sync_overdue_seconds) THEN 'live'
                      ELSE 'silent' END,
        sync_due_at = read_at
    WHERE a.user_id = of_account;
    -- Instruments and the account's currency as they are now: positions of an account that is not ready miss their changes.
    PERFORM guardwire.write_positions('{}', ARRAY(
        SELECT guardwire.recompute_position(guardwire.set_instrument(p)) FROM guardwire.positions AS p
        WHERE p.user_id = of_account AND p.is_open));
    PERFORM guardwire.settle_breaches(of_account, concat('history-', given), read_at);
    PERFORM guardwire.settle_history_alerts(of_account);
    PERFORM guardwire.send_notices(ARRAY[of_account], ARRAY[given]);
END
$$;

-- Whether the clock is in doubt, by rows of the log and of equity that were read one after the other: since the arrival of the last
-- row that was ignored, unless a row that arrived after it counts at no earlier time than all rows before that row. The last such row
-- is among those that count latest of all.
CREATE OR REPLACE FUNCTION guardwire.doubt_since(log guardwire.clock_signs, equity guardwire.clock_signs) RETURNS timestamptz
LANGUAGE sql IMMUTABLE AS $$
    SELECT max(i.arrived_at) FROM unnest(ARRAY[(log).ignored, (equity).ignored]) AS i
    WHERE NOT EXISTS (
        SELECT FROM unnest(ARRAY[(log).latest, (log).ticketless, (equity).latest]) AS e
        WHERE (e.at < greatest(((log).latest).at, ((equity).latest).at)) IS NOT TRUE
          AND (e.revision, e.ordinal) > (i.revision, i.ordinal))
$$;

DROP TYPE IF EXISTS guardwire.carried_peak CASCADE;
CREATE TYPE guardwire.carried_peak AS (peak guardwire.peak, is_lost boolean);
COMMENT ON TYPE guardwire.carried_peak IS 'What is left of the peak of release 0.1.0; null where rows on record show it';
COMMENT ON COLUMN guardwire.carried_peak.is_lost IS 'Its row and cash flows after it are gone: what it is in today''s money is not known';

-- Folds a locked account's equity rows anew, and says so where that moves the peak. `signs` are those of the log.
CREATE OR REPLACE FUNCTION guardwire.rebuild_equity(
    of_account uuid, l guardwire.limits, signs guardwire.clock_signs, read_at timestamptz, revision bigint
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    held guardwire.equity_fold := guardwire.load_fold(of_account);
    f guardwire.equity_fold := guardwire.confirm_by_time(guardwire.fold_history(of_account, '{}', 0), read_at, l);
    a guardwire.accounts := guardwire.with_reading(held.a, f.a);
    carried guardwire.carried_peak := guardwire.carry_peak(held.a, f);
BEGIN
    DELETE FROM guardwire.equity_flows AS e WHERE e.user_id = of_account;
    a.peak := guardwire.higher_peak((f.a).peak, carried.peak);
    a.top := CASE WHEN l.peak_since IS NOT NULL THEN guardwire.higher_peak((f.a).top, a.peak) END;
    a.equity_due_at := NULL;
    -- A critical reading among older rows that was latched stays so: only an accepted row ends it.
    IF (f.a).clock_doubted_at IS NULL OR a.drawdown_level IS DISTINCT FROM 'critical'
       OR guardwire.drawdown_level(a.peak, a.equity, l) = 'critical' THEN
        a := guardwire.judge_drawdown(a, l, concat('history-', revision), least(a.equity_at, read_at), read_at, revision, 0);
    END IF;
    a.clock_doubted_at := guardwire.doubt_since(signs, f.signs);
    a.clock_stepped_at := least(a.clock_stepped_at, (f.a).clock_stepped_at);
    f.a := a;
    PERFORM guardwire.store_fold(f, l, read_at);
    UPDATE guardwire.accounts AS o SET carried_peak = NULL, carried_flow = NULL
    WHERE o.user_id = of_account AND o.carried_peak IS NOT NULL AND NOT carried.is_lost;
    PERFORM guardwire.note_peak(held.a, a, concat('peak-', revision), read_at, revision, 0);
END
$$;

-- The peak that release 0.1.0 knew, where its row is gone. A row that is on record is judged by the rules of now: it may be
-- implausible. While every cash flow is on record, the row that is gone was before all of them, and is scaled by them.
CREATE OR REPLACE FUNCTION guardwire.carry_peak(held guardwire.accounts, f guardwire.equity_fold) RETURNS guardwire.carried_peak
LANGUAGE plpgsql STABLE AS $$
DECLARE
    carried guardwire.carried_peak := ROW(NULL, false)::guardwire.carried_peak;
    gone guardwire.reading;
    is_on_record boolean;
    flow numeric;
BEGIN
    IF (held.carried_peak > 0) IS NOT TRUE THEN
        RETURN carried;
    END IF;
    SELECT bool_or(h.equity - h.flow = held.carried_peak), sum(h.cash_flow) INTO is_on_record, flow
    FROM (SELECT e.equity, e.cash_flow, sum(e.cash_flow) OVER (ORDER BY e.at, e.revision, e.ordinal) AS flow
          FROM guardwire.equity_history(held.user_id, '{}', 0) AS e) AS h;
    IF is_on_record THEN
        RETURN carried;
    END IF;
    carried.is_lost := held.carried_flow <> 0 AND coalesce(flow, 0) <> held.carried_flow;
    IF NOT carried.is_lost THEN
        gone.equity := held.carried_peak;
        gone.at := '1970-01-01 00:00:00+00';
        gone.arrived_at := gone.at;
        carried.peak := guardwire.value_of_older(f, gone);
    END IF;
    RETURN carried;
END
$$;

-- Gives each guard that is critical one open breach, the oldest there is, and ends all other open breaches. Rows that are
-- applied one after the other leave it so; history, or derived rows that somebody altered, may not.
CREATE OR REPLACE FUNCTION guardwire.settle_breaches(account uuid, cause text, now_at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    a guardwire.accounts;
    countdown interval := make_interval(secs => (guardwire.limits_of(account)).countdown_seconds);
    begun timestamptz;
BEGIN
    DELETE FROM guardwire.breaches AS b USING guardwire.breaches AS o
    WHERE b.user_id = account AND b.cleared_at IS NULL AND o.user_id = account AND o.cleared_at IS NULL AND b.kind = o.kind
      AND guardwire.fold(b.symbol) IS NOT DISTINCT FROM guardwire.fold(o.symbol)
      AND b.condition_type IS NOT DISTINCT FROM o.condition_type
      AND (o.raised_at, o.breach_id) < (b.raised_at, b.breach_id);
    SELECT o.* INTO a FROM guardwire.accounts AS o WHERE o.user_id = account;
    IF a.drawdown_level = 'critical' THEN
        SELECT b.raised_at INTO begun FROM guardwire.breaches AS b
        WHERE b.user_id = account AND b.kind = 'drawdown' AND b.cleared_at IS NULL;
        IF NOT FOUND THEN
            begun := least(a.liquidation_at - countdown, a.equity_at, now_at);
            PERFORM guardwire.raise_breach(account, cause, 'drawdown', begun, a.drawdown_pct, NULL, NULL);
        END IF;
        -- A countdown never begins anew.
        UPDATE guardwire.accounts AS o SET liquidation_at = least(o.liquidation_at, begun + countdown) WHERE o.user_id = account;
    ELSE
        UPDATE guardwire.accounts AS o SET liquidation_at = NULL WHERE o.user_id = account AND o.liquidation_at IS NOT NULL;
        PERFORM guardwire.clear_breach(account, 'drawdown', least(a.equity_at, now_at), NULL, NULL);
    END IF;
    UPDATE guardwire.breaches AS b SET cleared_at = greatest(now_at, b.raised_at)
    WHERE b.user_id = account AND b.kind = 'market' AND b.cleared_at IS NULL
      AND NOT EXISTS (SELECT FROM guardwire.market_alerts AS m
                      WHERE m.user_id = account AND guardwire.fold(m.symbol) = guardwire.fold(b.symbol)
                        AND m.condition_type = b.condition_type AND m.alert_type = 'critical');
    PERFORM guardwire.raise_breach(account, m.log_id::text, 'market', m.detected_at, coalesce(m.gap_pct, m.spread_pct),
                                   m.symbol, m.condition_type)
    FROM guardwire.market_alerts AS m
    WHERE m.user_id = account AND m.alert_type = 'critical';
END
$$;

-- Copies the newest rate of each pair, all instruments and all limits from the platform's tables, with rows that were written
-- past the triggers.
CREATE OR REPLACE FUNCTION guardwire.copy_reference() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- Rows up to this one are older than the tables as they are read below.
    last_nth bigint := guardwire.last_nth();
BEGIN
    PERFORM guardwire.refuse_hidden_rows();
    DELETE FROM guardwire.contracts;
    INSERT INTO guardwire.contracts (symbol, contract_size, quote_currency)
    SELECT c.* FROM public.instruments AS i CROSS JOIN LATERAL guardwire.read_contract(guardwire.parse_copy('i', guardwire.copy_of('i', i))) AS c
    WHERE c.symbol IS NOT NULL
    ON CONFLICT (symbol) DO NOTHING;
    DELETE FROM guardwire.limits AS l WHERE l.user_id <> guardwire.no_account();
    INSERT INTO guardwire.limits
    SELECT r.* FROM public.guard_limits AS l
    CROSS JOIN LATERAL guardwire.read_limits(guardwire.read_user(l.user_id::text), guardwire.parse_copy('g', guardwire.copy_of('g', l)), last_nth) AS r
    WHERE r.user_id IS NOT NULL
    ON CONFLICT (user_id) DO NOTHING;
    DELETE FROM guardwire.set_aside AS s
    WHERE s.nth <= last_nth
      AND (s.source IN ('g', 'i', 'x') OR (s.account = guardwire.no_account() AND s.sqlstate = '42703'));
    WITH newest AS (
        SELECT DISTINCT ON (r.base, r.quote) r.base, r.quote, r.rate, r.created_at, least(r.created_at, clock_timestamp()) AS at
        FROM (SELECT guardwire.read_code(f.base::text, 16) AS base, guardwire.read_code(f.quote::text, 16) AS quote,
                     guardwire.read_number(to_jsonb(f.rate)) AS rate, guardwire.read_time(to_jsonb(f) ->> 'created_at') AS created_at
              FROM public.fx_rates AS f) AS r
        WHERE r.base IS NOT NULL AND r.quote IS NOT NULL AND r.rate > 0 AND r.created_at IS NOT NULL
        ORDER BY r.base, r.quote, r.created_at DESC
    )
    INSERT INTO guardwire.fx_current AS c (base, quote, rate, as_of)
    SELECT n.base, n.quote, n.rate, n.at FROM newest AS n
    -- Among rates of one time the one that arrived last is current, and no table records which one that is. The same holds for rates
    -- after their clock went back.
    ON CONFLICT ON CONSTRAINT fx_current_pkey DO UPDATE SET rate = excluded.rate, as_of = excluded.as_of
        WHERE c.clock_stepped_at IS NULL AND (c.as_of <> excluded.as_of OR NOT EXISTS (
            SELECT FROM public.fx_rates AS f
            WHERE guardwire.read_code(f.base::text, 16) = c.base AND guardwire.read_code(f.quote::text, 16) = c.quote
              AND guardwire.read_number(to_jsonb(f.rate)) = c.rate
              AND least(guardwire.read_time(to_jsonb(f) ->> 'created_at'), c.as_of) = c.as_of));
END
$$;

-- Reads the history of one account that waits for it and that nobody else is reading; its id, or null when none waits. Accounts
-- with rows in the inbox come first, because each batch walks over these rows.
CREATE OR REPLACE FUNCTION guardwire.backfill_next() RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    next_account uuid;
BEGIN
    SELECT a.user_id INTO next_account
    FROM (SELECT o.account, min(o.nth) AS nth
          FROM (SELECT i.account, i.nth FROM guardwire.inbox AS i
                WHERE i.nth > guardwire.scan_from() ORDER BY i.nth LIMIT 1000) AS o
          GROUP BY o.account) AS w
    JOIN guardwire.accounts AS a ON a.user_id = w.account AND NOT a.ready
    ORDER BY w.nth LIMIT 1 FOR UPDATE OF a SKIP LOCKED;
    IF next_account IS NULL THEN
        SELECT a.user_id INTO next_account FROM guardwire.accounts AS a WHERE NOT a.ready LIMIT 1 FOR UPDATE SKIP LOCKED;
    END IF;
    IF next_account IS NOT NULL THEN
        PERFORM guardwire.read_history(next_account);
    ELSIF NOT EXISTS (SELECT FROM guardwire.accounts AS a WHERE NOT a.ready) THEN
        UPDATE guardwire.backfill SET done = true, done_at = clock_timestamp() WHERE listed AND NOT done;
    END IF;
    RETURN next_account;
END
$$;

-- Makes an account wait for its history: until it is read anew, the account is not ready.
CREATE OR REPLACE FUNCTION guardwire.unready(of_account uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    users uuid[];
    revisions bigint[];
BEGIN
    IF NOT guardwire.log_users_are_uuids() THEN
        PERFORM guardwire.list_log_users();
    END IF;
    SELECT array_agg(a.user_id), array_agg(a.revision) INTO users, revisions FROM guardwire.lock_accounts(ARRAY[of_account]) AS a;
    UPDATE guardwire.accounts AS a SET ready = false WHERE a.user_id = of_account;
    PERFORM guardwire.send_notices(users, revisions);
END
$$;
