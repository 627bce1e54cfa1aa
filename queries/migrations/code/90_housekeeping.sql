-- Changes that time alone brings about, made into commits. Any node may call these functions, as often as it likes.

-- Ends market alerts whose window has passed, notes platforms that fell silent and positions that they no longer mention, ages equity,
-- looks at the attendance of armed accounts, and escalates alerts that nobody acknowledged. Whether messages are due, too, and in how
-- many seconds attendance or an alert is due next. When nothing is due this reads a few small indexes and nothing else.
CREATE OR REPLACE FUNCTION guardwire.housekeep() RETURNS TABLE (
    alerts_ended integer, fell_silent integer, unconfirmed integer, alerts_escalated integer, deliveries_due boolean,
    next_in_seconds double precision
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
    due uuid[];
    -- Read once: an index is not used for an expression that changes within a statement.
    now_at timestamptz := clock_timestamp();
BEGIN
    alerts_ended := 0;
    fell_silent := 0;
    unconfirmed := 0;
    PERFORM guardwire.correct_due_times(now_at);
    IF EXISTS (SELECT FROM guardwire.market_alerts AS m WHERE m.expires_at <= now_at)
       OR EXISTS (SELECT FROM guardwire.accounts AS a WHERE a.sync_due_at <= now_at)
       OR EXISTS (SELECT FROM guardwire.accounts AS a WHERE a.equity_due_at <= now_at) THEN
        due := guardwire.lock_due(now_at, 1000);
        alerts_ended := guardwire.end_alerts(due, now_at);
        unconfirmed := guardwire.note_ghosts(due, now_at);
        fell_silent := guardwire.note_silence(due, now_at);
        PERFORM guardwire.note_age(due, now_at);
    END IF;
    PERFORM guardwire.note_attendance(now_at);
    alerts_escalated := guardwire.escalate_due(now_at);
    deliveries_due := EXISTS (SELECT FROM guardwire.deliveries AS d WHERE d.finished_at IS NULL AND d.due_at <= clock_timestamp())
                      AND guardwire.delivers();
    next_in_seconds := extract(epoch FROM least((SELECT min(a.next_at) FROM guardwire.alerts AS a),
                                                (SELECT min(t.due_at) FROM guardwire.attendance AS t)) - clock_timestamp());
    RETURN NEXT;
END
$$;

-- Corrects accounts whose last sync arrived in the future: the database's clock was ahead then, and silence would be noted
-- that much too late.
CREATE OR REPLACE FUNCTION guardwire.correct_due_times(now_at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    latest timestamptz := now_at + make_interval(
        secs => 5 + (SELECT l.sync_overdue_seconds FROM guardwire.limits AS l WHERE l.user_id = guardwire.no_account()));
BEGIN
    UPDATE guardwire.accounts AS a SET last_sync_arrived_at = now_at, sync_due_at = now_at
    WHERE a.sync_due_at > latest AND a.last_sync_arrived_at > now_at + interval '5 seconds';
END
$$;

-- Locks accounts with something due, in one pass and without waiting: an account that somebody else locked is due again next
-- time. An account with rows in the inbox is due again as well: these rows may be the sync whose absence would be noted.
CREATE OR REPLACE FUNCTION guardwire.lock_due(now_at timestamptz, most integer) RETURNS uuid[] LANGUAGE plpgsql AS $$
DECLARE
    scan_from bigint := guardwire.scan_from();
BEGIN
    RETURN (
        SELECT array_agg(locked.user_id)
        FROM (SELECT a.user_id FROM guardwire.accounts AS a
              WHERE a.ready AND a.user_id = ANY (ARRAY(
                  SELECT m.user_id FROM guardwire.market_alerts AS m WHERE m.expires_at <= now_at
                  UNION
                  (SELECT o.user_id FROM guardwire.accounts AS o WHERE o.sync_due_at <= now_at ORDER BY o.sync_due_at LIMIT most)
                  UNION
                  (SELECT o.user_id FROM guardwire.accounts AS o WHERE o.equity_due_at <= now_at ORDER BY o.equity_due_at LIMIT most)
                  LIMIT most))
                AND NOT EXISTS (SELECT FROM guardwire.inbox AS i WHERE i.account = a.user_id AND i.nth > scan_from)
              ORDER BY a.user_id
              FOR UPDATE OF a SKIP LOCKED) AS locked);
END
$$;

CREATE OR REPLACE FUNCTION guardwire.end_alerts(due uuid[], now_at timestamptz) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    users uuid[];
    revisions bigint[];
    ended integer;
BEGIN
    SELECT array_agg(a.user_id), array_agg(a.revision) INTO users, revisions
    FROM guardwire.lock_accounts(ARRAY(
        SELECT m.user_id FROM guardwire.market_alerts AS m WHERE m.user_id = ANY (due) AND m.expires_at <= now_at)) AS a;
    PERFORM guardwire.clear_breach(m.user_id, 'market', m.expires_at, m.symbol, m.condition_type)
    FROM guardwire.market_alerts AS m
    WHERE m.user_id = ANY (users) AND m.expires_at <= now_at AND m.alert_type = 'critical';
    DELETE FROM guardwire.market_alerts AS m WHERE m.user_id = ANY (users) AND m.expires_at <= now_at;
    GET DIAGNOSTICS ended = ROW_COUNT;
    PERFORM guardwire.send_notices(users, revisions);
    RETURN ended;
END
$$;

-- After how long without a sync an account is silent, and a position unconfirmed.
CREATE OR REPLACE FUNCTION guardwire.overdue_of(account uuid) RETURNS interval LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN make_interval(secs => (guardwire.limits_of(account)).sync_overdue_seconds);
END
$$;

-- Marks positions that the platform no longer mentions while it goes on syncing others: a reversal, a swap or a partial close may
-- have given the position another ticket. The next row about one ends the mark, and until then no row of it is plain.
CREATE OR REPLACE FUNCTION guardwire.note_ghosts(due uuid[], now_at timestamptz) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    ghosts guardwire.positions[] := ARRAY(
        SELECT p
        FROM guardwire.accounts AS a
        CROSS JOIN LATERAL guardwire.overdue_of(a.user_id) AS o (overdue)
        JOIN guardwire.positions AS p ON p.user_id = a.user_id AND p.is_open AND p.unconfirmed_since IS NULL
        WHERE a.user_id = ANY (due) AND a.sync_due_at <= now_at AND a.last_sync_at - p.state_at > o.overdue);
    users uuid[];
    revisions bigint[];
BEGIN
    IF cardinality(ghosts) = 0 THEN
        RETURN 0;
    END IF;
    SELECT array_agg(a.user_id), array_agg(a.revision) INTO users, revisions
    FROM guardwire.lock_accounts(ARRAY(SELECT g.user_id FROM unnest(ghosts) AS g)) AS a;
    UPDATE guardwire.positions AS p SET unconfirmed_since = p.state_at, fingerprint = NULL
    FROM unnest(ghosts) AS g WHERE p.user_id = g.user_id AND p.ticket = g.ticket;
    PERFORM guardwire.add_events(ARRAY(
        SELECT ROW(g.user_id, concat('unconfirmed-', g.position_id, '-', guardwire.unix_us(g.state_at)), 'divergence_detected', now_at,
                   l.revision, row_number() OVER (PARTITION BY g.user_id ORDER BY g.ticket), g.symbol, g.ticket, g.matched, NULL, NULL,
                   'position_unconfirmed', 'the platform no longer mentions it')::guardwire.events
        FROM unnest(ghosts) AS g JOIN unnest(users, revisions) AS l (user_id, revision) ON l.user_id = g.user_id));
    PERFORM guardwire.send_notices(users, revisions);
    RETURN cardinality(ghosts);
END
$$;

-- Looks at accounts whose sync is due. An account without a sync for too long becomes silent; each other one is due again at the
-- time when it would become silent. That time is never later than the last arrival plus the account's limit, also when the clock
-- went back in between.
CREATE OR REPLACE FUNCTION guardwire.note_silence(due uuid[], now_at timestamptz) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    overdue uuid[];
    users uuid[];
    revisions bigint[];
BEGIN
    WITH looked AS (
        SELECT a.user_id, coalesce(a.last_sync_arrived_at, a.last_sync_at) + o.overdue AS overdue_at,
               -- By the times of rows, because the account's clock may be behind this one.
               least(o.overdue - (a.last_sync_at - (SELECT min(p.state_at) FROM guardwire.positions AS p
                                                    WHERE p.user_id = a.user_id AND p.is_open AND p.unconfirmed_since IS NULL)),
                     o.overdue) AS ghost_in
        FROM guardwire.accounts AS a CROSS JOIN LATERAL guardwire.overdue_of(a.user_id) AS o (overdue)
        WHERE a.user_id = ANY (due) AND a.sync_due_at <= now_at
    ), later AS (
        UPDATE guardwire.accounts AS a
        SET sync_due_at = least(looked.overdue_at, now_at + greatest(looked.ghost_in, interval '1 second'))
        FROM looked WHERE a.user_id = looked.user_id AND looked.overdue_at > now_at
    )
    SELECT array_agg(looked.user_id) INTO overdue FROM looked WHERE coalesce(looked.overdue_at, '-infinity') <= now_at;
    IF overdue IS NULL THEN
        RETURN 0;
    END IF;
    SELECT array_agg(a.user_id), array_agg(a.revision) INTO users, revisions FROM guardwire.lock_accounts(overdue) AS a;
    UPDATE guardwire.accounts AS a SET source = 'silent', sync_due_at = NULL WHERE a.user_id = ANY (users);
    PERFORM guardwire.send_notices(users, revisions);
    RETURN cardinality(users);
END
$$;

-- Looks at accounts whose equity is due: doubted rows are confirmed, equity becomes overdue, and the others are due again when they
-- would be.
CREATE OR REPLACE FUNCTION guardwire.note_age(due uuid[], now_at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    users uuid[];
    revisions bigint[];
BEGIN
    SELECT array_agg(l.user_id), array_agg(l.revision) INTO users, revisions
    FROM guardwire.lock_accounts(ARRAY(
        SELECT a.user_id FROM guardwire.accounts AS a
        WHERE a.user_id = ANY (due) AND a.equity_due_at <= now_at
          AND guardwire.has_aged(a, guardwire.limits_of(a.user_id), now_at))) AS l;
    PERFORM guardwire.age_equity(a.user_id, now_at) FROM guardwire.accounts AS a
    WHERE a.user_id = ANY (due) AND a.equity_due_at <= now_at;
    PERFORM guardwire.send_notices(users, revisions);
END
$$;

-- Deletes some of what is kept for a while only; how many rows.
CREATE OR REPLACE FUNCTION guardwire.prune(most integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
    kept_since timestamptz := clock_timestamp() - make_interval(hours => (SELECT c.arrival_hours FROM guardwire.configuration AS c));
    log_since timestamptz := clock_timestamp() - interval '30 days';
    deleted integer;
    more integer;
BEGIN
    DELETE FROM guardwire.arrivals AS a WHERE a.ctid = ANY (ARRAY(
        SELECT o.ctid FROM guardwire.arrivals AS o
        WHERE o.revision < guardwire.unix_us(kept_since)
          -- An equity row without a usable time counts at its arrival for ever.
          AND (o.source = 'l' OR EXISTS (SELECT FROM public.equity_snapshots AS e
                                         WHERE e.id = o.log_id AND guardwire.read_time(guardwire.copy_of('e', e) ->> 'created_at') IS NOT NULL))
        LIMIT most));
    GET DIAGNOSTICS deleted = ROW_COUNT;
    DELETE FROM guardwire.ignored_rows AS i WHERE i.ctid = ANY (ARRAY(
        SELECT o.ctid FROM guardwire.ignored_rows AS o WHERE o.noted_at < kept_since LIMIT most));
    GET DIAGNOSTICS more = ROW_COUNT;
    deleted := deleted + more;
    DELETE FROM guardwire.deliveries AS d WHERE d.ctid = ANY (ARRAY(
        SELECT o.ctid FROM guardwire.deliveries AS o WHERE o.finished_at < kept_since LIMIT most));
    GET DIAGNOSTICS more = ROW_COUNT;
    deleted := deleted + more;
    -- The log of an alert that is in the state stays.
    DELETE FROM guardwire.alert_log AS g WHERE g.ctid = ANY (ARRAY(
        SELECT o.ctid FROM guardwire.alert_log AS o
        WHERE o.at < log_since
          AND NOT EXISTS (SELECT FROM guardwire.alerts AS a
                          WHERE a.alert_id = o.alert_id AND (a.resolved_at IS NULL OR a.acknowledged_at IS NULL))
        LIMIT most));
    GET DIAGNOSTICS more = ROW_COUNT;
    RETURN deleted + more;
END
$$;
