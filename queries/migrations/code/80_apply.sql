-- The applier's work: rows of the inbox become account state, in batches.
--
-- One batch is one transaction. It holds whole transactions of the platform for each account (up to 5,000 rows), gives each
-- account one revision, and records the order of its rows in guardwire.arrivals. Most accounts of a batch only moved
-- prices: those are applied by a fixed number of statements, whatever the size of the batch, and published as deltas. All
-- other accounts are applied rule by rule, and published as change notices.

-- ---------------------------------------------------------------- the lease

-- When a lease ends that is taken or renewed now: after a minute at most.
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
        -- A transaction that was not open at the renewal before has no row up to where the scan began then.
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

-- ---------------------------------------------------------------- what waits

-- Accounts of rows that wait behind the oldest ones: those of the newest rows, and those of rows at a place taken by chance.
-- Without these, one account's million rows would hold up another account's one row in their midst.
CREATE OR REPLACE FUNCTION guardwire.find_accounts(known uuid[], after_nth bigint, most integer) RETURNS uuid[]
LANGUAGE plpgsql AS $$
DECLARE
    place bigint := after_nth + (random() * (guardwire.last_nth() - after_nth))::bigint;
BEGIN
    RETURN ARRAY(
        SELECT o.account
        FROM ((SELECT w.account
               FROM (SELECT i.account, i.nth FROM guardwire.inbox AS i WHERE i.nth > after_nth ORDER BY i.nth DESC LIMIT most) AS w
               WHERE w.account <> ALL (known)
               GROUP BY w.account ORDER BY max(w.nth) DESC LIMIT 50)
              UNION
              (SELECT DISTINCT i.account FROM guardwire.inbox AS i
               WHERE i.nth > place AND i.nth <= place + 4 * most AND i.account <> ALL (known) LIMIT 20)) AS o
        WHERE NOT EXISTS (SELECT FROM guardwire.accounts AS a WHERE a.user_id = o.account AND NOT a.ready));
END
$$;

-- The first rows of accounts, about `most` together: of the account with the oldest row, then of `early` accounts, then of
-- the others from the one with the fewest on. Accounts share equally; what an account does not need of its share goes to
-- those that need more. A share ends where no transaction is cut in two, as far as the account's next 5,000 rows reach: rows of
-- several transactions may take turns.
CREATE OR REPLACE FUNCTION guardwire.share_rows(early uuid[], others uuid[], scan_from bigint, most integer) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    -- An account costs more than some rows of it.
    share integer := greatest(least(10, most), most / cardinality(early || others));
    chosen uuid[];
    unused integer;
    needy integer;
