-- Accounts: the lock that orders an account's changes, its revision, and the change notices for nodes.

-- Locks accounts in one order and gives each its next revision; an unknown account gets a row.
CREATE OR REPLACE FUNCTION guardwire.lock_accounts(wanted uuid[]) RETURNS TABLE (user_id uuid, revision bigint, ready boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    INSERT INTO guardwire.accounts AS a (user_id, revision, ready)
    SELECT w.user_id, guardwire.unix_us(clock_timestamp()), b.done OR b.listed
    FROM (SELECT DISTINCT u.user_id FROM unnest(wanted) AS u (user_id)
          WHERE u.user_id <> guardwire.no_account()) AS w, guardwire.backfill AS b
    ORDER BY w.user_id
    ON CONFLICT ON CONSTRAINT accounts_pkey DO UPDATE
        SET revision = greatest(a.revision + 1, excluded.revision), base_revision = a.revision
    RETURNING a.user_id, a.revision, a.ready;
END
$$;

-- Sends change notices: `user=revision` items in chunks that fit a notification. Nothing is sent while the queue of
-- notifications is half full, because a full queue makes COMMIT fail; the nodes' sweeps find the change.
CREATE OR REPLACE FUNCTION guardwire.send_notices(users uuid[], revisions bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    chunk text;
BEGIN
    IF users IS NULL OR pg_notification_queue_usage() >= 0.5 THEN
        RETURN;
    END IF;
    FOR chunk IN
        SELECT string_agg(u.user_id::text || '=' || u.revision::text, ',')
        FROM unnest(users, revisions) WITH ORDINALITY AS u (user_id, revision, nth)
        GROUP BY (u.nth - 1) / 130
    LOOP
        PERFORM pg_notify('guardwire', chunk);
    END LOOP;
END
$$;
