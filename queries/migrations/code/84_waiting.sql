-- Rows that wait in the inbox: the questions of sweeps and operators.

-- Counts the oldest rows of an account, up to `most`, and says whether one of them is old: it arrived more than a second ago, and
-- was visible to an earlier snapshot. The row of a long transaction arrived early, but waits only from the commit on.
CREATE OR REPLACE FUNCTION guardwire.waiting_rows_of(of_account uuid, from_nth bigint, earlier pg_snapshot, most integer)
RETURNS TABLE (waiting bigint, is_old boolean, arrived_early boolean) LANGUAGE sql STABLE AS $$
    SELECT count(*), coalesce(bool_or(o.arrived_early AND pg_visible_in_snapshot(o.xid, earlier)), false),
           coalesce(bool_or(o.arrived_early), false)
    FROM (SELECT i.xid, i.arrived_at < statement_timestamp() - interval '1 second' AS arrived_early FROM guardwire.inbox AS i
          WHERE i.account = of_account AND i.nth > from_nth ORDER BY i.nth LIMIT most) AS o
$$;

-- Which of these accounts have rows that are not applied. `is_old` rows have waited for a second, or cannot be applied at all:
-- their accounts are stale. A null account stands for all: a rate, an instrument or an emptied table waits.
CREATE OR REPLACE FUNCTION guardwire.waiting_accounts(watched uuid[], earlier pg_snapshot)
RETURNS TABLE (account uuid, is_old boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    from_nth bigint := guardwire.scan_from();
    few integer := 1000;
    a_second_ago timestamptz := statement_timestamp() - interval '1 second';
BEGIN
    RETURN QUERY SELECT nullif(s.account, guardwire.no_account()), true FROM guardwire.set_aside AS s
                 WHERE s.account = ANY (watched)
                    OR (s.account = guardwire.no_account() AND (s.source NOT IN ('l', 'e') OR s.sqlstate = '42703'));
    RETURN QUERY SELECT a.user_id, true FROM guardwire.accounts AS a WHERE NOT a.ready AND a.user_id = ANY (watched);
    -- The platform's clock may have gone back: rows that were ignored may be newer than the state.
    RETURN QUERY SELECT a.user_id, true FROM guardwire.accounts AS a
                 WHERE a.clock_doubted_at IS NOT NULL AND a.user_id = ANY (watched);
    -- The clock that stamps rates may have gone back as well. A rate concerns the accounts whose profit it converts.
    IF EXISTS (SELECT FROM guardwire.fx_current AS c WHERE guardwire.is_doubted(c)) THEN
        RETURN QUERY
        SELECT DISTINCT a.user_id, true
        FROM guardwire.fx_current AS c
        JOIN guardwire.accounts AS a ON a.user_id = ANY (watched) AND a.currency IN (c.base, c.quote)
        JOIN guardwire.positions AS p ON p.user_id = a.user_id AND p.is_open AND p.quote_currency IN (c.base, c.quote)
        WHERE guardwire.is_doubted(c) AND p.quote_currency <> a.currency;
    END IF;
    IF (SELECT count(*) FROM (SELECT FROM guardwire.inbox AS i WHERE i.nth > from_nth LIMIT few) AS o) < few THEN
        RETURN QUERY
        SELECT nullif(i.account, guardwire.no_account()),
               bool_or(i.arrived_at < a_second_ago AND pg_visible_in_snapshot(i.xid, earlier))
        FROM guardwire.inbox AS i
        WHERE i.nth > from_nth
          AND (i.account = ANY (watched) OR (i.account = guardwire.no_account() AND i.source NOT IN ('l', 'e')))
        GROUP BY i.account;
    ELSE
        -- 20 rows of each account are enough, unless they belong to a transaction that became visible only now. Then 200 rows are
        -- read. An account with more of such rows counts as behind, because an old row may be among the others.
        RETURN QUERY
        SELECT nullif(w.account, guardwire.no_account()),
               CASE WHEN f.is_old OR f.waiting < 20 OR NOT f.arrived_early THEN f.is_old
                    ELSE (SELECT m.is_old OR m.waiting = 200
                          FROM guardwire.waiting_rows_of(w.account, from_nth, earlier, 200) AS m) END
        FROM unnest(watched || guardwire.no_account()) AS w (account)
        CROSS JOIN LATERAL guardwire.waiting_rows_of(w.account, from_nth, earlier, 20) AS f
        WHERE f.waiting > 0;
    END IF;
END
$$;

-- Figures for operators: rows that wait, the age of the oldest in seconds, rows set aside, accounts that are not ready, accounts
-- whose platform's clock is off, and accounts whose clock may have gone back.
CREATE OR REPLACE FUNCTION guardwire.inbox_status(
    OUT waiting bigint, OUT oldest_seconds double precision, OUT set_aside bigint, OUT unread_accounts bigint, OUT term bigint,
    OUT clocks_off bigint, OUT doubted_accounts bigint
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
    SELECT count(*) INTO clocks_off FROM guardwire.accounts AS a WHERE a.clock_offset_seconds IS NOT NULL;
    SELECT count(*) INTO doubted_accounts FROM guardwire.accounts AS a WHERE a.clock_doubted_at IS NOT NULL;
END
$$;
