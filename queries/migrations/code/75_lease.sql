-- The lease, which makes one process the applier, and the place from which the inbox is read.

-- The end of a lease that is taken or renewed now. It lasts a minute at most, because no other process can take it before.
CREATE OR REPLACE FUNCTION guardwire.lease_end(seconds double precision) RETURNS timestamptz LANGUAGE sql VOLATILE
RETURN clock_timestamp() + make_interval(secs => least(seconds, 60));

-- Takes the lease when nobody holds it, or its holder did not renew it in time; the term, or null when somebody holds it.
CREATE OR REPLACE FUNCTION guardwire.take_lease(holder text, seconds double precision) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    new_term bigint;
BEGIN
    UPDATE guardwire.applier AS l
    SET term = l.term + 1, holder = take_lease.holder, backend_pid = pg_backend_pid(),
        held_until = guardwire.lease_end(seconds)
    WHERE l.shard = 0 AND (l.holder IS NULL OR l.held_until < clock_timestamp()
                           OR NOT EXISTS (SELECT FROM pg_stat_activity AS s WHERE s.pid = l.backend_pid))
    RETURNING l.term INTO new_term;
    RETURN new_term;
END
$$;

-- Open transactions that have written to the inbox. A transaction that wrote there holds a lock on the table until it has ended;
-- others may run for hours and are none of it.
CREATE OR REPLACE FUNCTION guardwire.open_writers() RETURNS xid8[] LANGUAGE plpgsql AS $$
DECLARE
    -- pg_locks shows the lower 32 bits of a transaction id: the whole id is the one that is nearest to the next id.
    epoch CONSTANT bigint := 4294967296;
    next_xid bigint := pg_snapshot_xmax(pg_current_snapshot())::text::bigint;
BEGIN
    RETURN ARRAY(
        WITH locks AS MATERIALIZED (SELECT * FROM pg_locks AS l WHERE l.granted),
             xids AS (SELECT (next_xid + mod(t.transactionid::text::bigint - mod(next_xid, epoch) + epoch + epoch / 2, epoch)
                              - epoch / 2)::text::xid8 AS xid
                      FROM locks AS l
                      JOIN locks AS t ON t.virtualtransaction = l.virtualtransaction AND t.locktype = 'transactionid'
                                         AND t.mode = 'ExclusiveLock'
                      WHERE l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND l.relation = 'guardwire.inbox'::regclass
                        AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database()))
        -- A subtransaction has an id of its own, which no row of the inbox has and no snapshot knows.
        SELECT x.xid FROM xids AS x WHERE NOT pg_visible_in_snapshot(x.xid, pg_current_snapshot()));
END
$$;

-- Prolongs the lease of a term, and moves the start of the scan over rows that are gone for good; false when another process
-- has the lease. A row that is invisible now was applied, was rolled back, or belongs to an open transaction, which is noted.
CREATE OR REPLACE FUNCTION guardwire.renew_lease(held_term bigint, seconds double precision) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    lease guardwire.applier;
    last_nth bigint := guardwire.last_nth();
    writers xid8[];
    begins bigint;
    oldest bigint;
BEGIN
    SELECT l.* INTO lease FROM guardwire.applier AS l WHERE l.shard = 0 FOR UPDATE;
    IF lease.term <> held_term THEN
        RETURN false;
    END IF;
    -- In this order, each statement with a snapshot of its own: a transaction that has a row up to last_nth is open now, or has
    -- ended and its row is visible to the next statement.
    writers := guardwire.open_writers();
    SELECT least(lease.scan_from, min(p.scan_from)) INTO begins
    FROM unnest(lease.passed_xids, lease.passed_from) AS p (xid, scan_from) WHERE p.xid <> ALL (writers);
    SELECT min(i.nth) INTO oldest FROM guardwire.inbox AS i WHERE i.nth > begins;
    UPDATE guardwire.applier AS l
    SET held_until = guardwire.lease_end(seconds),
        scan_from = least(greatest(l.scan_from, last_nth), oldest - 1),
        passed_xids = writers,
        -- A writer that is new since the renewal before has only rows after the place where the scan began then.
        passed_from = ARRAY(SELECT coalesce(l.passed_from[array_position(l.passed_xids, w.xid)], l.scan_from)
                            FROM unnest(writers) WITH ORDINALITY AS w (xid, place) ORDER BY w.place)
    WHERE l.shard = 0;
    RETURN true;
END
$$;

-- Gives the lease of a term back, so that another process takes it at once.
CREATE OR REPLACE FUNCTION guardwire.release_lease(held_term bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    UPDATE guardwire.applier AS l SET holder = NULL, held_until = '-infinity' WHERE l.shard = 0 AND l.term = held_term
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

-- ---------------------------------------------------------------- the scan

-- The place from which the inbox is read: no row up to this nth is visible to the caller's statement. A query that begins here
-- skips applied rows that vacuum cannot remove yet, because some old transaction is open. When a transaction has
-- ended and the scan had passed its rows, the scan begins before these rows until the lease is renewed.
CREATE OR REPLACE FUNCTION guardwire.scan_from() RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    lease guardwire.applier;
BEGIN
    SELECT a.* INTO lease FROM guardwire.applier AS a WHERE a.shard = 0;
    IF lease.passed_xids = '{}' THEN
        RETURN lease.scan_from;
    END IF;
    RETURN (SELECT least(lease.scan_from, min(p.scan_from))
            FROM unnest(lease.passed_xids, lease.passed_from) AS p (xid, scan_from)
            WHERE p.xid <> ALL (ARRAY(SELECT pg_snapshot_xip(pg_current_snapshot()))));
END
$$;

-- The last nth that the inbox has given; rows with a greater one are later than this call.
CREATE OR REPLACE FUNCTION guardwire.last_nth() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT CASE WHEN s.is_called THEN s.last_value ELSE 0 END FROM guardwire.inbox_nth_seq AS s);
END
$$;
