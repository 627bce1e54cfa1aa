-- One batch: which accounts only moved prices, and what becomes of the others.

DROP TYPE IF EXISTS guardwire.batch_row CASCADE;
CREATE TYPE guardwire.batch_row AS (
    account uuid,
    nth bigint,
    ordinal integer,
    source "char",
    id uuid,
    inserted boolean,
    is_plain boolean,
    seen_revision bigint,
    arrived_at timestamptz,
    at timestamptz,
    updated_at timestamptz,
    duration_ms double precision,
    ticket bigint,
    price numeric,
    equity numeric,
    balance numeric
);
COMMENT ON TYPE guardwire.batch_row IS 'A row of reconciliation_logs or equity_snapshots in a batch, as far as a plain change needs it';
COMMENT ON COLUMN guardwire.batch_row.ordinal IS 'Order among the account''s rows of the batch';
COMMENT ON COLUMN guardwire.batch_row.is_plain IS 'The row moves no more than prices, times and amounts';
COMMENT ON COLUMN guardwire.batch_row.at IS 'Time at which the row counts';
COMMENT ON COLUMN guardwire.batch_row.updated_at IS 'updated_at of the row, or at; never later than the arrival';
COMMENT ON COLUMN guardwire.batch_row.duration_ms IS 'As in guardwire.log_row';
COMMENT ON COLUMN guardwire.batch_row.seen_revision IS 'Revision of the account when that was decided';

DROP TYPE IF EXISTS guardwire.change CASCADE;
CREATE TYPE guardwire.change AS (account uuid, revision bigint, delta text);
COMMENT ON TYPE guardwire.change IS 'An account that a batch changed; delta is null where nodes have to read the account';

-- Makes an update of a row that moved to another partition: one transaction deleted and inserted it. The deleted copy is
-- its row before the update. Other deletions of log and equity change nothing, and are left out.
CREATE OR REPLACE FUNCTION guardwire.merge_moves(rows guardwire.copied_row[], batch guardwire.inbox[])
RETURNS guardwire.copied_row[] LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM unnest(batch) AS d WHERE d.operation = 'd' AND d.source IN ('l', 'e')) THEN
        RETURN rows;
    END IF;
    RETURN (
        SELECT array_agg(ROW(r.nth, r.account, r.source, CASE WHEN m.old_row IS NULL THEN r.operation ELSE 'u' END, r.new_row,
                             coalesce(m.old_row, r.old_row), r.xid, r.arrived_at)::guardwire.copied_row ORDER BY r.account, r.nth)
        FROM unnest(rows) AS r
        LEFT JOIN LATERAL (
            SELECT guardwire.parse_copy(d.source, d.old_row) AS old_row FROM unnest(batch) AS d
            WHERE r.operation = 'i' AND d.operation = 'd' AND d.source = r.source AND d.xid = r.xid AND d.nth < r.nth
              AND d.old_row ->> 'id' = r.new_row ->> 'id'
            ORDER BY d.nth DESC LIMIT 1
        ) AS m ON true
        WHERE NOT (r.operation = 'd' AND r.source IN ('l', 'e')));
END
$$;

-- Reads the rows of log and equity of a batch, and decides for each whether it is plain. A plain sync repeats its position's last row
-- except for the price and the times; a plain equity row is the newest, has no cash flow and changes no level.
CREATE OR REPLACE FUNCTION guardwire.classify_rows(rows guardwire.copied_row[]) RETURNS guardwire.batch_row[] LANGUAGE plpgsql AS $$
DECLARE
    classified guardwire.batch_row[];
