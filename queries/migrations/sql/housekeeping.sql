-- What only time brings about, made into commits; any node may call it, as often as it likes.

-- Ends alerts whose window has passed, notes platforms that fell silent, and forgets what is kept for a while only. When
-- nothing is due this reads a few small indexes and nothing else. notes_due says whether guardwire.apply_notes has work:
-- that is another transaction, because its locks are taken in another order.
CREATE FUNCTION guardwire.housekeep() RETURNS TABLE (alerts_ended integer, fell_silent integer, notes_due boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = warning SET trace_notify = off SET jit = off SET enable_seqscan = off AS $$
DECLARE
    due uuid[];
    -- No index is used with what changes within a statement, so the clock is read here.
    now_at timestamptz := clock_timestamp();
BEGIN
    alerts_ended := 0;
    fell_silent := 0;
    PERFORM guardwire.note_left_rows();
    IF EXISTS (SELECT FROM guardwire.market_alerts AS m WHERE m.expires_at <= now_at)
       OR EXISTS (SELECT FROM guardwire.accounts AS a WHERE a.sync_due_at <= now_at) THEN
        due := guardwire.lock_due(now_at, 1000);
        alerts_ended := guardwire.end_alerts(due, now_at);
        fell_silent := guardwire.note_silence(due, now_at);
    END IF;
    notes_due := EXISTS (SELECT FROM guardwire.capture_notes AS n WHERE n.given_up_at IS NULL);
    -- Once a minute is enough for what is kept for days.
    IF extract(epoch FROM clock_timestamp())::bigint % 60 < 3 THEN
        PERFORM guardwire.prune(5000);
    END IF;
    RETURN NEXT;
END
$$;

-- Makes notes of listed rows whose writers have committed and whose capture could not even leave a note.
CREATE FUNCTION guardwire.note_left_rows() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    tokens text[];
BEGIN
    WITH taken AS (
        DELETE FROM guardwire.pending AS p WHERE p.xid = ANY (ARRAY(SELECT DISTINCT o.xid FROM guardwire.pending AS o LIMIT 1000))
        RETURNING p.xid, p.nth, p.token
    )
    SELECT array_agg(t.token ORDER BY t.nth) INTO tokens FROM taken AS t;
    IF tokens IS NOT NULL THEN
        PERFORM guardwire.note_rows(tokens, '57000', 'the capture was cut short');
    END IF;
END
$$;

-- Locks accounts with something due, in one pass and without waiting: who is locked by a writer is due again next time.
CREATE FUNCTION guardwire.lock_due(now_at timestamptz, most integer) RETURNS uuid[] LANGUAGE plpgsql AS $$
BEGIN
    RETURN (
        SELECT array_agg(locked.user_id)
        FROM (SELECT a.user_id FROM guardwire.accounts AS a
              WHERE a.ready AND a.user_id = ANY (ARRAY(
                  SELECT m.user_id FROM guardwire.market_alerts AS m WHERE m.expires_at <= now_at
                  UNION
                  (SELECT o.user_id FROM guardwire.accounts AS o WHERE o.sync_due_at <= now_at ORDER BY o.sync_due_at LIMIT most)
                  LIMIT most))
              ORDER BY a.user_id
              FOR UPDATE SKIP LOCKED) AS locked);
END
$$;

CREATE FUNCTION guardwire.end_alerts(due uuid[], now_at timestamptz) RETURNS integer LANGUAGE plpgsql AS $$
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
    PERFORM guardwire.notify_nodes(users, revisions);
    RETURN ended;
END
$$;

-- Looks at the accounts whose next look is due: those without a sync for too long are silent, the others are looked at
-- again when they would be.
CREATE FUNCTION guardwire.note_silence(due uuid[], now_at timestamptz) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    overdue uuid[];
    users uuid[];
    revisions bigint[];
BEGIN
    WITH looked AS (
        SELECT a.user_id, coalesce(a.last_sync_arrived_at, a.last_sync_at)
                          + make_interval(secs => coalesce(l.sync_overdue_seconds, 60)) AS overdue_at
        FROM guardwire.accounts AS a LEFT JOIN public.guard_limits AS l USING (user_id)
        WHERE a.user_id = ANY (due) AND a.sync_due_at <= now_at
    ), later AS (
        UPDATE guardwire.accounts AS a SET sync_due_at = looked.overdue_at
        FROM looked WHERE a.user_id = looked.user_id AND looked.overdue_at > now_at
    )
    SELECT array_agg(looked.user_id) INTO overdue FROM looked WHERE coalesce(looked.overdue_at, '-infinity') <= now_at;
    IF overdue IS NULL THEN
        RETURN 0;
    END IF;
    SELECT array_agg(a.user_id), array_agg(a.revision) INTO users, revisions FROM guardwire.lock_accounts(overdue) AS a;
    UPDATE guardwire.accounts AS a SET source = 'silent', sync_due_at = NULL WHERE a.user_id = ANY (users);
    PERFORM guardwire.notify_nodes(users, revisions);
    RETURN cardinality(users);
END
$$;

-- Forgets some of what is kept for a while only.
CREATE FUNCTION guardwire.prune(most integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = warning SET trace_notify = off SET jit = off AS $$
DECLARE
    kept_since timestamptz := clock_timestamp() - make_interval(hours => (SELECT c.arrival_hours FROM guardwire.configuration AS c));
    forgotten integer;
    more integer;
BEGIN
    -- While an account waits for its history, what arrived is its queue.
    IF EXISTS (SELECT FROM guardwire.accounts AS o WHERE NOT o.ready) THEN
        RETURN 0;
    END IF;
    DELETE FROM guardwire.arrivals AS a WHERE a.ctid = ANY (ARRAY(
        SELECT o.ctid FROM guardwire.arrivals AS o
        WHERE o.revision < (extract(epoch FROM kept_since) * 1000000)::bigint
          -- An equity row without a usable time counts at its arrival for ever.
          AND (o.source = 'l' OR EXISTS (SELECT FROM guardwire.equity_rows() AS e WHERE e.id = o.log_id AND e.at IS NOT NULL))
        LIMIT most));
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    DELETE FROM guardwire.ignored_rows AS i WHERE i.ctid = ANY (ARRAY(
        SELECT o.ctid FROM guardwire.ignored_rows AS o WHERE o.noted_at < kept_since LIMIT most));
    GET DIAGNOSTICS more = ROW_COUNT;
    RETURN forgotten + more;
END
$$;
