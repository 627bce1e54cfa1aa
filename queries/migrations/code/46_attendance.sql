-- Attendance: bots prove by beats that somebody watches an armed account, and an alarm is raised when none does.
--
-- Beats move no revision. The state shows guardwire.attendance and the attendants that are there; both change under the lock of the
-- account. Nobody waits for the lock of an account while holding one of a row of attendants.

-- When time changes an attendance next: a lease or the grace ends, or the account is armed again. Null when it never does.
CREATE OR REPLACE FUNCTION guardwire.attendance_due(t guardwire.attendance, now_at timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
    SELECT least((SELECT min(b.lease_until) FROM guardwire.attendants AS b WHERE b.user_id = (t).user_id AND b.left_at IS NULL),
                 CASE WHEN (t).status = 'unattended' AND (t).grace_until > now_at THEN (t).grace_until END,
                 CASE WHEN (t).status = 'disarmed' THEN (SELECT r.until FROM guardwire.arming AS r WHERE r.user_id = (t).user_id) END)
$$;

-- Makes the shown attendance of a locked account anew from its arming and its attendants.
CREATE OR REPLACE FUNCTION guardwire.refresh_attendance(account uuid, now_at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    arming guardwire.arming;
    shown guardwire.attendance;
    last_beat timestamptz;
    is_attended boolean;
    now_status text;
BEGIN
    SELECT r.* INTO arming FROM guardwire.arming AS r WHERE r.user_id = account;
    SELECT t.* INTO shown FROM guardwire.attendance AS t WHERE t.user_id = account;
    SELECT max(t.last_beat_at), coalesce(bool_or(t.left_at IS NULL), false) INTO last_beat, is_attended
    FROM guardwire.attendants AS t WHERE t.user_id = account;
    now_status := CASE WHEN arming.armed IS NOT TRUE THEN 'disarmed' WHEN is_attended THEN 'attended' ELSE 'unattended' END;
    IF now_status IS DISTINCT FROM shown.status THEN
        shown.status := now_status;
        shown.status_since := now_at;
        shown.last_seen_at := CASE now_status WHEN 'unattended' THEN greatest(last_beat, arming.since) END;
        shown.grace_until := shown.last_seen_at + make_interval(secs => (guardwire.escalation_of(account)).grace_seconds);
    END IF;
    IF now_status <> 'unattended' THEN
        PERFORM guardwire.resolve_alert(account, 'unattended', '', now_at, concat('the account is ', now_status));
    ELSIF shown.grace_until <= now_at AND NOT EXISTS (
              SELECT FROM guardwire.alerts AS a WHERE a.alert_id = guardwire.alert_id_of(account, 'unattended', '') AND a.stands) THEN
        PERFORM guardwire.raise_alert(account, 'unattended', 'critical', '', NULL, NULL, now_at, NULL, NULL, NULL);
    END IF;
    shown.user_id := account;
    shown.due_at := guardwire.attendance_due(shown, now_at);
    DELETE FROM guardwire.attendance AS t WHERE t.user_id = account;
    INSERT INTO guardwire.attendance (user_id, status, status_since, last_seen_at, grace_until, due_at)
    VALUES (account, shown.status, shown.status_since, shown.last_seen_at, shown.grace_until, shown.due_at);
END
$$;

-- Writes what has no alert of its own to the log of an account's unattended alert.
CREATE OR REPLACE FUNCTION guardwire.log_attendance(account uuid, entry text, who text, detail jsonb) RETURNS void LANGUAGE sql AS $$
    INSERT INTO guardwire.alert_log (alert_id, generation, user_id, entry, who, detail)
    VALUES (guardwire.alert_id_of(account, 'unattended', ''), 0, account, entry, who, nullif(jsonb_strip_nulls(detail), '{}'))
$$;

-- Arms an account, or disarms it until a moment within a day; the revision. Raises 22023 for a disarming without an end or a reason.
CREATE OR REPLACE FUNCTION guardwire.set_arming(account uuid, armed boolean, until timestamptz, reason text, by_name text)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now_at timestamptz := clock_timestamp();
    given bigint;
BEGIN
    IF NOT armed AND ((until > now_at AND until <= now_at + interval '1 day 1 second') IS NOT TRUE OR coalesce(btrim(reason), '') = '') THEN
        RAISE EXCEPTION 'disarming takes an end within 24 hours and a reason' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM guardwire.commit_durably();
    given := guardwire.advance_account(account);
    INSERT INTO guardwire.arming AS r (user_id, armed, since, until, reason, changed_by)
    VALUES (account, armed, now_at, CASE WHEN NOT armed THEN until END, reason, by_name)
    ON CONFLICT (user_id) DO UPDATE
        SET armed = excluded.armed, until = excluded.until, reason = excluded.reason, changed_by = excluded.changed_by,
            since = CASE WHEN r.armed = excluded.armed THEN r.since ELSE excluded.since END;
    PERFORM guardwire.log_attendance(account, CASE WHEN armed THEN 'armed' ELSE 'disarmed' END, by_name,
                                     jsonb_build_object('until', CASE WHEN NOT armed THEN until END, 'reason', reason));
    PERFORM guardwire.refresh_attendance(account, now_at);
    RETURN given;
END
$$;

-- Beats as columns, one for each bot: when the newest came, and the end of the lease.
CREATE OR REPLACE FUNCTION guardwire.beats_of(
    accounts uuid[], names text[], lease_seconds double precision[], age_seconds double precision[], now_at timestamptz
) RETURNS TABLE (user_id uuid, name text, beaten_at timestamptz, lease_until timestamptz) LANGUAGE sql STABLE AS $$
    SELECT b.user_id, b.name, max(now_at - make_interval(secs => b.age)),
           max(now_at + make_interval(secs => b.seconds - b.age))
    FROM unnest(accounts, names, lease_seconds, age_seconds) AS b (user_id, name, seconds, age)
    GROUP BY b.user_id, b.name
$$;

-- Notes beats that came `age_seconds` ago, of many accounts at once: the accounts whose shown attendance changed, with their revisions.
-- Raises 22023 for a lease that is not 5 to 60 seconds.
CREATE OR REPLACE FUNCTION guardwire.beat(
    accounts uuid[], names text[], lease_seconds double precision[], age_seconds double precision[]
)
RETURNS TABLE (account uuid, revision bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    now_at timestamptz := clock_timestamp();
    users uuid[];
    revisions bigint[];
BEGIN
    IF EXISTS (SELECT FROM unnest(lease_seconds) AS s (seconds) WHERE (s.seconds BETWEEN 5 AND 60) IS NOT TRUE) THEN
        RAISE EXCEPTION 'a lease takes 5 to 60 seconds' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT array_agg(l.user_id), array_agg(l.revision) INTO users, revisions
    FROM guardwire.lock_accounts(ARRAY(
        SELECT DISTINCT b.user_id FROM guardwire.beats_of(accounts, names, lease_seconds, age_seconds, now_at) AS b
        WHERE NOT EXISTS (SELECT FROM guardwire.attendants AS t
                          WHERE t.user_id = b.user_id AND t.name = b.name AND (t.left_at IS NULL OR t.left_at > b.beaten_at)))) AS l;
    -- A beat that was on its way when the bot left is none.
    INSERT INTO guardwire.attendants AS t (user_id, name, since, last_beat_at, lease_until)
    SELECT b.user_id, b.name, b.beaten_at, b.beaten_at, b.lease_until
    FROM guardwire.beats_of(accounts, names, lease_seconds, age_seconds, now_at) AS b
    WHERE b.user_id = ANY (users) ORDER BY b.user_id, b.name
    ON CONFLICT (user_id, name) DO UPDATE
        SET since = CASE WHEN t.left_at IS NULL THEN t.since ELSE excluded.since END,
            last_beat_at = greatest(t.last_beat_at, excluded.last_beat_at),
            lease_until = greatest(CASE WHEN t.left_at IS NULL THEN t.lease_until END, excluded.lease_until), left_at = NULL
        WHERE t.left_at IS NULL OR t.left_at <= excluded.last_beat_at;
    PERFORM guardwire.refresh_attendance(u.user_id, now_at) FROM unnest(users) AS u (user_id) ORDER BY u.user_id;
    -- A row that somebody else has locked is being changed now. The bot beats again before its lease is over.
    UPDATE guardwire.attendants AS t
    SET last_beat_at = greatest(t.last_beat_at, f.beaten_at), lease_until = greatest(t.lease_until, f.lease_until)
    FROM (SELECT o.user_id, o.name, b.beaten_at, b.lease_until
          FROM guardwire.beats_of(accounts, names, lease_seconds, age_seconds, now_at) AS b
          JOIN guardwire.attendants AS o ON o.user_id = b.user_id AND o.name = b.name AND o.left_at IS NULL
          WHERE (b.user_id = ANY (users)) IS NOT TRUE
          ORDER BY o.user_id, o.name FOR UPDATE OF o SKIP LOCKED) AS f
    WHERE t.user_id = f.user_id AND t.name = f.name;
    PERFORM guardwire.send_notices(users, revisions);
    RETURN QUERY SELECT l.* FROM unnest(users, revisions) AS l (user_id, revision);
END
$$;

-- Ends the attendance of a bot that says goodbye; the account's revision. An armed account that nobody attends then has its grace.
CREATE OR REPLACE FUNCTION guardwire.leave(account uuid, name text, reason text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now_at timestamptz := clock_timestamp();
    held bigint := guardwire.hold_account(account);
BEGIN
    UPDATE guardwire.attendants AS t SET left_at = now_at, last_beat_at = now_at
    WHERE t.user_id = account AND t.name = leave.name AND t.left_at IS NULL;
    IF NOT FOUND THEN
        RETURN held;
    END IF;
    PERFORM guardwire.log_attendance(account, 'left', leave.name, jsonb_build_object('reason', reason));
    held := guardwire.advance_account(account);
    PERFORM guardwire.refresh_attendance(account, now_at);
    RETURN held;
END
$$;

-- ---------------------------------------------------------------- what time brings about

-- Ends leases that are over, arms accounts again, and raises the alarm of accounts that nobody attends. One node at a time does so,
-- because leases are to be extended first when nobody could renew them.
CREATE OR REPLACE FUNCTION guardwire.note_attendance(now_at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    kept timestamptz;
    due uuid[];
    users uuid[];
    revisions bigint[];
BEGIN
    IF NOT EXISTS (SELECT FROM guardwire.attendance) THEN
        RETURN;
    END IF;
    SELECT c.kept_at INTO kept FROM guardwire.attendance_clock AS c FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    UPDATE guardwire.attendance_clock AS c SET kept_at = now_at;
    -- Housekeeping runs every 2 seconds.
    IF now_at - kept > interval '5 seconds' THEN
        PERFORM guardwire.extend_leases(kept, now_at);
    END IF;
    IF NOT EXISTS (SELECT FROM guardwire.attendance AS t WHERE t.due_at <= now_at) THEN
        RETURN;
    END IF;
    due := ARRAY(SELECT a.user_id FROM guardwire.accounts AS a
                 WHERE a.user_id = ANY (ARRAY(SELECT t.user_id FROM guardwire.attendance AS t WHERE t.due_at <= now_at
                                              ORDER BY t.due_at LIMIT 1000))
                 ORDER BY a.user_id FOR UPDATE OF a SKIP LOCKED);
    SELECT array_agg(l.user_id), array_agg(l.revision) INTO users, revisions
    FROM guardwire.lock_accounts(ARRAY(
        SELECT t.user_id FROM guardwire.attendance AS t
        WHERE t.user_id = ANY (due) AND t.due_at <= now_at AND guardwire.changes_attendance(t, now_at))) AS l;
    UPDATE guardwire.attendants AS t SET left_at = t.lease_until
    WHERE t.user_id = ANY (users) AND t.left_at IS NULL AND t.lease_until <= now_at;
    UPDATE guardwire.arming AS r SET armed = true, since = r.until, until = NULL, reason = NULL, changed_by = NULL
    WHERE r.user_id = ANY (users) AND NOT r.armed AND r.until <= now_at;
    PERFORM guardwire.refresh_attendance(u.user_id, now_at) FROM unnest(users) AS u (user_id);
    -- The bots of the other accounts have beaten meanwhile.
    UPDATE guardwire.attendance AS t SET due_at = guardwire.attendance_due(t, now_at)
    WHERE t.user_id = ANY (due) AND (t.user_id = ANY (users)) IS NOT TRUE;
    PERFORM guardwire.send_notices(users, revisions);
END
$$;

-- Whether time has changed the attendance of an account that is due.
CREATE OR REPLACE FUNCTION guardwire.changes_attendance(t guardwire.attendance, now_at timestamptz) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT ((t).status = 'unattended' AND (t).grace_until <= now_at)
           OR EXISTS (SELECT FROM guardwire.attendants AS b WHERE b.user_id = (t).user_id AND b.left_at IS NULL AND b.lease_until <= now_at)
           OR EXISTS (SELECT FROM guardwire.arming AS r WHERE r.user_id = (t).user_id AND NOT r.armed AND r.until <= now_at)
$$;

-- Extends leases and graces by the time in which no beat could be noted, from `kept` on.
CREATE OR REPLACE FUNCTION guardwire.extend_leases(kept timestamptz, now_at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    users uuid[];
    revisions bigint[];
BEGIN
    SELECT array_agg(l.user_id), array_agg(l.revision) INTO users, revisions
    FROM guardwire.lock_accounts(ARRAY(
        SELECT t.user_id FROM guardwire.attendance AS t WHERE t.status = 'unattended' AND t.grace_until > kept AND t.due_at IS NOT NULL)) AS l;
    UPDATE guardwire.attendance AS t
    SET last_seen_at = t.last_seen_at + (now_at - greatest(kept, t.last_seen_at)),
        grace_until = t.grace_until + (now_at - greatest(kept, t.last_seen_at)),
        due_at = t.grace_until + (now_at - greatest(kept, t.last_seen_at))
    WHERE t.user_id = ANY (users) AND t.status = 'unattended' AND t.grace_until > kept;
    UPDATE guardwire.attendants AS t
    SET last_beat_at = t.last_beat_at + (now_at - greatest(kept, t.last_beat_at)),
        lease_until = t.lease_until + (now_at - greatest(kept, t.last_beat_at))
    FROM (SELECT o.user_id, o.name FROM guardwire.attendants AS o WHERE o.left_at IS NULL AND o.lease_until > kept
          -- A beat that is under way needs no extension, and waits for other rows of these.
          FOR UPDATE SKIP LOCKED) AS o
    WHERE t.user_id = o.user_id AND t.name = o.name;
    PERFORM guardwire.send_notices(users, revisions);
END
$$;
