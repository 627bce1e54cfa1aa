-- Publishing: what a batch changed, for nodes other than the applier's own.

-- Authenticates a notification: 128 bits of SHA-256 over the secret and SHA-256 over the secret and the text. The outer
-- digest prevents length extension, as the padding of HMAC does; HMAC itself would need an extension of PostgreSQL.
CREATE OR REPLACE FUNCTION guardwire.delta_mac(secret bytea, payload text) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
RETURN left(encode(sha256(secret || sha256(secret || convert_to(payload, 'UTF8'))), 'hex'), 32);

-- Sends deltas on the secret channel, `mac#delta;delta…`, in chunks that fit a notification. An account whose delta does not
-- fit by itself gets a change notice. trace_notify is off because it would print the channel's name to the client.
CREATE OR REPLACE FUNCTION guardwire.publish(changed guardwire.change[]) RETURNS void LANGUAGE plpgsql SET trace_notify = off AS $$
DECLARE
    settings guardwire.configuration;
    c guardwire.change;
    chunk text := '';
    unread guardwire.change[] := '{}';
BEGIN
    IF pg_notification_queue_usage() >= 0.5 THEN
        RETURN;
    END IF;
    SELECT o.* INTO settings FROM guardwire.configuration AS o;
    FOREACH c IN ARRAY changed LOOP
        IF c.delta IS NULL OR octet_length(c.delta) > 7900 THEN
            unread := unread || c;
            CONTINUE;
        END IF;
        IF octet_length(chunk) + octet_length(c.delta) >= 7900 THEN
            PERFORM pg_notify(settings.delta_channel, guardwire.delta_mac(settings.delta_secret, chunk) || '#' || chunk);
            chunk := '';
        END IF;
        chunk := chunk || CASE WHEN chunk = '' THEN '' ELSE ';' END || c.delta;
    END LOOP;
    IF chunk <> '' THEN
        PERFORM pg_notify(settings.delta_channel, guardwire.delta_mac(settings.delta_secret, chunk) || '#' || chunk);
    END IF;
    PERFORM guardwire.send_notices(array_agg(u.account), array_agg(u.revision)) FROM unnest(unread) AS u;
END
$$;

DROP TYPE IF EXISTS guardwire.batch_result CASCADE;
CREATE TYPE guardwire.batch_result AS (
    applied integer,
    set_aside integer,
    oldest_arrived_at timestamptz,
    accounts uuid[],
    revisions bigint[],
    deltas text[]
);
COMMENT ON TYPE guardwire.batch_result IS 'What guardwire.apply did';
COMMENT ON COLUMN guardwire.batch_result.applied IS 'Rows of the inbox that left it';
COMMENT ON COLUMN guardwire.batch_result.set_aside IS 'Rows among them that could not be applied';
COMMENT ON COLUMN guardwire.batch_result.oldest_arrived_at IS 'Least arrived_at among the rows; null without rows';
COMMENT ON COLUMN guardwire.batch_result.accounts IS 'Accounts that changed';
COMMENT ON COLUMN guardwire.batch_result.revisions IS 'Their revisions';
COMMENT ON COLUMN guardwire.batch_result.deltas IS 'Their deltas; null for an account that has to be read';

-- Applies one batch of about `most` rows and publishes the changes. Raises GW001 when the term is over.
CREATE OR REPLACE FUNCTION guardwire.apply(held_term bigint, most integer) RETURNS guardwire.batch_result
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan SET trace_notify = off AS $$
DECLARE
    taken guardwire.inbox[];
BEGIN
    PERFORM guardwire.check_term(held_term);
    taken := guardwire.take_rows(most);
    RETURN guardwire.finish_batch(taken, ARRAY(SELECT ROW(c.account, c.revision, c.delta)::guardwire.change FROM guardwire.apply_rows(taken, taken) AS c), 0);
END
$$;

-- The same after a batch failed: each row is applied by itself, and a row that cannot be applied is set aside.
CREATE OR REPLACE FUNCTION guardwire.apply_singly(held_term bigint, most integer) RETURNS guardwire.batch_result
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
SET trace_notify = off AS $$
DECLARE
    taken guardwire.inbox[];
    changed guardwire.change[] := '{}';
    failed integer := 0;
    r guardwire.inbox;
BEGIN
    PERFORM guardwire.check_term(held_term);
    taken := guardwire.take_rows(most);
    FOREACH r IN ARRAY coalesce(taken, '{}') LOOP
        BEGIN
            changed := changed || ARRAY(SELECT ROW(c.account, c.revision, c.delta)::guardwire.change
                                        FROM guardwire.apply_rows(ARRAY[r], taken) AS c);
        EXCEPTION WHEN OTHERS THEN
            -- A lock, a lost race, a full disk or a shutdown is not the row's fault: the whole batch is tried again.
            IF left(SQLSTATE, 2) IN ('40', '53', '55', '57', '58') THEN
                RAISE;
            END IF;
            failed := failed + 1;
            INSERT INTO guardwire.set_aside (nth, account, source, operation, new_row, old_row, xid, arrived_at, sqlstate, reason)
            VALUES (r.nth, r.account, r.source, r.operation, r.new_row, r.old_row, r.xid, r.arrived_at, SQLSTATE, left(SQLERRM, 500));
        END;
    END LOOP;
    RETURN guardwire.finish_batch(taken, changed, failed);
END
$$;

-- Fails unless the term holds the lease. The lock keeps a successor from beginning before this batch has ended.
CREATE OR REPLACE FUNCTION guardwire.check_term(held_term bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM guardwire.applier AS l WHERE l.shard = 0 AND l.term = held_term FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease of term % is over', held_term USING ERRCODE = 'GW001';
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION guardwire.finish_batch(taken guardwire.inbox[], changed guardwire.change[], failed integer)
RETURNS guardwire.batch_result LANGUAGE plpgsql AS $$
DECLARE
    result guardwire.batch_result;
BEGIN
    result.applied := coalesce(cardinality(taken), 0);
    result.set_aside := failed;
    SELECT min(r.arrived_at) INTO result.oldest_arrived_at FROM unnest(taken) AS r;
    IF cardinality(changed) > 0 THEN
        PERFORM guardwire.publish(changed);
        SELECT array_agg(c.account), array_agg(c.revision), array_agg(c.delta)
        INTO result.accounts, result.revisions, result.deltas FROM unnest(changed) AS c;
    END IF;
    RETURN result;
END
$$;

-- What operators look at: rows that wait, the age of the oldest in seconds, rows set aside, accounts that are not ready.
CREATE OR REPLACE FUNCTION guardwire.inbox_status(
    OUT waiting bigint, OUT oldest_seconds double precision, OUT set_aside bigint, OUT unread_accounts bigint, OUT term bigint
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    scan_from bigint := guardwire.scan_from();
BEGIN
    SELECT l.term INTO term FROM guardwire.applier AS l WHERE l.shard = 0;
    -- Counting stops at 100,000: then the exact number is of no use.
    SELECT count(*) INTO waiting FROM (SELECT FROM guardwire.inbox AS i WHERE i.nth > scan_from LIMIT 100000) AS o;
    SELECT extract(epoch FROM clock_timestamp() - i.arrived_at) INTO oldest_seconds
    FROM guardwire.inbox AS i WHERE i.nth > scan_from ORDER BY i.nth LIMIT 1;
    oldest_seconds := coalesce(greatest(oldest_seconds, 0), 0);
    SELECT count(*) INTO set_aside FROM guardwire.set_aside;
    SELECT count(*) INTO unread_accounts FROM guardwire.accounts AS a WHERE NOT a.ready;
END
$$;