BEGIN
    WITH read AS MATERIALIZED (
        SELECT r.account, r.nth, r.source, r.operation, r.arrived_at, r.new_row,
               row_number() OVER (PARTITION BY r.account ORDER BY r.nth)::integer AS ordinal,
               guardwire.read_user(r.id) AS id,
               least(guardwire.read_time(r.created_at), r.arrived_at) AS at,
               guardwire.read_time(r.created_at) AS created_at,
               guardwire.read_time(r.updated_at) AS updated_at,
               CASE r.source WHEN 'l' THEN guardwire.read_ticket(r.ticket) END AS ticket,
               CASE r.source WHEN 'l' THEN guardwire.read_number(r.price) END AS price,
               CASE r.source WHEN 'e' THEN guardwire.read_number(r.equity) END AS equity,
               CASE r.source WHEN 'e' THEN guardwire.read_number(r.balance) END AS balance
        -- The readings mention a value several times, so the values are taken out of the row first, once.
        FROM (SELECT u.*, u.new_row ->> 'id' AS id, u.new_row ->> 'created_at' AS created_at,
                     u.new_row ->> 'updated_at' AS updated_at, u.new_row -> 'mt5_position_id' AS ticket,
                     u.new_row -> 'current_price' AS price, u.new_row -> 'equity' AS equity, u.new_row -> 'balance' AS balance
              FROM unnest(rows) AS u
              WHERE u.source IN ('l', 'e') AND u.account <> guardwire.no_account()
              OFFSET 0) AS r
    ), placed AS (
        SELECT r.*,
               max(r.at) OVER earlier AS at_before,
               greatest(max(r.equity) OVER earlier, r.equity) AS highest,
               last_value(r.equity) OVER earlier AS equity_before
        FROM read AS r
        WINDOW earlier AS (PARTITION BY r.account, r.source, r.ticket ORDER BY r.nth ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    )
    SELECT array_agg(ROW(
               r.account, r.nth, r.ordinal, r.source, r.id, r.operation = 'i',
               r.operation = 'i' AND r.id IS NOT NULL AND r.created_at IS NOT NULL AND r.at >= coalesce(r.at_before, r.at) AND a.ready
               AND a.source = 'live' AND a.clock_doubted_at IS NULL
               AND CASE r.source
                   WHEN 'l' THEN a.error_message IS NULL AND r.price <> 0 AND abs(r.price) < 1e6
                                 AND p.state_at <= c.at AND p.fingerprint = guardwire.fingerprint(r.new_row)
                                 AND p.older_rows IS NULL AND a.recent_offsets IS NULL
                                 AND (r.arrived_at - r.created_at > interval '26 hours' OR guardwire.clock_agrees(
                                         (extract(epoch FROM r.arrived_at - r.created_at) * 1000000)::bigint,
                                         a.clock_offset_seconds))
                   ELSE a.older_equity IS NULL AND a.equity_at <= c.at AND NOT a.equity_overdue
                        AND (a.doubted).row_id IS NULL AND a.doubted_flow IS NULL AND (a.peak).value IS NOT NULL
                        AND r.equity > 0 AND a.equity > 0 AND r.balance IS NOT NULL
                        AND r.equity * 5 >= coalesce(r.equity_before, a.equity) AND r.equity <= 5 * coalesce(r.equity_before, a.equity)
                        AND a.currency = guardwire.read_code(r.new_row ->> 'currency', 16)
                        AND coalesce(guardwire.read_number(r.new_row -> 'cash_flow'), 0) = 0
                        AND r.arrived_at - c.at < make_interval(secs => l.equity_overdue_seconds)
                        AND a.peak_since IS NOT DISTINCT FROM l.peak_since AND (l.peak_since IS NULL OR r.arrived_at >= l.peak_since)
                        AND ((a.top).value IS NULL OR r.highest * (a.top).divisor <= (a.top).value)
                        AND a.drawdown_level = guardwire.drawdown_level(
                                CASE WHEN r.highest * (a.peak).divisor > (a.peak).value
                                         THEN ROW(r.highest, 1, r.at, r.arrived_at, r.id)::guardwire.peak ELSE a.peak END,
                                r.equity, l)
                   END IS TRUE,
               a.revision, r.arrived_at, c.at, least(coalesce(r.updated_at, c.at), r.arrived_at),
               CASE WHEN r.updated_at > r.created_at THEN extract(epoch FROM r.updated_at - r.created_at) * 1000 END,
               r.ticket, r.price, r.equity, r.balance
           )::guardwire.batch_row ORDER BY r.account, r.nth)
    INTO classified
    FROM placed AS r
    LEFT JOIN guardwire.accounts AS a ON a.user_id = r.account
    CROSS JOIN LATERAL (SELECT CASE WHEN a.clock_stepped_at IS NULL THEN r.at
                                    ELSE guardwire.effective_time(r.created_at, r.arrived_at, a.clock_stepped_at) END) AS c (at)
    LEFT JOIN guardwire.positions AS p ON p.user_id = r.account AND p.ticket = r.ticket
    LEFT JOIN guardwire.limits AS l
        ON r.source = 'e' AND l.user_id = (SELECT coalesce(max(o.user_id::text)::uuid, guardwire.no_account())
                                           FROM guardwire.limits AS o WHERE o.user_id = r.account);
    RETURN classified;
END
$$;

-- Applies the rows of accounts that are plain as a whole, and returns a delta for each (queries/delta.py reads it):
-- `1 user base revision total_syncs last_sync_at last_sync_duration_ms last_position_at balance equity equity_at peak_equity
-- drawdown_pct`, then for each position `|ticket matched current_price profit pnl_pct updated_at`. Every value is absolute;
-- times are microseconds since 1970; null is empty.
CREATE OR REPLACE FUNCTION guardwire.apply_plain(plain guardwire.batch_row[])
RETURNS TABLE (account uuid, revision bigint, delta text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH sums AS (
        SELECT r.account, r.seen_revision,
               count(*) FILTER (WHERE r.source = 'l') AS syncs,
               max(r.at) FILTER (WHERE r.source = 'l') AS sync_at,
               max(r.arrived_at) FILTER (WHERE r.source = 'l') AS sync_arrived_at,
               max(r.arrived_at) AS arrived_at,
               (array_agg(r.duration_ms ORDER BY r.at DESC, r.nth DESC) FILTER (WHERE r.source = 'l'))[1] AS duration_ms,
               max(r.updated_at) FILTER (WHERE r.source = 'l') AS updated_at,
               (array_agg(r ORDER BY r.nth DESC) FILTER (WHERE r.source = 'e'))[1] AS last_equity,
               (array_agg(ROW(r.equity, 1, r.at, r.arrived_at, r.id)::guardwire.peak ORDER BY r.equity DESC, r.nth)
                   FILTER (WHERE r.source = 'e'))[1] AS highest
        FROM unnest(plain) AS r GROUP BY r.account, r.seen_revision
    ), moved AS (
        UPDATE guardwire.accounts AS o
        SET revision = greatest(o.revision + 1, guardwire.unix_us(clock_timestamp())),
            base_revision = o.revision,
            total_syncs = o.total_syncs + s.syncs,
            last_sync_duration_ms = CASE WHEN s.sync_at >= o.last_sync_at THEN s.duration_ms ELSE o.last_sync_duration_ms END,
            last_sync_at = greatest(o.last_sync_at, s.sync_at),
            -- Equity is a sign of life only of an account without positions.
            last_sync_arrived_at = CASE
                WHEN s.syncs > 0 THEN greatest(o.last_sync_arrived_at, s.sync_arrived_at)
                WHEN EXISTS (SELECT FROM guardwire.positions AS p WHERE p.user_id = o.user_id AND p.is_open) THEN o.last_sync_arrived_at
                ELSE greatest(o.last_sync_arrived_at, s.arrived_at) END,
            last_position_at = greatest(o.last_position_at, s.updated_at),
            error_at = greatest(o.error_at, s.sync_at),
            equity = coalesce((s.last_equity).equity, o.equity),
            balance = coalesce((s.last_equity).balance, o.balance),
            equity_at = coalesce((s.last_equity).at, o.equity_at),
            equity_row = coalesce((s.last_equity).id, o.equity_row),
            equity_arrived_at = coalesce((s.last_equity).arrived_at, o.equity_arrived_at),
            equity_fresh_at = coalesce((s.last_equity).arrived_at, o.equity_fresh_at),
            peak = guardwire.higher_peak(o.peak, s.highest),
            peak_equity = CASE WHEN guardwire.is_higher(s.highest, o.peak) THEN (s.highest).value ELSE o.peak_equity END,
            drawdown_pct = CASE WHEN (s.highest).value IS NULL THEN o.drawdown_pct
                                ELSE guardwire.drawdown_pct(guardwire.higher_peak(o.peak, s.highest), (s.last_equity).equity) END
        FROM sums AS s WHERE o.user_id = s.account AND o.revision = s.seen_revision
        RETURNING o.*
    ), last AS (
        SELECT DISTINCT ON (r.account, r.ticket) r.* FROM unnest(plain) AS r WHERE r.source = 'l'
        ORDER BY r.account, r.ticket, r.nth DESC
    ), prices AS (
        UPDATE guardwire.positions AS o
        SET current_price = l.price,
            pnl = (l.price - o.entry_price) * o.point_value,
            pnl_pct = round((l.price - o.entry_price) / o.pct_unit, 2),
            state_at = l.at, state_revision = m.revision, state_ordinal = l.ordinal, updated_at = l.updated_at
        FROM last AS l JOIN moved AS m ON m.user_id = l.account
        WHERE o.user_id = l.account AND o.ticket = l.ticket
        RETURNING o.user_id, concat('|', o.ticket, ' ', o.matched, ' ', o.current_price, ' ',
                                    guardwire.convert(o.pnl, o.quote_currency, m.currency), ' ', o.pnl_pct, ' ',
                                    guardwire.unix_us(o.updated_at)) AS item
    ), arrived AS (
        INSERT INTO guardwire.arrivals (user_id, revision, ordinal, log_id, source, arrived_at)
        SELECT r.account, m.revision, r.ordinal, r.id, r.source, r.arrived_at
        FROM unnest(plain) AS r JOIN moved AS m ON m.user_id = r.account
    )
    SELECT m.user_id, m.revision,
           concat_ws(' ', '1', m.user_id, m.base_revision, m.revision, m.total_syncs,
                     coalesce(guardwire.unix_us(m.last_sync_at)::text, ''), coalesce(m.last_sync_duration_ms::text, ''),
                     coalesce(guardwire.unix_us(m.last_position_at)::text, ''), coalesce(m.balance::text, ''),
                     coalesce(m.equity::text, ''), coalesce(guardwire.unix_us(m.equity_at)::text, ''),
                     coalesce(m.peak_equity::text, ''), coalesce(m.drawdown_pct::text, '')) || coalesce(p.items, '')
    FROM moved AS m
    LEFT JOIN (SELECT i.user_id, string_agg(i.item, '') AS items FROM prices AS i GROUP BY i.user_id) AS p USING (user_id);
END
$$;

DROP TYPE IF EXISTS guardwire.placed_row CASCADE;
CREATE TYPE guardwire.placed_row AS (
    nth bigint, account uuid, source "char", operation "char", new_row jsonb, old_row jsonb, arrived_at timestamptz, revision bigint,
    ordinal integer
);
COMMENT ON TYPE guardwire.placed_row IS 'A guardwire.copied_row with its place in the recorded order; columns as there and in guardwire.arrivals';

-- Applies rows of locked accounts in the order of their arrival. Rows of one source that follow each other are applied
-- together, for all accounts at once: the first such run of each account, then the second, and so on.
CREATE OR REPLACE FUNCTION guardwire.apply_runs(rows guardwire.placed_row[], batch guardwire.inbox[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    run record;
    r guardwire.placed_row;
    log guardwire.log_row[];
    equity guardwire.equity_row[];
BEGIN
    FOR run IN
        SELECT o.source, array_agg(o.row ORDER BY o.account, o.nth) AS rows
        FROM (SELECT w.*, count(*) FILTER (WHERE w.begins) OVER (PARTITION BY w.account ORDER BY w.nth) AS number
              FROM (SELECT u AS row, u.account, u.nth, u.source,
                           u.source = 'g' OR u.source IS DISTINCT FROM lag(u.source) OVER (PARTITION BY u.account ORDER BY u.nth) AS begins
                    FROM unnest(rows) AS u) AS w) AS o
        GROUP BY o.number, o.source ORDER BY o.number, o.source
    LOOP
        IF run.source = 'l' THEN
            SELECT array_agg(o ORDER BY o.user_id, o.ticket, o.ordinal) INTO log
            FROM unnest(run.rows::guardwire.placed_row[]) AS u
            CROSS JOIN LATERAL guardwire.read_log(u.new_row, u.arrived_at, u.revision, u.ordinal, u.operation = 'i') AS o;
            PERFORM guardwire.apply_log(log);
        ELSIF run.source = 'e' THEN
            SELECT array_agg(o ORDER BY o.user_id, o.ordinal) INTO equity
            FROM unnest(run.rows::guardwire.placed_row[]) AS u
            CROSS JOIN LATERAL guardwire.read_equity(u.new_row, u.arrived_at, u.revision, u.ordinal, u.operation = 'i', u.nth,
                u.operation <> 'i' AND guardwire.is_correction(u.old_row, u.new_row)) AS o;
            PERFORM guardwire.apply_equity(equity, batch);
            PERFORM guardwire.note_life(equity);
        ELSIF run.source = 'g' THEN
            FOREACH r IN ARRAY run.rows::guardwire.placed_row[] LOOP
                PERFORM guardwire.copy_limits(r.account, r.new_row, r.nth);
                PERFORM guardwire.apply_limits(r.account, r.arrived_at, r.revision, r.ordinal, batch, r.nth);
            END LOOP;
        END IF;
    END LOOP;
END
$$;

-- A row of equity shows that the platform of an account without positions is alive. An account with positions needs a sync for that.
-- A row that was not accepted as the latest shows nothing. A row that is not before any row of the account ends a doubt of its clock.
CREATE OR REPLACE FUNCTION guardwire.note_life(rows guardwire.equity_row[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    e record;
BEGIN
    FOR e IN
        SELECT u.user_id, max(u.arrived_at) AS arrived_at,
               NOT EXISTS (SELECT FROM guardwire.positions AS p WHERE p.user_id = u.user_id AND p.is_open) AS is_flat
        FROM unnest(rows) AS u JOIN guardwire.accounts AS o ON o.user_id = u.user_id AND o.equity_at IN (u.at, u.arrived_at)
        WHERE u.inserted AND u.equity IS NOT NULL GROUP BY u.user_id
    LOOP
        UPDATE guardwire.accounts AS a
        SET source = 'live', last_sync_arrived_at = greatest(a.last_sync_arrived_at, e.arrived_at),
            sync_due_at = coalesce(a.sync_due_at, e.arrived_at)
        WHERE a.user_id = e.user_id AND e.is_flat;
    END LOOP;
END
$$;

-- Applies rows of the log, sorted by account, ticket and arrival.
CREATE OR REPLACE FUNCTION guardwire.apply_log(rows guardwire.log_row[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO guardwire.ignored_rows (source, row_key, user_id, reason)
    SELECT 'log', coalesce(r.id::text, ''), r.user_id, 'ticket' FROM unnest(rows) AS r
    WHERE r.kind IN ('open', 'close') AND r.ticket IS NULL AND NOT r.is_loop;
    rows := guardwire.settle_rows(rows);
    PERFORM guardwire.apply_syncs(rows);
    PERFORM guardwire.apply_market(rows, NULL);
END
$$;

-- Applies rows that are not plain; accounts and their revisions. `concerned` are further accounts to be locked: those whose
-- positions a rate converts or an instrument describes.
CREATE OR REPLACE FUNCTION guardwire.apply_general(
    rows guardwire.copied_row[], symbols text[], concerned uuid[], batch guardwire.inbox[]
) RETURNS TABLE (account uuid, revision bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    users uuid[];
    revisions bigint[];
    unready uuid[];
    placed guardwire.placed_row[];
    has_corrections boolean := EXISTS (
        SELECT FROM unnest(rows) AS r
        WHERE r.operation = 'u' AND r.source = 'l' AND r.new_row -> 'created_at' IS DISTINCT FROM r.old_row -> 'created_at');
BEGIN
    SELECT array_agg(a.user_id), array_agg(a.revision), array_agg(a.user_id) FILTER (WHERE NOT a.ready)
    INTO users, revisions, unready
    FROM guardwire.lock_accounts(concerned || ARRAY(SELECT DISTINCT r.account FROM unnest(rows) AS r)) AS a;
    IF EXISTS (SELECT FROM unnest(rows) AS r WHERE r.account = ANY (unready)) THEN
        RAISE EXCEPTION 'a rebuild of an account of the batch began meanwhile' USING ERRCODE = 'serialization_failure';
    END IF;
    IF cardinality(symbols) > 0 THEN
        PERFORM guardwire.apply_instruments(symbols);
    END IF;
    placed := ARRAY(
        SELECT ROW(u.nth, u.account, u.source, u.operation, u.new_row, u.old_row, u.arrived_at, l.revision,
                   row_number() OVER (PARTITION BY u.account ORDER BY u.nth))::guardwire.placed_row
        FROM unnest(rows) AS u JOIN unnest(users, revisions) AS l (user_id, revision) ON l.user_id = u.account
        WHERE NOT (has_corrections AND guardwire.corrects_time(u)));
    INSERT INTO guardwire.arrivals (user_id, revision, ordinal, log_id, source, inserted, arrived_at)
    SELECT r.account, r.revision, r.ordinal, guardwire.read_user(r.new_row ->> 'id'), r.source, r.operation = 'i', r.arrived_at
    FROM unnest(placed) AS r
    WHERE r.source IN ('l', 'e') AND guardwire.read_user(r.new_row ->> 'id') IS NOT NULL;
    PERFORM guardwire.apply_runs(placed, batch);
    IF has_corrections THEN
        PERFORM guardwire.reread_tickets(c.account, c.tickets, batch, c.last_nth)
        FROM (SELECT u.account, max(u.nth) AS last_nth,
                     array_agg(DISTINCT guardwire.read_ticket(u.new_row -> 'mt5_position_id'))
                         FILTER (WHERE u.operation = 'u' AND u.new_row -> 'created_at' IS DISTINCT FROM u.old_row -> 'created_at')
                         AS tickets
              FROM unnest(rows) AS u WHERE u.source = 'l' GROUP BY u.account) AS c
        WHERE c.tickets IS NOT NULL;
    END IF;
    PERFORM guardwire.settle_alerts(users);
    RETURN QUERY SELECT l.* FROM unnest(users, revisions) AS l (user_id, revision);
END
$$;

-- Notes rows of log and equity that name no account.
CREATE OR REPLACE FUNCTION guardwire.ignore_rows(rows guardwire.copied_row[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO guardwire.ignored_rows (source, row_key, reason)
    SELECT CASE r.source WHEN 'l' THEN 'log' ELSE 'equity' END, coalesce(r.new_row ->> 'id', ''), 'user'
    FROM unnest(rows) AS r
    WHERE r.account = guardwire.no_account() AND r.source IN ('l', 'e');
END
$$;

-- Notes accounts with a row whose table has lost a column that the rules read. The row is applied as if the column were null, so
-- its account is stale until it is rebuilt, and all accounts are where the row's account is not known.
CREATE OR REPLACE FUNCTION guardwire.note_lost_columns(rows guardwire.copied_row[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM unnest(rows) AS r WHERE NOT r.new_row ?& guardwire.read_columns(r.source)) THEN
        RETURN;
    END IF;
    INSERT INTO guardwire.set_aside (nth, account, source, operation, xid, arrived_at, sqlstate, reason)
    SELECT DISTINCT ON (r.account) r.nth, r.account, r.source, r.operation, r.xid, r.arrived_at, '42703',
           format('%s has no column %s', guardwire.table_of(r.source),
                  (SELECT string_agg(c.name, ', ') FROM unnest(guardwire.read_columns(r.source)) AS c (name)
                   WHERE NOT r.new_row ? c.name))
    FROM unnest(rows) AS r
    WHERE NOT r.new_row ?& guardwire.read_columns(r.source)
      AND NOT EXISTS (SELECT FROM guardwire.set_aside AS s WHERE s.account = r.account AND s.sqlstate = '42703')
    ORDER BY r.account, r.nth
    ON CONFLICT (nth) DO NOTHING;
END
$$;

-- Applies rows of a batch: all of them, or one by one. Accounts with a delta are plain; for the others delta is null.
CREATE OR REPLACE FUNCTION guardwire.apply_rows(taken guardwire.inbox[], batch guardwire.inbox[])
RETURNS TABLE (account uuid, revision bigint, delta text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    rows guardwire.copied_row[] := guardwire.merge_moves(guardwire.parse_copies(taken), batch);
    classified guardwire.batch_row[];
    symbols text[] := '{}';
    concerned uuid[] := '{}';
    plain uuid[];
    others guardwire.copied_row[];
    changed guardwire.change[];
    applied integer;
    replaced bigint[];
BEGIN
    PERFORM guardwire.note_lost_columns(rows);
    IF EXISTS (SELECT FROM unnest(rows) AS r WHERE r.account = guardwire.no_account() OR r.source = 'g') THEN
        PERFORM guardwire.ignore_rows(rows);
        SELECT r.symbols, r.concerned INTO symbols, concerned FROM guardwire.apply_reference(rows) AS r;
        replaced := guardwire.find_replaced_limits(rows, batch);
    END IF;
    classified := guardwire.classify_rows(rows);
    plain := ARRAY(SELECT c.account FROM unnest(classified) AS c GROUP BY c.account HAVING bool_and(c.is_plain)
                   EXCEPT SELECT r.account FROM unnest(rows) AS r WHERE r.source = 'g'
                   EXCEPT SELECT c.user_id FROM unnest(concerned) AS c (user_id));
    others := ARRAY(SELECT r FROM unnest(rows) AS r
                    WHERE r.account <> ALL (plain) AND r.account <> guardwire.no_account()
                      AND (r.nth = ANY (replaced)) IS NOT TRUE ORDER BY r.account, r.nth);
    IF cardinality(others) > 0 OR cardinality(concerned) > 0 THEN
        SELECT array_agg(ROW(g.account, g.revision, NULL)::guardwire.change) INTO changed
        FROM guardwire.apply_general(others, symbols, concerned, batch) AS g;
        IF cardinality(concerned) > 0 THEN
            PERFORM guardwire.reset_limits(rows, array_agg(c.account), array_agg(c.revision), batch)
            FROM unnest(changed) AS c WHERE c.account = ANY (concerned);
        END IF;
    END IF;
    IF cardinality(plain) > 0 THEN
        SELECT changed || array_agg(ROW(p.account, p.revision, p.delta)::guardwire.change), count(*) INTO changed, applied
        FROM guardwire.apply_plain(ARRAY(SELECT c FROM unnest(classified) AS c WHERE c.account = ANY (plain))) AS p;
        IF applied < cardinality(plain) THEN
            RAISE EXCEPTION 'housekeeping changed an account of the batch meanwhile' USING ERRCODE = 'serialization_failure';
        END IF;
    END IF;
    RETURN QUERY SELECT c.* FROM unnest(changed) AS c;
END
$$;
