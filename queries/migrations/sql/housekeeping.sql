-- What only time brings about, made into commits; any node may call it, as often as it likes.

-- Ends alerts whose window has passed, notes platforms that fell silent, and applies what the capture could not. When
-- nothing is due this reads three small indexes and nothing else.
CREATE FUNCTION guardwire.housekeep() RETURNS TABLE (alerts_ended integer, fell_silent integer, notes_applied integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    alerts_ended := 0;
    fell_silent := 0;
    notes_applied := 0;
    IF EXISTS (SELECT FROM guardwire.market_alerts AS m WHERE m.expires_at <= clock_timestamp()) THEN
        alerts_ended := guardwire.end_alerts();
    END IF;
    IF EXISTS (SELECT FROM guardwire.accounts AS a WHERE a.sync_due_at <= clock_timestamp()) THEN
        fell_silent := guardwire.note_silence();
    END IF;
    IF EXISTS (SELECT FROM guardwire.capture_notes AS n WHERE n.given_up_at IS NULL) THEN
        notes_applied := guardwire.apply_notes();
    END IF;
    RETURN NEXT;
END
$$;

CREATE FUNCTION guardwire.end_alerts() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    users uuid[];
    revisions bigint[];
    ended integer;
BEGIN
    SELECT array_agg(a.user_id), array_agg(a.revision) INTO users, revisions
    FROM guardwire.lock_accounts((SELECT array_agg(d.user_id) FROM (
        SELECT DISTINCT m.user_id FROM guardwire.market_alerts AS m WHERE m.expires_at <= clock_timestamp() LIMIT 1000) AS d)) AS a;
    PERFORM guardwire.clear_breach(m.user_id, 'market', m.expires_at, m.symbol, m.condition_type)
    FROM guardwire.market_alerts AS m
    WHERE m.user_id = ANY (users) AND m.expires_at <= clock_timestamp() AND m.alert_type = 'critical';
    DELETE FROM guardwire.market_alerts AS m WHERE m.user_id = ANY (users) AND m.expires_at <= clock_timestamp();
    GET DIAGNOSTICS ended = ROW_COUNT;
    PERFORM guardwire.notify_nodes(users, revisions);
    RETURN ended;
END
$$;

-- Looks at the accounts whose next look is due: those without a sync for too long are silent, the others are looked at
-- again when they would be.
CREATE FUNCTION guardwire.note_silence() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    overdue uuid[];
    users uuid[];
    revisions bigint[];
BEGIN
    WITH due AS (
        SELECT a.user_id FROM guardwire.accounts AS a WHERE a.sync_due_at <= clock_timestamp()
        ORDER BY a.user_id LIMIT 1000 FOR UPDATE SKIP LOCKED
    ), looked AS (
        SELECT a.user_id, coalesce(a.last_sync_arrived_at, a.last_sync_at)
                          + make_interval(secs => coalesce(l.sync_overdue_seconds, 60)) AS overdue_at
        FROM due JOIN guardwire.accounts AS a USING (user_id) LEFT JOIN public.guard_limits AS l USING (user_id)
    ), later AS (
        UPDATE guardwire.accounts AS a SET sync_due_at = looked.overdue_at
        FROM looked WHERE a.user_id = looked.user_id AND looked.overdue_at > clock_timestamp()
    )
    SELECT array_agg(looked.user_id) INTO overdue FROM looked WHERE looked.overdue_at <= clock_timestamp();
    IF overdue IS NULL THEN
        RETURN 0;
    END IF;
    SELECT array_agg(a.user_id), array_agg(a.revision) INTO users, revisions FROM guardwire.lock_accounts(overdue) AS a;
    UPDATE guardwire.accounts AS a SET source = 'silent', sync_due_at = NULL WHERE a.user_id = ANY (users);
    PERFORM guardwire.notify_nodes(users, revisions);
    RETURN cardinality(users);
END
$$;

-- Applies notes in their order, one by one; a row that cannot be applied is kept with its error, and stands in nobody's way.
CREATE FUNCTION guardwire.apply_notes() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    n guardwire.capture_notes;
    applied integer := 0;
BEGIN
    -- One node at a time, for their order matters.
    IF NOT pg_try_advisory_xact_lock(1735750773) THEN
        RETURN 0;
    END IF;
    FOR n IN SELECT o.* FROM guardwire.capture_notes AS o WHERE o.given_up_at IS NULL ORDER BY o.id LIMIT 500 LOOP
        BEGIN
            PERFORM guardwire.apply_tokens(ARRAY[n.source || CASE WHEN n.inserted THEN 'i' ELSE 'u' END || n.row_key]);
            DELETE FROM guardwire.capture_notes AS o WHERE o.id = n.id;
            applied := applied + 1;
        EXCEPTION WHEN OTHERS THEN
            UPDATE guardwire.capture_notes AS o
            SET attempts = o.attempts + 1, sqlstate = SQLSTATE, message = left(SQLERRM, 500),
                given_up_at = CASE WHEN o.attempts >= 4 THEN clock_timestamp() END
            WHERE o.id = n.id;
        END;
    END LOOP;
    RETURN applied;
END
$$;

-- Forgets what is kept for a while only.
CREATE FUNCTION guardwire.prune() RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM guardwire.arrivals AS a
    WHERE a.revision < (extract(epoch FROM clock_timestamp() - make_interval(hours => (SELECT c.arrival_hours FROM guardwire.configuration AS c))) * 1000000)::bigint
      AND NOT EXISTS (SELECT FROM guardwire.accounts AS o WHERE NOT o.ready)
      -- An equity row without a usable time counts at its arrival for ever.
      AND (a.source = 'l' OR EXISTS (SELECT FROM guardwire.equity_rows() AS e WHERE e.id = a.log_id AND e.at IS NOT NULL));
    DELETE FROM guardwire.ignored_rows AS i
    WHERE i.noted_at < clock_timestamp() - make_interval(hours => (SELECT c.arrival_hours FROM guardwire.configuration AS c))
$$;
