-- Escalation: an alert that nobody acknowledges is delivered to webhooks, then to people. The outbox is committed before anything is
-- sent, and any node may deliver.

-- ---------------------------------------------------------------- levels

-- Looks at alerts that are due; how many escalated. Accounts with rows in the inbox wait: these rows may end the alert.
CREATE OR REPLACE FUNCTION guardwire.escalate_due(now_at timestamptz) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    users uuid[];
    revisions bigint[];
    a guardwire.alerts;
    escalated integer := 0;
BEGIN
    IF NOT EXISTS (SELECT FROM guardwire.alerts AS o WHERE o.next_at <= now_at) THEN
        RETURN 0;
    END IF;
    users := guardwire.lock_alerting(now_at, 1000);
    -- Somebody may have acknowledged before the lock.
    SELECT array_agg(l.user_id), array_agg(l.revision) INTO users, revisions
    FROM guardwire.lock_accounts(ARRAY(
        SELECT DISTINCT o.user_id FROM guardwire.alerts AS o WHERE o.user_id = ANY (users) AND o.next_at <= now_at)) AS l;
    FOR a IN SELECT o.* FROM guardwire.alerts AS o
             WHERE o.user_id = ANY (users) AND o.next_at <= now_at ORDER BY o.user_id, o.alert_id LOOP
        escalated := escalated + guardwire.look_at_alert(a, now_at)::integer;
    END LOOP;
    PERFORM guardwire.send_notices(users, revisions);
    RETURN escalated;
END
$$;

-- Locks accounts with a due alert, without waiting: one that somebody else locked is due again next time.
CREATE OR REPLACE FUNCTION guardwire.lock_alerting(now_at timestamptz, most integer) RETURNS uuid[] LANGUAGE plpgsql AS $$
DECLARE
    scan_from bigint := guardwire.scan_from();
BEGIN
    RETURN ARRAY(
        SELECT a.user_id FROM guardwire.accounts AS a
        WHERE a.ready AND a.user_id = ANY (ARRAY(
                  SELECT o.user_id FROM guardwire.alerts AS o
                  WHERE o.next_at <= now_at
                    AND NOT EXISTS (SELECT FROM guardwire.inbox AS i WHERE i.account = o.user_id AND i.nth > scan_from)
                  ORDER BY o.next_at LIMIT most))
        ORDER BY a.user_id FOR UPDATE OF a SKIP LOCKED);
END
$$;

