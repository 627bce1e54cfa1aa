-- Accounts: the lock that orders an account's commits, its revision, and the hint that is sent when it grows.

-- Locks accounts in one order and gives each its next revision; an account that is new appears. Accounts that are already
-- locked by somebody can be left out.
CREATE FUNCTION guardwire.lock_accounts(wanted uuid[]) RETURNS TABLE (user_id uuid, revision bigint, ready boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    INSERT INTO guardwire.accounts AS a (user_id, revision, ready)
    SELECT w.user_id, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, b.done OR b.listed
    FROM (SELECT DISTINCT u.user_id FROM unnest(wanted) AS u (user_id) WHERE u.user_id IS NOT NULL) AS w, guardwire.backfill AS b
    ORDER BY w.user_id
    ON CONFLICT ON CONSTRAINT accounts_pkey DO UPDATE
        SET revision = greatest(a.revision + 1, excluded.revision), base_revision = a.revision
    RETURNING a.user_id, a.revision, a.ready;
END
$$;

-- What instruments and rates are is read by every account, and no account's lock guards it. So a commit that may read them
-- holds this lock together with others, and one that changes them holds it alone: neither can miss the other. It is a lock
-- of a table and not an advisory one, which any login could hold: these modes take a right to write that only the owner has.
-- Reading the table needs neither.
CREATE FUNCTION guardwire.lock_reference(changes boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF changes THEN
        LOCK TABLE guardwire.reference IN EXCLUSIVE MODE;
        UPDATE guardwire.reference SET changes = reference.changes + 1;
        RETURN;
    END IF;
    LOCK TABLE guardwire.reference IN ROW SHARE MODE;
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        -- Such a writer sees what was there when it began: it fails here where that is no longer so, and leaves a note.
        PERFORM FROM guardwire.reference FOR SHARE;
    END IF;
END
$$;

CREATE TABLE guardwire.reference (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    changes bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE guardwire.reference IS 'One row: how often instruments or rates have changed';
COMMENT ON COLUMN guardwire.reference.singleton IS 'Keeps the table at one row';
COMMENT ON COLUMN guardwire.reference.changes IS 'Grows with every commit that changes instruments or rates';
INSERT INTO guardwire.reference DEFAULT VALUES;

-- guardwire.configuration.notify as a constant, which costs a commit nothing where a table would cost it a tenth.
CREATE FUNCTION guardwire.notifies() RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';

CREATE FUNCTION guardwire.configure() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('CREATE OR REPLACE FUNCTION guardwire.notifies() RETURNS boolean LANGUAGE sql IMMUTABLE AS %L',
                   'SELECT ' || NEW.notify::text);
    RETURN NULL;
END
$$;

CREATE TRIGGER configure AFTER UPDATE ON guardwire.configuration FOR EACH ROW
WHEN (OLD.notify <> NEW.notify) EXECUTE FUNCTION guardwire.configure();

-- Hints for the nodes: in chunks that fit, and none while the queue is half full, for a full queue would fail writers.
CREATE FUNCTION guardwire.notify_nodes(users uuid[], revisions bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    chunk text;
BEGIN
    IF users IS NULL OR NOT guardwire.notifies() OR pg_notification_queue_usage() >= 0.5 THEN
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