BEGIN
    SELECT array_agg(p.account ORDER BY p.upto), most - sum(p.waiting), count(*) FILTER (WHERE p.waiting = share)
    INTO chosen, unused, needy
    FROM (SELECT o.account, o.waiting, sum(o.waiting) OVER (
                     ORDER BY o.nth > o.oldest, o.account <> ALL (early), o.waiting, o.nth
                     ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS upto
          FROM (SELECT u.account, w.waiting, w.nth, min(w.nth) OVER () AS oldest
                FROM unnest(early || others) AS u (account)
                CROSS JOIN LATERAL (SELECT count(*)::integer AS waiting, min(r.nth) AS nth
                                    FROM (SELECT i.nth FROM guardwire.inbox AS i WHERE i.account = u.account AND i.nth > scan_from
                                          ORDER BY i.nth LIMIT share) AS r) AS w
                WHERE w.waiting > 0) AS o) AS p
    WHERE p.upto - p.waiting < most;
    IF needy > 0 AND unused > 0 THEN
        share := share + unused / needy;
    END IF;
    RETURN ARRAY(
        WITH seen AS (
            -- All rows of an account that has no more than its share, and 5,000 rows beyond the share of another one.
            SELECT c.account, c.turn, o.nth, o.place, max(o.nth) OVER (PARTITION BY c.account, o.xid) AS last_of_transaction
            FROM unnest(chosen) WITH ORDINALITY AS c (account, turn)
            CROSS JOIN LATERAL (SELECT i.nth, i.xid, row_number() OVER (ORDER BY i.nth) AS place FROM guardwire.inbox AS i
                                WHERE i.account = c.account AND i.nth > scan_from ORDER BY i.nth LIMIT share + 5000) AS o
        ), ended AS (
            SELECT s.*, max(s.last_of_transaction) OVER (PARTITION BY s.account ORDER BY s.nth) = s.nth AS ends_all
            FROM seen AS s
        ), whole AS MATERIALIZED (
            SELECT o.account, o.turn, o.nth
            FROM (SELECT e.*, min(e.nth) FILTER (WHERE e.place >= share AND e.ends_all) OVER (PARTITION BY e.account) AS upto
                  FROM ended AS e) AS o
            WHERE o.nth <= coalesce(o.upto, o.nth)
        ), placed AS (
            -- The transaction of the oldest row does not count: however long it is, accounts with a row or two come along.
            SELECT w.account, sum(count(*)) FILTER (WHERE w.turn > 1) OVER (
                                  ORDER BY w.turn ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
            FROM whole AS w GROUP BY w.account, w.turn
        )
        SELECT w.nth FROM whole AS w JOIN placed AS p ON p.account = w.account WHERE coalesce(p.before, 0) < most);
END
$$;

-- Deletes and returns the rows of one batch: all rows that wait if they are fewer than `most`.
CREATE OR REPLACE FUNCTION guardwire.take_rows(most integer) RETURNS guardwire.inbox[]
LANGUAGE plpgsql AS $$
DECLARE
    scan_from bigint;
    wanted bigint[];
    accounts uuid[];
    taken guardwire.inbox[];
BEGIN
    -- Until the accounts with history are listed, it is not known of an account without a row whether it has history.
    IF NOT EXISTS (SELECT FROM guardwire.backfill AS b WHERE b.listed OR b.done) THEN
        RETURN NULL;
    END IF;
    LOOP
        scan_from := guardwire.scan_from();
        SELECT array_agg(w.nth), array_agg(DISTINCT w.account) INTO wanted, accounts
        FROM (SELECT i.nth, i.account FROM guardwire.inbox AS i
              WHERE i.nth > scan_from
                AND NOT EXISTS (SELECT FROM guardwire.accounts AS a WHERE a.user_id = i.account AND NOT a.ready)
              ORDER BY i.nth LIMIT most) AS w;
        -- A plan for any batch expects ten accounts and joins by nested loops: a thousand accounts would take seconds. A plan for
        -- this batch costs 2 ms.
        IF cardinality(accounts) > 60 THEN
            PERFORM set_config('plan_cache_mode', 'force_custom_plan', true);
        END IF;
        IF cardinality(wanted) = most THEN
            wanted := guardwire.share_rows(guardwire.find_accounts(accounts, wanted[most], most), accounts, scan_from, most);
        END IF;
        -- A transaction that ended since has rows before the place where these scans began.
        EXIT WHEN guardwire.scan_from() >= scan_from;
    END LOOP;
    WITH gone AS (DELETE FROM guardwire.inbox AS i WHERE i.nth = ANY (wanted) RETURNING i)
    SELECT array_agg(g.i ORDER BY (g.i).account, (g.i).nth) INTO taken FROM gone AS g;
    RETURN taken;
END
$$;

-- What the oldest rows of an account say of its waiting, at most so many rows. A row is old when it arrived more than a second
-- ago and was visible to an earlier snapshot; the row of a long transaction arrived early, but waits only from the commit on.
CREATE OR REPLACE FUNCTION guardwire.waiting_rows_of(of_account uuid, from_nth bigint, earlier pg_snapshot, most integer)
RETURNS TABLE (waiting bigint, is_old boolean, arrived_early boolean) LANGUAGE sql STABLE AS $$
    SELECT count(*), coalesce(bool_or(o.arrived_early AND pg_visible_in_snapshot(o.xid, earlier)), false),
           coalesce(bool_or(o.arrived_early), false)
    FROM (SELECT i.xid, i.arrived_at < statement_timestamp() - interval '1 second' AS arrived_early FROM guardwire.inbox AS i
          WHERE i.account = of_account AND i.nth > from_nth ORDER BY i.nth LIMIT most) AS o
$$;

-- Which of these accounts have rows that are not applied. `is_old` rows have waited for a second, or cannot be applied at all:
-- their accounts are behind. A null account stands for all: a rate, an instrument or an emptied table waits.
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
    IF (SELECT count(*) FROM (SELECT FROM guardwire.inbox AS i WHERE i.nth > from_nth LIMIT few) AS o) < few THEN
        RETURN QUERY
        SELECT nullif(i.account, guardwire.no_account()),
               bool_or(i.arrived_at < a_second_ago AND pg_visible_in_snapshot(i.xid, earlier))
        FROM guardwire.inbox AS i
        WHERE i.nth > from_nth
          AND (i.account = ANY (watched) OR (i.account = guardwire.no_account() AND i.source NOT IN ('l', 'e')))
        GROUP BY i.account;
    ELSE
        -- Of each account the oldest 20 rows. Where these are of a transaction that became visible only now, 200; an account with
        -- more of these is behind, because an older row may wait among the others.
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

-- ---------------------------------------------------------------- rates, instruments, limits

-- Makes the newest usable rate of each pair current; the accounts whose open positions it converts.
CREATE OR REPLACE FUNCTION guardwire.apply_rates(rows guardwire.copied_row[]) RETURNS uuid[] LANGUAGE plpgsql AS $$
DECLARE
    concerned uuid[];
BEGIN
    WITH rates AS (
        SELECT r.nth, r.new_row ->> 'id' AS id, guardwire.read_code(r.new_row ->> 'base', 16) AS base,
               guardwire.read_code(r.new_row ->> 'quote', 16) AS quote, guardwire.read_number(r.new_row -> 'rate') AS rate,
               coalesce(guardwire.read_time(r.new_row ->> 'created_at'), r.arrived_at) AS at
        FROM unnest(rows) AS r WHERE r.source = 'x' AND r.new_row IS NOT NULL
    ), ignored AS (
        INSERT INTO guardwire.ignored_rows (source, row_key, reason)
        SELECT 'fx', coalesce(r.id, ''), 'rate' FROM rates AS r
        WHERE r.base IS NULL OR r.quote IS NULL OR r.rate IS NULL OR r.rate <= 0
    ), moved AS (
        INSERT INTO guardwire.fx_current AS c (base, quote, rate, as_of)
        SELECT DISTINCT ON (r.base, r.quote) r.base, r.quote, r.rate, r.at FROM rates AS r
        WHERE r.base IS NOT NULL AND r.quote IS NOT NULL AND r.rate > 0
        ORDER BY r.base, r.quote, r.at DESC, r.nth DESC
        ON CONFLICT ON CONSTRAINT fx_current_pkey DO UPDATE SET rate = excluded.rate, as_of = excluded.as_of
            WHERE c.as_of <= excluded.as_of
        RETURNING c.base, c.quote
    )
    SELECT array_agg(DISTINCT p.user_id) INTO concerned
    FROM moved AS m
    JOIN guardwire.positions AS p ON p.is_open AND p.quote_currency IN (m.base, m.quote)
    JOIN guardwire.accounts AS a ON a.user_id = p.user_id AND a.currency IN (m.base, m.quote) AND a.currency <> p.quote_currency;
    RETURN concerned;
END
$$;

-- A row of instruments as jsonb, as a contract; the symbol is null where the row cannot be used.
CREATE OR REPLACE FUNCTION guardwire.read_contract(instrument jsonb) RETURNS guardwire.contracts LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    c guardwire.contracts;
BEGIN
    c.symbol := guardwire.read_code(instrument ->> 'symbol', 64);
    c.contract_size := guardwire.read_number(instrument -> 'contract_size');
    c.quote_currency := guardwire.read_code(instrument ->> 'quote_currency', 16);
    IF (c.contract_size > 0) IS NOT TRUE OR c.quote_currency IS NULL THEN
        c.symbol := NULL;
    END IF;
    RETURN c;
END
$$;

-- Copies instruments that changed; the symbols concerned.
CREATE OR REPLACE FUNCTION guardwire.copy_instruments(rows guardwire.copied_row[]) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    r guardwire.copied_row;
    symbols text[] := '{}';
    old_symbol text;
    c guardwire.contracts;
BEGIN
    FOREACH r IN ARRAY rows LOOP
        CONTINUE WHEN r.source <> 'i';
        IF r.operation = 't' THEN
            symbols := symbols || ARRAY(SELECT o.symbol FROM guardwire.contracts AS o);
            DELETE FROM guardwire.contracts;
        END IF;
        IF r.old_row IS NOT NULL THEN
            old_symbol := guardwire.read_code(r.old_row ->> 'symbol', 64);
            symbols := symbols || old_symbol;
            DELETE FROM guardwire.contracts AS o WHERE o.symbol = old_symbol;
        END IF;
        c := guardwire.read_contract(r.new_row);
        IF c.symbol IS NOT NULL THEN
            symbols := symbols || c.symbol;
            INSERT INTO guardwire.contracts SELECT c.*
            ON CONFLICT (symbol) DO UPDATE SET contract_size = excluded.contract_size, quote_currency = excluded.quote_currency;
        END IF;
    END LOOP;
    RETURN symbols;
END
$$;

-- Recomputes the open positions of these symbols, in accounts that are locked and ready.
CREATE OR REPLACE FUNCTION guardwire.apply_instruments(symbols text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM guardwire.write_positions('{}', ARRAY(
        SELECT guardwire.recompute_position(guardwire.set_instrument(p))
        FROM guardwire.positions AS p JOIN guardwire.accounts AS a ON a.user_id = p.user_id AND a.ready
        WHERE p.is_open AND upper(p.symbol COLLATE "C") = ANY (symbols)));
END
$$;

-- A row of guard_limits as jsonb, as limits; what it lacks, or has in a form that cannot be used, gets the default.
CREATE OR REPLACE FUNCTION guardwire.read_limits(account uuid, l jsonb, nth bigint) RETURNS guardwire.limits
LANGUAGE plpgsql STABLE AS $$
DECLARE
    r guardwire.limits := guardwire.limits_of(guardwire.no_account());
BEGIN
    r.user_id := account;
    r.nth := nth;
    r.drawdown_warning_pct := coalesce(guardwire.read_number(l -> 'drawdown_warning_pct'), r.drawdown_warning_pct);
    r.drawdown_critical_pct := coalesce(guardwire.read_number(l -> 'drawdown_critical_pct'), r.drawdown_critical_pct);
    r.minimum_equity := coalesce(guardwire.read_number(l -> 'minimum_equity'), r.minimum_equity);
    r.countdown_seconds := coalesce(guardwire.read_seconds(l -> 'countdown_seconds', 86400), r.countdown_seconds);
    r.gap_warning_pct := coalesce(guardwire.read_number(l -> 'gap_warning_pct'), r.gap_warning_pct);
    r.gap_critical_pct := coalesce(guardwire.read_number(l -> 'gap_critical_pct'), r.gap_critical_pct);
    r.spread_warning_pct := coalesce(guardwire.read_number(l -> 'spread_warning_pct'), r.spread_warning_pct);
    r.spread_critical_pct := coalesce(guardwire.read_number(l -> 'spread_critical_pct'), r.spread_critical_pct);
    r.alert_window_seconds := coalesce(guardwire.read_seconds(l -> 'alert_window_seconds', 2678400), r.alert_window_seconds);
    r.sync_overdue_seconds := coalesce(guardwire.read_seconds(l -> 'sync_overdue_seconds', 2678400), r.sync_overdue_seconds);
    r.peak_since := guardwire.read_time(l ->> 'peak_since');
    RETURN r;
END
$$;

-- Copies an account's limits: from its row of guard_limits, or back to the defaults when the row is gone.
CREATE OR REPLACE FUNCTION guardwire.copy_limits(account uuid, new_row jsonb, nth bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM guardwire.limits AS l WHERE l.user_id = account AND l.user_id <> guardwire.no_account();
    IF new_row IS NOT NULL THEN
        INSERT INTO guardwire.limits SELECT l.* FROM guardwire.read_limits(account, new_row, nth) AS l;
    END IF;
END
$$;

-- The account from which the platform moved a row of limits to another account; null for other rows.
CREATE OR REPLACE FUNCTION guardwire.moved_from(account uuid, old_user text) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN nullif(guardwire.read_user(old_user), account);

-- Deletes the limits that an account had before a row of the inbox, or those of all accounts where it is null; the accounts that
-- had some. The statement of that row, a TRUNCATE or an UPDATE of the key, waited for everybody who had written these limits, so
-- none of their copies is still to be committed. Copies that still wait are deleted, too: they would be applied after this row.
CREATE OR REPLACE FUNCTION guardwire.forget_limits(of_account uuid, before_nth bigint) RETURNS uuid[] LANGUAGE plpgsql AS $$
DECLARE
    forgotten uuid[];
    moved record;
BEGIN
    WITH gone AS (DELETE FROM guardwire.limits AS l
                  WHERE l.user_id = coalesce(of_account, l.user_id) AND l.user_id <> guardwire.no_account() AND l.nth < before_nth
                  RETURNING l.user_id)
    SELECT array_agg(g.user_id) INTO forgotten FROM gone AS g;
    FOR moved IN
        WITH gone AS (DELETE FROM guardwire.inbox AS i
                      WHERE i.nth > guardwire.scan_from() AND i.nth < before_nth AND i.source = 'g' AND i.operation <> 't'
                        AND i.account = coalesce(of_account, i.account) RETURNING i.nth, i.account, i.old_row)
        SELECT g.nth, guardwire.moved_from(g.account, g.old_row ->> 'user_id') AS account FROM gone AS g
    LOOP
        CONTINUE WHEN moved.account IS NULL;
        forgotten := forgotten || guardwire.forget_limits(moved.account, moved.nth);
    END LOOP;
    RETURN forgotten;
END
$$;

-- Judges a locked account by limits that changed. Rows of the batch that come after a row are still to be applied.
CREATE OR REPLACE FUNCTION guardwire.apply_limits(
    account uuid, arrived_at timestamptz, revision bigint, ordinal integer, batch guardwire.inbox[], after_nth bigint
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    a guardwire.accounts;
    l guardwire.limits := guardwire.limits_of(account);
    held guardwire.market_alerts;
    m guardwire.market_alerts;
BEGIN
    SELECT o.* INTO a FROM guardwire.accounts AS o WHERE o.user_id = account;
    IF NOT a.ready THEN
        RETURN;
    END IF;
    IF a.peak_since IS DISTINCT FROM l.peak_since THEN
        PERFORM guardwire.recompute_equity(account, batch, after_nth);
    END IF;
    UPDATE guardwire.accounts AS o SET sync_due_at = arrived_at WHERE o.user_id = account AND o.source = 'live';
    PERFORM guardwire.judge_drawdown(account, concat('limits-', revision), arrived_at, arrived_at, revision, ordinal);
    FOR held IN SELECT o.* FROM guardwire.market_alerts AS o WHERE o.user_id = account LOOP
        m := held;
        m.alert_type := guardwire.market_level(m, l);
        m.expires_at := m.detected_at + make_interval(secs => l.alert_window_seconds);
        UPDATE guardwire.market_alerts AS o SET alert_type = m.alert_type, expires_at = m.expires_at
        WHERE o.user_id = account AND o.symbol = m.symbol AND o.condition_type = m.condition_type;
        PERFORM guardwire.follow_market_level(
            held.alert_type, m, guardwire.cause_of(m.log_id::text, false, revision, ordinal), arrived_at);
    END LOOP;
END
$$;
