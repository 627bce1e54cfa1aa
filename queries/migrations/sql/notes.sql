-- Notes: rows that the capture could not apply in their writer's transaction are applied by a node.

-- Applies notes in their order: a batch at once, and one by one when that fails. A row that cannot be applied is kept with
-- its error and stands in nobody's way; one that was only unlucky is tried again, but not for ever.
CREATE FUNCTION guardwire.apply_notes(most integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET client_min_messages = warning SET trace_notify = off SET lock_timeout = '5s' AS $$
DECLARE
    notes guardwire.capture_notes[];
    n guardwire.capture_notes;
    applied integer := 0;
BEGIN
    -- One node at a time, for their order matters. Writers that leave notes are not in the way of this mode; the vacuum of
    -- this table is, and then the next turn comes soon enough.
    BEGIN
        LOCK TABLE guardwire.capture_notes IN SHARE UPDATE EXCLUSIVE MODE NOWAIT;
    EXCEPTION WHEN lock_not_available THEN
        RETURN 0;
    END;
    notes := ARRAY(SELECT o FROM guardwire.capture_notes AS o WHERE o.given_up_at IS NULL ORDER BY o.id LIMIT most);
    BEGIN
        PERFORM guardwire.apply_tokens(ARRAY(SELECT guardwire.note_token(o) FROM unnest(notes) AS o ORDER BY o.id));
        DELETE FROM guardwire.capture_notes AS o USING unnest(notes) AS done WHERE o.id = done.id;
        RETURN cardinality(notes);
    EXCEPTION WHEN OTHERS THEN
        applied := 0;
    END;
    -- In the one order that writers take locks in; who holds one for long is waited for at the next turn.
    BEGIN
        PERFORM guardwire.lock_accounts(guardwire.noted_users(notes));
    EXCEPTION WHEN lock_not_available OR serialization_failure OR deadlock_detected THEN
        RETURN 0;
    END;
    FOREACH n IN ARRAY notes LOOP
        applied := applied + guardwire.apply_note(n);
    END LOOP;
    RETURN applied;
END
$$;

CREATE FUNCTION guardwire.note_token(n guardwire.capture_notes) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT n.source || CASE WHEN n.inserted THEN 'i' ELSE 'u' END || n.row_key
$$;

-- Whose rows these notes are about, as far as can be told.
CREATE FUNCTION guardwire.noted_users(notes guardwire.capture_notes[]) RETURNS uuid[] LANGUAGE sql STABLE AS $$
    SELECT array_agg(noted.user_id)
    FROM (SELECT guardwire.read_user(l.user_id) AS user_id
          FROM unnest(notes) AS n JOIN public.reconciliation_logs AS l ON l.id = guardwire.read_user(n.row_key) WHERE n.source = 'l'
          UNION
          SELECT guardwire.read_user(e.user_id)
          FROM unnest(notes) AS n JOIN public.equity_snapshots AS e ON e.id = guardwire.read_user(n.row_key) WHERE n.source = 'e'
          UNION
          SELECT guardwire.read_user(n.row_key) FROM unnest(notes) AS n WHERE n.source = 'g') AS noted
$$;

-- Applies one note; 1 when it could.
CREATE FUNCTION guardwire.apply_note(n guardwire.capture_notes) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    state text;
    reason text;
BEGIN
    BEGIN
        PERFORM guardwire.apply_tokens(ARRAY[guardwire.note_token(n)]);
        DELETE FROM guardwire.capture_notes AS o WHERE o.id = n.id;
        RETURN 1;
    EXCEPTION WHEN OTHERS THEN
        state := SQLSTATE;
        reason := SQLERRM;
    END;
    -- What was locked, lost a race or found no room may be luckier; anything else is the row's fault.
    UPDATE guardwire.capture_notes AS o
    SET attempts = o.attempts + 1, sqlstate = state, message = left(reason, 500),
        given_up_at = CASE WHEN left(state, 2) NOT IN ('40', '53', '55', '57') AND o.attempts >= 4 THEN clock_timestamp() END
    WHERE o.id = n.id;
    RETURN 0;
END
$$;
