-- Alerts: raised and resolved with the conditions that they speak of, acknowledged and snoozed by clients.
--
-- A change of an alert is made under the lock of its account, in a transaction that gives the account a revision.

-- The id of an alert, which a rebuild and an audit derive again.
CREATE OR REPLACE FUNCTION guardwire.alert_id_of(account uuid, kind text, subject text) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN md5(concat_ws('|', account::text, kind, guardwire.fold(subject)))::uuid;

-- An account's policy of escalation; the defaults where it has none.
CREATE OR REPLACE FUNCTION guardwire.escalation_of(account uuid) RETURNS guardwire.escalation LANGUAGE plpgsql STABLE AS $$
DECLARE
    policy guardwire.escalation;
BEGIN
    SELECT e.* INTO policy FROM guardwire.escalation AS e WHERE e.user_id = account;
    IF NOT FOUND THEN
        SELECT e.* INTO policy FROM guardwire.escalation AS e WHERE e.user_id = guardwire.no_account();
        policy.user_id := account;
    END IF;
    RETURN policy;
END
$$;

-- A number of seconds of the policy that was copied into an alert.
CREATE OR REPLACE FUNCTION guardwire.policy_time(a guardwire.alerts, name text) RETURNS interval LANGUAGE sql IMMUTABLE
RETURN make_interval(secs => ((a).policy ->> name)::double precision);

-- When housekeeping has to look at an alert: at the end of the hold while it is acknowledged, otherwise when the next level is due. A
-- snooze puts both off. No book can prove that somebody saw to an endpoint, so that acknowledgement has no end.
CREATE OR REPLACE FUNCTION guardwire.next_look(a guardwire.alerts) RETURNS timestamptz LANGUAGE sql IMMUTABLE
RETURN CASE WHEN (a).resolved_at IS NOT NULL THEN NULL
            WHEN (a).acknowledged_at IS NOT NULL AND (a).kind = 'delivery' THEN NULL
            WHEN (a).acknowledged_at IS NOT NULL THEN greatest((a).hold_until, (a).snoozed_until)
            WHEN (a).escalate_at IS NOT NULL THEN greatest((a).escalate_at, (a).snoozed_until) END;

CREATE OR REPLACE FUNCTION guardwire.log_alert(a guardwire.alerts, entry text, who text, detail jsonb) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO guardwire.alert_log (alert_id, generation, user_id, entry, who, detail)
    VALUES ((a).alert_id, (a).generation, (a).user_id, entry, who, nullif(jsonb_strip_nulls(detail), '{}'))
$$;

-- Writes an alert with the time of its next look.
CREATE OR REPLACE FUNCTION guardwire.put_alert(a guardwire.alerts) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    a.next_at := guardwire.next_look(a);
    DELETE FROM guardwire.alerts AS o WHERE o.alert_id = a.alert_id;
    INSERT INTO guardwire.alerts SELECT (a).*;
END
$$;

-- An alert whose acknowledgement is over, or never was.
CREATE OR REPLACE FUNCTION guardwire.without_acknowledgement(a guardwire.alerts) RETURNS guardwire.alerts LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    a.acknowledged_by := NULL;
    a.acknowledged_at := NULL;
    a.acknowledged_action := NULL;
    a.hold_until := NULL;
    RETURN a;
END
$$;

-- ---------------------------------------------------------------- raising and resolving