-- Looks at a due alert: at the end of a hold the book decides, otherwise the next level is reached. Whether it escalated.
CREATE OR REPLACE FUNCTION guardwire.look_at_alert(a guardwire.alerts, now_at timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    reason text := 'nobody acknowledged';
BEGIN
    IF a.acknowledged_at IS NOT NULL THEN
        IF NOT guardwire.is_concerned(a) THEN
            PERFORM guardwire.end_alert(a, now_at, 'its positions are closed');
            RETURN false;
        END IF;
        reason := concat('positions are open at the end of the hold of ', a.acknowledged_by);
        a := guardwire.without_acknowledgement(a);
    END IF;
    IF now_at >= a.counted_from + guardwire.policy_time(a, 'give_up_seconds') THEN
        a.escalate_at := NULL;
        PERFORM guardwire.put_alert(a);
        PERFORM guardwire.log_alert(a, 'failed', NULL, jsonb_build_object('reason', 'give_up_seconds have passed'));
        RETURN false;
    END IF;
    PERFORM guardwire.escalate_alert(a, reason, now_at);
    RETURN true;
END
$$;

-- Raises an alert to its next level, and puts the level's messages into the outbox.
CREATE OR REPLACE FUNCTION guardwire.escalate_alert(a guardwire.alerts, reason text, now_at timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM guardwire.commit_durably();
    a.level := a.level + 1;
    a.escalate_at := guardwire.next_level_at(a, now_at);
    PERFORM guardwire.put_alert(a);
    PERFORM guardwire.log_alert(a, 'escalated', NULL, jsonb_build_object('level', a.level, 'reason', reason));
    INSERT INTO guardwire.deliveries (alert_id, generation, level, endpoint_id, user_id, message_id, payload, deadline_at)
    SELECT a.alert_id, a.generation, a.level, e.endpoint_id, a.user_id, concat_ws('.', a.alert_id, a.generation, a.level),
           guardwire.message_of(a, CASE a.level WHEN 1 THEN 'alert.raised' ELSE 'alert.escalated' END), a.deadline_at
    FROM guardwire.endpoints AS e
    WHERE e.user_id IN (a.user_id, guardwire.no_account()) AND e.disabled_at IS NULL
      AND (a.level > 2 OR e.kind = CASE a.level WHEN 1 THEN 'webhook' ELSE 'person' END)
    ON CONFLICT (alert_id, generation, level, endpoint_id) DO NOTHING;
END
$$;

-- The time of an alert's next level; null after the last one. A warning reaches each endpoint once.
CREATE OR REPLACE FUNCTION guardwire.next_level_at(a guardwire.alerts, now_at timestamptz) RETURNS timestamptz LANGUAGE sql IMMUTABLE
RETURN CASE WHEN (a).level < 2 THEN greatest((a).counted_from + guardwire.policy_time(a, 'people_after_seconds'), now_at)
            WHEN (a).severity = 'warning' THEN NULL
            WHEN now_at < (a).deadline_at THEN now_at + guardwire.policy_time(a, 'repeat_seconds')
            ELSE now_at + guardwire.policy_time(a, 'slow_repeat_seconds') END;

-- A time in the form of the stream.
CREATE OR REPLACE FUNCTION guardwire.iso(moment timestamptz) RETURNS text LANGUAGE sql STABLE
RETURN to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');

-- The message about an alert, which is the same at every attempt.
CREATE OR REPLACE FUNCTION guardwire.message_of(a guardwire.alerts, type text) RETURNS jsonb LANGUAGE sql VOLATILE
RETURN jsonb_build_object('type', type, 'timestamp', guardwire.iso(clock_timestamp()), 'data', jsonb_strip_nulls(jsonb_build_object(
    'alert_id', (a).alert_id, 'generation', (a).generation, 'level', (a).level, 'account', (a).user_id, 'kind', (a).kind,
    'severity', (a).severity, 'subject', (a).subject, 'symbol', (a).symbol, 'condition_type', (a).condition_type,
    'first_raised_at', guardwire.iso((a).first_raised_at), 'raised_at', guardwire.iso((a).raised_at),
    'deadline_at', guardwire.iso((a).deadline_at), 'observed', (a).observed, 'limit', (a).limit_value, 'occurrences', (a).occurrences)));

-- ---------------------------------------------------------------- the outbox

-- The server and timeline that this is, as guardwire.configuration names those that deliver. The timeline is that of the WAL file
-- that is written now: after a promotion pg_control_checkpoint() shows the old timeline until the next checkpoint.
CREATE OR REPLACE FUNCTION guardwire.this_server() RETURNS text LANGUAGE sql STABLE
RETURN concat((SELECT s.system_identifier FROM pg_control_system() AS s), '.',
              CASE WHEN pg_is_in_recovery() THEN (SELECT c.timeline_id FROM pg_control_checkpoint() AS c)
                   ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint END);

-- Whether messages are sent: on a restored, copied or promoted database not before an operator releases them.
CREATE OR REPLACE FUNCTION guardwire.delivers() RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN (SELECT c.deliveries_on IS NOT DISTINCT FROM guardwire.this_server() FROM guardwire.configuration AS c);

-- Lets this server deliver; how many messages wait. With `discard` they are dropped.
CREATE OR REPLACE FUNCTION guardwire.release_deliveries(discard boolean) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    waiting bigint;
BEGIN
    IF discard THEN
        UPDATE guardwire.deliveries AS d SET finished_at = clock_timestamp(), outcome = 'superseded' WHERE d.finished_at IS NULL;
        GET DIAGNOSTICS waiting = ROW_COUNT;
    ELSE
        SELECT count(*) INTO waiting FROM guardwire.deliveries AS d WHERE d.finished_at IS NULL;
    END IF;
    UPDATE guardwire.configuration AS c SET deliveries_on = guardwire.this_server();
    RETURN waiting;
END
$$;

-- Whether a message still says something new: its alert is in that generation, not resolved and not acknowledged, and its endpoint
-- takes messages.
CREATE OR REPLACE FUNCTION guardwire.is_wanted(d guardwire.deliveries) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM guardwire.endpoints AS e WHERE e.endpoint_id = (d).endpoint_id AND e.disabled_at IS NULL)
           AND ((d).payload ->> 'type' = 'alert.test'
                OR EXISTS (SELECT FROM guardwire.alerts AS a
                           WHERE a.alert_id = (d).alert_id AND a.generation = (d).generation
                             AND a.resolved_at IS NULL AND a.acknowledged_at IS NULL))
$$;

-- How many messages to the endpoints of one owner a node attempts at once: endpoints that hang hold no more of its places. Those of
-- the operator take the messages of every account.
CREATE OR REPLACE FUNCTION guardwire.most_under_way(owner uuid) RETURNS integer LANGUAGE sql IMMUTABLE
RETURN CASE WHEN owner = guardwire.no_account() THEN 16 ELSE 4 END;

-- The owners of the endpoints of unfinished messages, once for each.
CREATE OR REPLACE FUNCTION guardwire.owners_of(messages bigint[]) RETURNS uuid[] LANGUAGE sql STABLE
RETURN ARRAY(SELECT e.user_id FROM guardwire.deliveries AS d JOIN guardwire.endpoints AS e ON e.endpoint_id = d.endpoint_id
             WHERE d.delivery_id = ANY (messages) AND d.finished_at IS NULL);

-- Messages that are due and not among `passed`, the oldest first and `most` at most, as far as the owners of their endpoints have places.
-- `busy` has an owner once for each of its places that is taken.
CREATE OR REPLACE FUNCTION guardwire.due_deliveries(now_at timestamptz, most integer, busy uuid[], passed bigint[]) RETURNS bigint[]
LANGUAGE plpgsql STABLE AS $$
DECLARE
    of_full_owners uuid[] := ARRAY(
        SELECT e.endpoint_id FROM guardwire.endpoints AS e
        WHERE e.user_id IN (SELECT b.owner FROM unnest(busy) AS b (owner) GROUP BY b.owner
                            HAVING count(*) >= guardwire.most_under_way(b.owner)));
BEGIN
    RETURN ARRAY(
        SELECT r.delivery_id
        FROM (SELECT d.delivery_id, d.due_at, e.user_id AS owner,
                     row_number() OVER (PARTITION BY e.user_id ORDER BY d.due_at, d.delivery_id) AS place
              -- Not all that are due: where these are of one owner, it has no place afterwards, and the next look reads on behind them.
              FROM (SELECT o.delivery_id, o.due_at, o.endpoint_id FROM guardwire.deliveries AS o
                    WHERE o.finished_at IS NULL AND o.due_at <= now_at AND o.endpoint_id <> ALL (of_full_owners)
                      AND o.delivery_id <> ALL (passed)
                    ORDER BY o.due_at LIMIT 8 * most) AS d
              LEFT JOIN guardwire.endpoints AS e ON e.endpoint_id = d.endpoint_id) AS r
        -- A message whose endpoint was deleted takes no place: it is dropped.
        WHERE r.owner IS NULL
           OR r.place + (SELECT count(*) FROM unnest(busy) AS b (owner) WHERE b.owner = r.owner) <= guardwire.most_under_way(r.owner)
        ORDER BY r.due_at, r.delivery_id LIMIT most);
END
$$;

-- Takes due messages for a node, which has to finish each within the lease; `under_way` are those that it attempts already. Messages that
-- nobody needs any more are finished.
CREATE OR REPLACE FUNCTION guardwire.claim_deliveries(node text, most integer, lease_seconds double precision, under_way bigint[])
RETURNS TABLE (delivery_id bigint, message_id text, payload text, kind text, url text, secrets text[], attempts integer,
               deadline_at timestamptz, user_id uuid, endpoint_id uuid)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    now_at timestamptz := clock_timestamp();
    busy uuid[] := guardwire.owners_of(under_way);
    missing integer := most;
    chosen bigint[];
    taken bigint[];
    -- Also those that another node is claiming at this moment.
    passed bigint[] := '{}';
    claimed integer;
BEGIN
    IF NOT guardwire.delivers() THEN
        RETURN;
    END IF;
    LOOP
        -- By itself: within the statement it would be asked for each row.
        chosen := guardwire.due_deliveries(now_at, missing, busy, passed);
        EXIT WHEN chosen = '{}';
        passed := passed || chosen;
        taken := ARRAY(SELECT o.delivery_id FROM guardwire.deliveries AS o
                       WHERE o.delivery_id = ANY (chosen) AND o.finished_at IS NULL AND o.due_at <= now_at
                       ORDER BY o.due_at FOR UPDATE OF o SKIP LOCKED);
        UPDATE guardwire.deliveries AS d SET finished_at = now_at, outcome = 'superseded'
        WHERE d.delivery_id = ANY (taken) AND NOT guardwire.is_wanted(d);
        RETURN QUERY
        UPDATE guardwire.deliveries AS d
        SET claimed_by = node, attempts = d.attempts + 1, lease_until = now_at + make_interval(secs => lease_seconds),
            due_at = now_at + make_interval(secs => lease_seconds)
        FROM guardwire.endpoints AS e
        WHERE d.delivery_id = ANY (taken) AND d.finished_at IS NULL AND e.endpoint_id = d.endpoint_id
        RETURNING d.delivery_id, d.message_id, d.payload::text, e.kind, e.url, e.secrets, d.attempts, d.deadline_at, d.user_id,
                  d.endpoint_id;
        GET DIAGNOSTICS claimed = ROW_COUNT;
        missing := missing - claimed;
        EXIT WHEN missing <= 0;
        busy := busy || guardwire.owners_of(taken);
    END LOOP;
END
$$;

-- When to try a message again after so many attempts: by their number until 30 seconds, every 30 seconds until the deadline, then ever
-- more seldom for a day; null when never.
CREATE OR REPLACE FUNCTION guardwire.retry_at(d guardwire.deliveries, now_at timestamptz) RETURNS timestamptz LANGUAGE sql IMMUTABLE
RETURN CASE WHEN (d).attempts <= 6 THEN now_at + make_interval(secs => (ARRAY[1, 1, 2, 4, 7, 15])[greatest((d).attempts, 1)])
            WHEN now_at < (d).deadline_at THEN now_at + interval '30 seconds'
            WHEN now_at < (d).created_at + interval '1 day'
                THEN now_at + make_interval(secs => least(300 * 2 ^ least((d).attempts - 7, 10), 3600)) END;

-- Notes what became of an attempt: `delivered`, `failed` (tried again, not before retry_after_seconds) or `gone` (the endpoint wants no
-- more). A node whose lease is over changes nothing, unless it delivered.
CREATE OR REPLACE FUNCTION guardwire.finish_delivery(
    delivery bigint, node text, outcome text, http_status integer, retry_after_seconds double precision
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    d guardwire.deliveries;
    now_at timestamptz := clock_timestamp();
    again_at timestamptz;
BEGIN
    IF outcome NOT IN ('delivered', 'failed', 'gone') THEN
        RAISE EXCEPTION 'no outcome is called %', outcome USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT o.* INTO d FROM guardwire.deliveries AS o WHERE o.delivery_id = delivery FOR UPDATE;
    IF d.finished_at IS NOT NULL OR (d.claimed_by = node OR outcome = 'delivered') IS NOT TRUE THEN
        RETURN;
    END IF;
    PERFORM guardwire.commit_durably();
    IF outcome = 'failed' THEN
        again_at := greatest(guardwire.retry_at(d, now_at),
                             now_at + make_interval(secs => least(greatest(coalesce(retry_after_seconds, 0), 0), 3600)));
        again_at := CASE WHEN guardwire.retry_at(d, now_at) IS NOT NULL THEN again_at END;
    END IF;
    UPDATE guardwire.deliveries AS o
    SET last_status = http_status, due_at = coalesce(again_at, o.due_at), lease_until = NULL,
        finished_at = CASE WHEN again_at IS NULL THEN now_at END,
        outcome = CASE WHEN again_at IS NULL THEN finish_delivery.outcome END
    WHERE o.delivery_id = delivery;
    INSERT INTO guardwire.alert_log (alert_id, generation, user_id, entry, detail)
    VALUES (d.alert_id, d.generation, d.user_id, CASE outcome WHEN 'delivered' THEN 'delivered' ELSE 'failed' END,
            jsonb_strip_nulls(jsonb_build_object('level', d.level, 'endpoint', d.endpoint_id, 'attempt', d.attempts,
                                                 'status', http_status, 'tried_again_at', guardwire.iso(again_at))));
    IF outcome = 'gone' THEN
        PERFORM guardwire.disable_endpoint(d.user_id, d.endpoint_id, 'the endpoint answered 410 Gone');
    END IF;
END
$$;

-- Disables an endpoint that wants no more messages, and raises an alert in the account whose message it refused.
CREATE OR REPLACE FUNCTION guardwire.disable_endpoint(account uuid, endpoint uuid, reason text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- The operator's test message belongs to no account.
    IF account <> guardwire.no_account() THEN
        PERFORM guardwire.advance_account(account);
        PERFORM guardwire.raise_alert(
            account, 'delivery', 'warning', endpoint::text, NULL, NULL, clock_timestamp(), NULL, NULL, NULL);
    END IF;
    UPDATE guardwire.endpoints AS e SET disabled_at = clock_timestamp(), disabled_reason = reason
    WHERE e.endpoint_id = endpoint AND e.disabled_at IS NULL;
END
$$;

-- ---------------------------------------------------------------- endpoints and policies

-- A new secret that signs messages: 256 bits, of which 244 are random.
CREATE OR REPLACE FUNCTION guardwire.new_secret() RETURNS text LANGUAGE sql VOLATILE
RETURN concat('whsec_', encode(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()), 'base64'));

-- Resolves the alerts that say that an endpoint is disabled. It comes before any change of the endpoint, because it locks accounts.
CREATE OR REPLACE FUNCTION guardwire.resolve_delivery_alerts(endpoint uuid, reason text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    account uuid;
BEGIN
    FOR account IN SELECT a.user_id FROM guardwire.alerts AS a
                   WHERE a.kind = 'delivery' AND a.subject = endpoint::text AND a.stands ORDER BY a.user_id LOOP
        PERFORM guardwire.advance_account(account);
        PERFORM guardwire.resolve_alert(account, 'delivery', endpoint::text, clock_timestamp(), reason);
    END LOOP;
END
$$;

-- Adds an endpoint of an account, or changes it; its id, null for one that the account has not. Null leaves a value as it is.
CREATE OR REPLACE FUNCTION guardwire.put_endpoint(
    account uuid, endpoint uuid, kind text, url text, description text, enabled boolean
) RETURNS uuid LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    id uuid;
BEGIN
    IF endpoint IS NULL THEN
        INSERT INTO guardwire.endpoints (user_id, kind, url, secrets, description, disabled_at)
        VALUES (account, put_endpoint.kind, put_endpoint.url,
                CASE put_endpoint.kind WHEN 'webhook' THEN ARRAY[guardwire.new_secret()] ELSE '{}' END, put_endpoint.description,
                CASE WHEN NOT enabled THEN clock_timestamp() END)
        RETURNING endpoint_id INTO id;
        RETURN id;
    END IF;
    IF enabled AND EXISTS (SELECT FROM guardwire.endpoints AS e WHERE e.endpoint_id = endpoint AND e.user_id = account) THEN
        PERFORM guardwire.resolve_delivery_alerts(endpoint, 'the endpoint was enabled');
    END IF;
    UPDATE guardwire.endpoints AS e
    SET url = coalesce(put_endpoint.url, e.url), description = coalesce(put_endpoint.description, e.description),
        disabled_at = CASE WHEN enabled THEN NULL WHEN NOT enabled THEN coalesce(e.disabled_at, clock_timestamp()) ELSE e.disabled_at END,
        disabled_reason = CASE WHEN enabled IS NULL THEN e.disabled_reason END
    WHERE e.endpoint_id = endpoint AND e.user_id = account
    RETURNING e.endpoint_id INTO id;
    RETURN id;
END
$$;

-- Deletes an endpoint of an account; whether it was there. Messages to it are finished when they are due.
CREATE OR REPLACE FUNCTION guardwire.delete_endpoint(account uuid, endpoint uuid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM guardwire.endpoints AS e WHERE e.endpoint_id = endpoint AND e.user_id = account) THEN
        RETURN false;
    END IF;
    PERFORM guardwire.resolve_delivery_alerts(endpoint, 'the endpoint was deleted');
    DELETE FROM guardwire.endpoints AS e WHERE e.endpoint_id = endpoint AND e.user_id = account;
    RETURN FOUND;
END
$$;

-- Gives a webhook a new secret; the one before signs too, until the next rotation. Null for an endpoint that the account has not.
CREATE OR REPLACE FUNCTION guardwire.rotate_secret(account uuid, endpoint uuid) RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE guardwire.endpoints AS e SET secrets = guardwire.new_secret() || e.secrets[1:1]
    WHERE e.endpoint_id = endpoint AND e.user_id = account AND e.kind = 'webhook'
    RETURNING e.secrets[1]
$$;

-- Puts a test message to an endpoint into the outbox; its delivery, null for an endpoint that the account has not or that is disabled.
CREATE OR REPLACE FUNCTION guardwire.test_endpoint(account uuid, endpoint uuid) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO guardwire.deliveries (alert_id, generation, level, endpoint_id, user_id, message_id, payload)
    SELECT t.alert_id, 0, 0, e.endpoint_id, account, concat(t.alert_id, '.0.0'),
           jsonb_build_object('type', 'alert.test', 'timestamp', guardwire.iso(clock_timestamp()), 'data', jsonb_build_object(
               'alert_id', t.alert_id, 'generation', 0, 'level', 0, 'account', account, 'kind', 'test', 'severity', 'warning',
               'subject', '', 'first_raised_at', guardwire.iso(clock_timestamp()), 'raised_at', guardwire.iso(clock_timestamp()),
               'occurrences', 1))
    FROM guardwire.endpoints AS e, (SELECT gen_random_uuid() AS alert_id) AS t
    WHERE e.endpoint_id = endpoint AND e.user_id = account AND e.disabled_at IS NULL
    RETURNING delivery_id
$$;

-- Sends a finished message of an account again, under the id that it had; whether there was one. It is dropped where its alert was
-- acknowledged or resolved meanwhile.
CREATE OR REPLACE FUNCTION guardwire.redeliver(account uuid, endpoint uuid, delivery bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE guardwire.deliveries AS d
    SET finished_at = NULL, outcome = NULL, due_at = clock_timestamp(), attempts = 0, claimed_by = NULL, lease_until = NULL
    FROM guardwire.endpoints AS e
    WHERE d.delivery_id = delivery AND d.endpoint_id = endpoint AND d.finished_at IS NOT NULL
      AND e.endpoint_id = endpoint AND e.user_id = account;
    RETURN FOUND;
END
$$;

-- Changes an account's policy, or the default one; the policy. Alerts that were raised keep theirs. Raises 22023 for an unknown name.
CREATE OR REPLACE FUNCTION guardwire.put_escalation(account uuid, changes jsonb) RETURNS guardwire.escalation
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    policy guardwire.escalation := guardwire.escalation_of(account);
    unknown text;
BEGIN
    SELECT string_agg(k.name, ', ' ORDER BY k.name) INTO unknown FROM jsonb_object_keys(changes) AS k (name)
    WHERE k.name = 'user_id' OR NOT to_jsonb(policy) ? k.name;
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION 'a policy has no %', unknown USING ERRCODE = 'invalid_parameter_value';
    END IF;
    policy := jsonb_populate_record(policy, changes);
    DELETE FROM guardwire.escalation AS e WHERE e.user_id = account;
    INSERT INTO guardwire.escalation SELECT (policy).*;
    RETURN policy;
END
$$;
