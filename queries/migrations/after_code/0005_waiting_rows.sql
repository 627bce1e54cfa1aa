-- Release 0.2: rows that the capture of 0.1.0 noted because it could not apply them go through the inbox.
DO $$
DECLARE
    source record;
BEGIN
    IF to_regclass('guardwire.capture_notes') IS NULL THEN
        RETURN;
    END IF;
    FOR source IN SELECT * FROM (VALUES ('l', 'public.reconciliation_logs', 'id'), ('e', 'public.equity_snapshots', 'id'),
                                        ('x', 'public.fx_rates', 'id'), ('g', 'public.guard_limits', 'user_id'))
                      AS s (letter, name, key) LOOP
        EXECUTE format('INSERT INTO guardwire.inbox (account, source, operation, new_row, xid, arrived_at)
                        SELECT coalesce(guardwire.read_user(to_jsonb(s) ->> ''user_id''), guardwire.no_account()), %L,
                               CASE WHEN n.inserted THEN ''i'' ELSE ''u'' END, to_jsonb(s)::json, n.xid, n.noted_at
                        FROM guardwire.capture_notes AS n JOIN %s AS s ON s.%I = guardwire.read_user(n.row_key)
                        WHERE n.source = %L ORDER BY n.id', source.letter, source.name, source.key, source.letter);
    END LOOP;
    DROP TABLE guardwire.capture_notes;
END
$$;

-- Instruments, limits and rates as they are in this transaction, which holds the locks of their triggers.
SELECT guardwire.copy_reference();
