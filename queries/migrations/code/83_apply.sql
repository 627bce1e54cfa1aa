-- The applier's work: rows of the inbox become account state, in batches.
--
-- One batch is one transaction. It holds whole transactions of the platform for each account (up to 5,000 rows), gives each
-- account one revision, and records the order of its rows in guardwire.arrivals. Most accounts of a batch only moved
-- prices: a fixed number of statements applies those, however many rows the batch has, and they are published as deltas. All
-- other accounts are applied rule by rule, and published as change notices.

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

-- Applies one batch of about `most` rows. Notifies nodes of the changes, unless the caller publishes them in another way. Raises
-- GW001 when the term is over.
CREATE OR REPLACE FUNCTION guardwire.apply(held_term bigint, most integer, notifies boolean DEFAULT true)
RETURNS guardwire.batch_result LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan SET trace_notify = off AS $$
DECLARE
    taken guardwire.inbox[];
BEGIN
    PERFORM guardwire.check_term(held_term);
    taken := guardwire.take_rows(most);
    RETURN guardwire.finish_batch(taken, ARRAY(SELECT ROW(c.account, c.revision, c.delta)::guardwire.change
                                               FROM guardwire.apply_rows(taken, taken) AS c), 0, notifies);
END
$$;

-- The same after a batch failed: each row is applied by itself, and a row that cannot be applied is set aside.
CREATE OR REPLACE FUNCTION guardwire.apply_singly(held_term bigint, most integer, notifies boolean DEFAULT true)
RETURNS guardwire.batch_result LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
SET enable_seqscan = off SET trace_notify = off AS $$
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
    RETURN guardwire.finish_batch(taken, changed, failed, notifies);
END
$$;

CREATE OR REPLACE FUNCTION guardwire.finish_batch(
    taken guardwire.inbox[], changed guardwire.change[], failed integer, notifies boolean
) RETURNS guardwire.batch_result LANGUAGE plpgsql AS $$
DECLARE
    result guardwire.batch_result;
BEGIN
    result.applied := coalesce(cardinality(taken), 0);
    result.set_aside := failed;
    SELECT min(r.arrived_at) INTO result.oldest_arrived_at FROM unnest(taken) AS r;
    IF cardinality(changed) > 0 THEN
        IF notifies THEN
            PERFORM guardwire.publish(changed);
        END IF;
        SELECT array_agg(c.account), array_agg(c.revision), array_agg(c.delta)
        INTO result.accounts, result.revisions, result.deltas FROM unnest(changed) AS c;
    END IF;
    RETURN result;
END
$$;