-- Raises the alert of a condition that is true now. One that was resolved less than flap_seconds ago goes on, with its first raise and
-- its deadline: a condition that comes and goes must not begin its countdown anew each time.
CREATE OR REPLACE FUNCTION guardwire.raise_alert(
    account uuid, of_kind text, of_severity text, of_subject text, of_symbol text, of_condition text, at timestamptz,
    deadline timestamptz, observed numeric, limit_value numeric
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    a guardwire.alerts;
BEGIN
    SELECT o.* INTO a FROM guardwire.alerts AS o WHERE o.alert_id = guardwire.alert_id_of(account, of_kind, of_subject);
    IF a.alert_id IS NOT NULL AND a.resolved_at IS NULL THEN
        RETURN;
    END IF;
    PERFORM guardwire.commit_durably();
    IF at - a.resolved_at <= guardwire.policy_time(a, 'flap_seconds') THEN
        a := guardwire.repeated(a, of_severity, at);
    ELSE
        a := guardwire.new_generation(a, account, of_kind, of_severity, of_subject, of_symbol, of_condition, at, deadline);
    END IF;
    a.observed := observed;
    a.limit_value := limit_value;
    PERFORM guardwire.put_alert(a);
    PERFORM guardwire.log_alert(a, CASE a.occurrences WHEN 1 THEN 'raised' ELSE 'repeated' END, NULL,
                                jsonb_build_object('observed', observed));
END
$$;

-- A resolved alert that is raised again within flap_seconds. An acknowledgement whose hold is over ends, and gives bots the time to
-- acknowledge again; without one the escalation goes on where it was.
CREATE OR REPLACE FUNCTION guardwire.repeated(a guardwire.alerts, severity text, at timestamptz) RETURNS guardwire.alerts
LANGUAGE plpgsql AS $$
BEGIN
    IF a.acknowledged_at IS NOT NULL AND coalesce(a.hold_until, '-infinity') <= clock_timestamp() THEN
        a := guardwire.without_acknowledgement(a);
        a.escalate_at := clock_timestamp() + guardwire.policy_time(a, 'webhook_after_seconds');
    END IF;
    -- A snooze never hides something worse.
    IF severity = 'critical' AND a.severity <> 'critical' THEN
        a.severity := severity;
        a.snoozed_until := NULL;
        a.snooze_reason := NULL;
    END IF;
    a.raised_at := greatest(at, a.raised_at);
    a.occurrences := a.occurrences + 1;
    a.stands := true;
    a.resolved_at := NULL;
    a.voided_at := NULL;
    RETURN a;
END
$$;

-- The next generation of an alert, or its first.
CREATE OR REPLACE FUNCTION guardwire.new_generation(
    before guardwire.alerts, account uuid, kind text, severity text, subject text, symbol text, condition_type text, at timestamptz,
    deadline timestamptz
) RETURNS guardwire.alerts LANGUAGE plpgsql AS $$
DECLARE
    a guardwire.alerts;
BEGIN
    a.alert_id := guardwire.alert_id_of(account, kind, subject);
    a.user_id := account;
    a.kind := kind;
    a.severity := severity;
    a.subject := subject;
    a.symbol := symbol;
    a.condition_type := condition_type;
    a.generation := coalesce(before.generation, 0) + 1;
    a.first_raised_at := at;
    a.raised_at := at;
    a.counted_from := clock_timestamp();
    a.deadline_at := deadline;
    a.occurrences := 1;
    a.stands := true;
    a.level := 0;
    a.policy := to_jsonb(guardwire.escalation_of(account)) - 'user_id';
    -- From the clock and never from the row's time: a backlog that ends the alert again has not escalated it.
    a.escalate_at := a.counted_from + guardwire.policy_time(a, 'webhook_after_seconds');
    RETURN a;
END
$$;

-- Notes that a condition is over.
CREATE OR REPLACE FUNCTION guardwire.resolve_alert(account uuid, of_kind text, of_subject text, at timestamptz, reason text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    a guardwire.alerts;
BEGIN
    SELECT o.* INTO a FROM guardwire.alerts AS o
    WHERE o.alert_id = guardwire.alert_id_of(account, of_kind, of_subject) AND o.stands;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    a.stands := false;
    PERFORM guardwire.end_alert(a, at, reason);
END
$$;

-- Resolves an alert, unless it is resolved.
CREATE OR REPLACE FUNCTION guardwire.end_alert(a guardwire.alerts, at timestamptz, reason text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    was_open boolean := a.resolved_at IS NULL;
BEGIN
    a.resolved_at := coalesce(a.resolved_at, greatest(at, a.raised_at));
    PERFORM guardwire.put_alert(a);
    IF was_open THEN
        PERFORM guardwire.commit_durably();
        PERFORM guardwire.log_alert(a, 'resolved', NULL, jsonb_build_object('reason', reason));
    END IF;
END
$$;

-- ---------------------------------------------------------------- the book is the proof

-- Whether a position is open that an alert speaks of: those of its symbol, or all. An endpoint has no positions.
CREATE OR REPLACE FUNCTION guardwire.is_concerned(a guardwire.alerts) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT (a).kind = 'delivery' OR EXISTS (
        SELECT FROM guardwire.positions AS p
        WHERE p.user_id = (a).user_id AND p.is_open
          AND ((a).kind <> 'market' OR (a).symbol = '*'
               OR guardwire.fold((a).symbol) IN (guardwire.fold(p.symbol), guardwire.fold(p.instrument))))
$$;

-- Compares acknowledged alerts of locked accounts with the book, after rows that may have opened or closed positions: one whose
-- positions are closed is resolved, and raised again when positions are opened while the condition stands.
CREATE OR REPLACE FUNCTION guardwire.settle_alerts(users uuid[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    a guardwire.alerts;
    now_at timestamptz := clock_timestamp();
BEGIN
    FOR a IN SELECT o.* FROM guardwire.alerts AS o
             WHERE o.user_id = ANY (users) AND o.stands AND o.acknowledged_at IS NOT NULL
             ORDER BY o.user_id, o.alert_id
    LOOP
        IF a.resolved_at IS NULL AND NOT guardwire.is_concerned(a) THEN
            PERFORM guardwire.end_alert(a, now_at, 'its positions are closed');
        ELSIF a.resolved_at IS NOT NULL AND guardwire.is_concerned(a) THEN
            PERFORM guardwire.raise_alert(
                a.user_id, a.kind, a.severity, a.subject, a.symbol, a.condition_type, now_at,
                CASE WHEN a.deadline_at IS NOT NULL THEN guardwire.countdown_end(guardwire.limits_of(a.user_id), now_at, now_at) END,
                a.observed, a.limit_value);
        END IF;
    END LOOP;
END
$$;

-- The conditions of an account that are critical now, as alerts of them would be.
CREATE OR REPLACE FUNCTION guardwire.critical_conditions(account uuid) RETURNS TABLE (
    kind text, subject text, symbol text, condition_type text, at timestamptz, deadline timestamptz, observed numeric, limit_value numeric
) LANGUAGE sql STABLE AS $$
    SELECT c.kind, concat_ws(' ', c.symbol, c.condition_type), c.symbol, c.condition_type, coalesce(b.raised_at, c.at),
           CASE WHEN c.ends_at > clock_timestamp() THEN c.ends_at ELSE clock_timestamp() + make_interval(secs => l.countdown_seconds) END,
           c.observed, c.limit_value
    FROM guardwire.limits_of(account) AS l
    CROSS JOIN LATERAL (
        SELECT 'drawdown' AS kind, NULL AS symbol, NULL AS condition_type, a.equity_at AS at, a.liquidation_at AS ends_at,
               a.drawdown_pct AS observed, l.drawdown_critical_pct AS limit_value
        FROM guardwire.accounts AS a WHERE a.user_id = account AND a.drawdown_level = 'critical'
        UNION ALL
        SELECT 'market', m.symbol, m.condition_type, m.detected_at, NULL, coalesce(m.gap_pct, m.spread_pct), guardwire.market_limit(m, l)
        FROM guardwire.market_alerts AS m WHERE m.user_id = account AND m.alert_type = 'critical') AS c
    LEFT JOIN LATERAL guardwire.open_breaches(account, c.kind, c.symbol, c.condition_type) AS b ON true
$$;

-- Brings the alerts of an account to its conditions, after its history was read: what is critical is raised now, and what is over is
-- resolved. An alert that somebody altered is brought to them too: it is open while it stands, unless it was acknowledged.
CREATE OR REPLACE FUNCTION guardwire.settle_history_alerts(account uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE guardwire.alerts AS a SET stands = true
    WHERE a.user_id = account AND a.kind IN ('drawdown', 'market') AND a.resolved_at IS NULL AND NOT a.stands;
    PERFORM guardwire.resolve_alert(a.user_id, a.kind, a.subject, clock_timestamp(), 'the condition is over')
    FROM guardwire.alerts AS a
    WHERE a.user_id = account AND a.stands AND a.kind IN ('drawdown', 'market')
      AND NOT EXISTS (SELECT FROM guardwire.critical_conditions(account) AS c
                      WHERE a.alert_id = guardwire.alert_id_of(account, c.kind, c.subject));
    PERFORM guardwire.raise_alert(account, c.kind, 'critical', c.subject, c.symbol, c.condition_type, c.at, c.deadline, c.observed,
                                  c.limit_value)
    FROM guardwire.critical_conditions(account) AS c
    WHERE NOT EXISTS (SELECT FROM guardwire.alerts AS a
                      WHERE a.alert_id = guardwire.alert_id_of(account, c.kind, c.subject) AND a.stands
                        AND (a.resolved_at IS NULL OR a.acknowledged_at IS NOT NULL));
    PERFORM guardwire.settle_alerts(ARRAY[account]);
END
$$;

-- ---------------------------------------------------------------- acknowledging

-- Locks an account without a change of its revision; the revision, 0 for an account without a row.
CREATE OR REPLACE FUNCTION guardwire.hold_account(account uuid) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    held bigint;
BEGIN
    SELECT a.revision INTO held FROM guardwire.accounts AS a WHERE a.user_id = account FOR UPDATE;
    RETURN coalesce(held, 0);
END
$$;

-- Gives a locked account its next revision and sends the change notice; the revision.
CREATE OR REPLACE FUNCTION guardwire.advance_account(account uuid) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    given bigint;
BEGIN
    SELECT l.revision INTO given FROM guardwire.lock_accounts(ARRAY[account]) AS l;
    PERFORM guardwire.send_notices(ARRAY[account], ARRAY[given]);
    RETURN given;
END
$$;

-- How far an action is: one that says more than the last replaces it.
CREATE OR REPLACE FUNCTION guardwire.action_rank(action text) RETURNS integer LANGUAGE sql IMMUTABLE
RETURN array_position(ARRAY['received', 'acting', 'done'], action);

-- Acknowledges alerts of an account, each in a generation; the outcome for each, in the order given. The first that acknowledges a
-- generation is named, and every later call is answered `already`. waited_seconds is the time since the raise, where nobody had
-- acknowledged before. Raises 22023 for another action.
CREATE OR REPLACE FUNCTION guardwire.acknowledge(account uuid, alerts uuid[], generations integer[], by_name text, action text)
RETURNS TABLE (alert_id uuid, outcome text, revision bigint, waited_seconds double precision)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    held bigint := guardwire.hold_account(account);
    begun_at timestamptz := clock_timestamp();
    outcomes text[] := '{}';
BEGIN
    IF guardwire.action_rank(action) IS NULL THEN
        RAISE EXCEPTION 'no action is called %', action USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR n IN 1 .. coalesce(cardinality(alerts), 0) LOOP
        outcomes := outcomes || guardwire.acknowledge_one(account, alerts[n], generations[n], by_name, action);
    END LOOP;
    IF 'acknowledged' = ANY (outcomes) THEN
        held := guardwire.advance_account(account);
    END IF;
    RETURN QUERY
    SELECT o.alert_id, o.outcome, held, extract(epoch FROM a.acknowledged_at - a.counted_from)::double precision
    FROM unnest(alerts, outcomes) WITH ORDINALITY AS o (alert_id, outcome, place)
    LEFT JOIN guardwire.alerts AS a
        ON a.alert_id = o.alert_id AND o.outcome = 'acknowledged' AND a.acknowledged_at >= begun_at
    ORDER BY o.place;
END
$$;

CREATE OR REPLACE FUNCTION guardwire.acknowledge_one(account uuid, id uuid, of_generation integer, by_name text, action text)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    a guardwire.alerts;
    now_at timestamptz := clock_timestamp();
BEGIN
    SELECT o.* INTO a FROM guardwire.alerts AS o WHERE o.alert_id = id AND o.user_id = account;
    IF NOT FOUND THEN
        RETURN 'unknown_alert';
    ELSIF a.generation IS DISTINCT FROM of_generation THEN
        RETURN 'stale_generation';
    ELSIF a.acknowledged_at IS NOT NULL
          AND (a.acknowledged_by <> by_name OR guardwire.action_rank(action) <= guardwire.action_rank(a.acknowledged_action)) THEN
        RETURN 'already';
    END IF;
    PERFORM guardwire.commit_durably();
    a.acknowledged_by := by_name;
    a.acknowledged_at := coalesce(a.acknowledged_at, now_at);
    a.acknowledged_action := action;
    -- Closed positions leave the book within seconds.
    a.hold_until := now_at + CASE action WHEN 'done' THEN interval '10 seconds' ELSE guardwire.policy_time(a, 'hold_seconds') END;
    PERFORM guardwire.put_alert(a);
    PERFORM guardwire.log_alert(a, 'acknowledged', by_name, jsonb_build_object('action', action));
    RETURN 'acknowledged';
END
$$;

-- Puts the escalation of an alert off; `outcome` is `snoozed`, `unknown_alert` or `stale_generation`. Raises 22023 for a time that is not
-- 1 to 3,600 seconds, and without a reason.
CREATE OR REPLACE FUNCTION guardwire.snooze(account uuid, alert uuid, generation integer, seconds integer, by_name text, reason text)
RETURNS TABLE (alert_id uuid, outcome text, revision bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    a guardwire.alerts;
BEGIN
    IF (seconds BETWEEN 1 AND 3600) IS NOT TRUE OR coalesce(btrim(reason), '') = '' THEN
        RAISE EXCEPTION 'a snooze takes 1 to 3600 seconds and a reason' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    alert_id := alert;
    revision := guardwire.hold_account(account);
    SELECT o.* INTO a FROM guardwire.alerts AS o WHERE o.alert_id = alert AND o.user_id = account;
    IF NOT FOUND THEN
        outcome := 'unknown_alert';
    ELSIF a.generation IS DISTINCT FROM snooze.generation THEN
        outcome := 'stale_generation';
    ELSE
        PERFORM guardwire.commit_durably();
        a.snoozed_until := clock_timestamp() + make_interval(secs => seconds);
        a.snooze_reason := reason;
        PERFORM guardwire.put_alert(a);
        PERFORM guardwire.log_alert(a, 'snoozed', by_name, jsonb_build_object('seconds', seconds, 'reason', reason));
        outcome := 'snoozed';
        revision := guardwire.advance_account(account);
    END IF;
    RETURN NEXT;
END
$$;
