-- Comments on the columns that the platform writes, for those who look into the database and not into docs/integration.md.
-- A comment that is there already is kept. Only a table's owner may comment on it: a table of another owner is left alone.
DO $$
DECLARE
    log text[] := ARRAY[
        'id', 'Names the row; the id of a ticket''s first row is its position_id',
        'user_id', 'Whose account: a UUID, equal to sub of the account''s tokens; a row without one is ignored and counted',
        'signal_id', 'Not read by Guardwire',
        'approval_id', 'Not read by Guardwire',
        'mt5_position_id', 'MT5 ticket, 1 to 2^63 - 1; a row about a position without one is ignored and counted',
        'symbol', 'As the broker writes it; compared with instruments without case',
        'direction', 'buy or sell, or 0 (buy) or 1 (sell)',
        'volume', 'Lots',
        'entry_price', 'Price of entry; in a guard trigger the price before a gap, or the bid',
        'current_price', 'Price now; in a guard trigger the price after a gap, or the ask',
        'take_profit', 'As the broker sees it; sent to clients',
        'stop_loss', 'As the broker sees it; sent to clients',
        'matched', '0 not decided, 1 matched, 2 divergence',
        'divergence_reason', 'Why broker and bot differ; in a guard trigger gap, spread or liquidity decides the kind',
        'slippage_pips', 'Not read by Guardwire',
        'close_reason', 'When it is not empty, the row is a close',
        'closed_price', 'Price of the close',
        'pnl_gbp', 'Shown in events as written; no profit is computed from it',
        'pnl_percent', 'Not read by Guardwire',
        'event_type', 'sync, divergence, warning, unmatched_position, close, position_closed or guard_trigger; other rows are not used',
        'status', 'failed keeps the row from changing a position',
        'error_message', 'Shown until the next row about a position',
        'created_at', 'When the platform read the position; decides which row is the state. Without a zone it is UTC',
        'updated_at', 'When the reconciliation of the row was done; without a zone it is UTC'
    ];
    equity text[] := ARRAY['id', 'Names the row, and a breach that it caused'];
    rates text[] := ARRAY['id', 'Names the row'];
    missing record;
BEGIN
    FOR missing IN
        SELECT c.oid::regclass AS "table", a.attname AS "column", m.meaning, pg_has_role(c.relowner, 'USAGE') AS is_ours
        FROM (SELECT 'public.reconciliation_logs' AS name, log[2 * n - 1] AS "column", log[2 * n] AS meaning
              FROM generate_series(1, cardinality(log) / 2) AS n
              UNION ALL SELECT 'public.equity_snapshots', equity[1], equity[2]
              UNION ALL SELECT 'public.fx_rates', rates[1], rates[2]) AS m
        JOIN pg_class AS c ON c.oid = to_regclass(m.name)
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = m."column" AND a.attnum > 0 AND NOT a.attisdropped
        WHERE col_description(c.oid, a.attnum) IS NULL
        ORDER BY c.relname, a.attnum
    LOOP
        IF missing.is_ours THEN
            EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', missing."table", missing."column", missing.meaning);
        ELSE
            RAISE WARNING '%.% gets no comment: this login does not own the table', missing."table", missing."column";
        END IF;
    END LOOP;
    IF to_regclass('public.reconciliation_logs') IS NOT NULL
       AND obj_description('public.reconciliation_logs'::regclass, 'pg_class') IS NULL
       AND (SELECT pg_has_role(c.relowner, 'USAGE') FROM pg_class AS c WHERE c.oid = 'public.reconciliation_logs'::regclass) THEN
        COMMENT ON TABLE public.reconciliation_logs IS
            'What the platform found at each reconciliation; the platform appends. Guardwire reads it (docs/integration.md)';
    END IF;
END
$$;
