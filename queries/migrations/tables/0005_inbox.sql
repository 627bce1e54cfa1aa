-- Release 0.2: rows of the platform go through an inbox.
--
-- A trigger copies each row into guardwire.inbox; one node, the applier, makes account state of the copies. This script
-- removes the capture of 0.1.0, which did that work inside the platform's commit. It runs in one transaction with the
-- functions and triggers of this release, so no row is missed. 0005_waiting_rows.sql moves the rows that the capture of
-- 0.1.0 could not apply into the inbox.

-- ---------------------------------------------------------------- what 0.1.0 had

-- DROP TRIGGER waits for every transaction that has written to the table.
DROP TRIGGER IF EXISTS guardwire_insert ON public.reconciliation_logs;
DROP TRIGGER IF EXISTS guardwire_update ON public.reconciliation_logs;
DROP TRIGGER IF EXISTS guardwire_gone ON public.reconciliation_logs;
DROP TRIGGER IF EXISTS guardwire_insert ON public.equity_snapshots;
DROP TRIGGER IF EXISTS guardwire_update ON public.equity_snapshots;
DROP TRIGGER IF EXISTS guardwire_insert ON public.fx_rates;
DROP TRIGGER IF EXISTS guardwire_change ON public.guard_limits;
DROP TRIGGER IF EXISTS guardwire_truncate ON public.guard_limits;
DROP TRIGGER IF EXISTS guardwire_change ON public.instruments;
DROP TRIGGER IF EXISTS guardwire_truncate ON public.instruments;
DROP TRIGGER IF EXISTS configure ON guardwire.configuration;
DROP TABLE IF EXISTS guardwire.pending;
DROP TABLE IF EXISTS guardwire.history_readers;
DROP TABLE IF EXISTS guardwire.reference;

-- Nodes of 0.1.0 that still run lose what they call; they report stale and are drained.
DO $$
DECLARE
    gone record;
BEGIN
    FOR gone IN SELECT p.oid::regprocedure AS name FROM pg_proc AS p WHERE p.pronamespace = 'guardwire'::regnamespace LOOP
        IF EXISTS (SELECT FROM pg_proc AS p WHERE p.oid = gone.name::oid) THEN
            EXECUTE format('DROP FUNCTION %s CASCADE', gone.name);
        END IF;
    END LOOP;
    FOR gone IN SELECT t.oid::regtype AS name FROM pg_type AS t JOIN pg_class AS c ON c.oid = t.typrelid
                WHERE t.typnamespace = 'guardwire'::regnamespace AND c.relkind = 'c' LOOP
        EXECUTE format('DROP TYPE %s CASCADE', gone.name);
    END LOOP;
END
$$;

-- ---------------------------------------------------------------- the inbox

CREATE TABLE guardwire.inbox (
    nth bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account uuid NOT NULL,
    source "char" NOT NULL,
    operation "char" NOT NULL,
    new_row json,
    old_row json,
    xid xid8 NOT NULL,
    arrived_at timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0,
        vacuum_truncate = off);
CREATE INDEX inbox_by_account ON guardwire.inbox (account, nth);
COMMENT ON TABLE guardwire.inbox IS 'Copies of the platform''s rows that the applier has not applied yet; a trigger inserts, guardwire.apply deletes';
COMMENT ON COLUMN guardwire.inbox.nth IS 'Order in which the statements ran; rows of one account are applied in this order, each when its transaction has committed';
COMMENT ON COLUMN guardwire.inbox.account IS 'User of the row; guardwire.no_account() for rates, instruments and rows without a usable user';
COMMENT ON COLUMN guardwire.inbox.source IS 'l: reconciliation_logs, e: equity_snapshots, g: guard_limits, i: instruments, x: fx_rates';
COMMENT ON COLUMN guardwire.inbox.operation IS 'i: INSERT, u: UPDATE, d: DELETE, t: TRUNCATE';
COMMENT ON COLUMN guardwire.inbox.new_row IS 'The row after the statement, as row_to_json gives it; null for DELETE and TRUNCATE';
COMMENT ON COLUMN guardwire.inbox.old_row IS 'The row before the statement; null for INSERT and TRUNCATE';
COMMENT ON COLUMN guardwire.inbox.xid IS 'The writer''s transaction';
COMMENT ON COLUMN guardwire.inbox.arrived_at IS 'Clock of the database when the statement ran';

CREATE TABLE guardwire.set_aside (
    nth bigint PRIMARY KEY,
    account uuid NOT NULL,
    source "char" NOT NULL,
    operation "char" NOT NULL,
    new_row json,
    old_row json,
    xid xid8 NOT NULL,
    arrived_at timestamptz NOT NULL,
    set_aside_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    sqlstate text NOT NULL,
    reason text NOT NULL
);
CREATE INDEX set_aside_by_account ON guardwire.set_aside (account);
COMMENT ON TABLE guardwire.set_aside IS 'Rows of the inbox that could not be applied; their accounts are stale until they are rebuilt';
COMMENT ON COLUMN guardwire.set_aside.nth IS 'As in inbox';
COMMENT ON COLUMN guardwire.set_aside.account IS 'As in inbox';
COMMENT ON COLUMN guardwire.set_aside.source IS 'As in inbox';
COMMENT ON COLUMN guardwire.set_aside.operation IS 'As in inbox';
COMMENT ON COLUMN guardwire.set_aside.new_row IS 'As in inbox';
COMMENT ON COLUMN guardwire.set_aside.old_row IS 'As in inbox';
COMMENT ON COLUMN guardwire.set_aside.xid IS 'As in inbox';
COMMENT ON COLUMN guardwire.set_aside.arrived_at IS 'As in inbox';
COMMENT ON COLUMN guardwire.set_aside.set_aside_at IS 'When applying the row failed';
COMMENT ON COLUMN guardwire.set_aside.sqlstate IS 'SQLSTATE of the failure';
COMMENT ON COLUMN guardwire.set_aside.reason IS 'Message of the failure, at most 500 characters';

CREATE TABLE guardwire.applier (
    shard smallint PRIMARY KEY,
    term bigint NOT NULL DEFAULT 0,
    holder text,
    backend_pid integer,
    held_until timestamptz NOT NULL DEFAULT '-infinity',
    scan_from bigint NOT NULL DEFAULT 0,
    passed_xids xid8[] NOT NULL DEFAULT '{}',
    passed_from bigint[] NOT NULL DEFAULT '{}'
) WITH (fillfactor = 50);
COMMENT ON TABLE guardwire.applier IS 'Lease of the applier, one row for each shard of the accounts; there is one shard, 0';
COMMENT ON COLUMN guardwire.applier.shard IS 'Number of the shard';
COMMENT ON COLUMN guardwire.applier.term IS 'Grows each time another process takes the lease; guardwire.apply refuses an older term';
COMMENT ON COLUMN guardwire.applier.holder IS 'Name of the process that holds the lease; null when nobody does';
COMMENT ON COLUMN guardwire.applier.backend_pid IS 'Backend of the holder''s connection, to be ended by a successor';
COMMENT ON COLUMN guardwire.applier.held_until IS 'Another process may take the lease after this time of the database''s clock';
COMMENT ON COLUMN guardwire.applier.scan_from IS 'Every row up to this nth was applied, was rolled back, or belongs to a transaction in passed_xids';
COMMENT ON COLUMN guardwire.applier.passed_xids IS 'Transactions that had written to the inbox and were open when scan_from passed their rows';
COMMENT ON COLUMN guardwire.applier.passed_from IS 'For each of them an nth before its first row: the inbox is read from there when the transaction has ended';
INSERT INTO guardwire.applier (shard) VALUES (0);

-- ---------------------------------------------------------------- copies of what an account's state depends on

CREATE TABLE guardwire.limits (
    user_id uuid PRIMARY KEY,
    drawdown_warning_pct numeric NOT NULL DEFAULT 15,
    drawdown_critical_pct numeric NOT NULL DEFAULT 20,
    minimum_equity numeric NOT NULL DEFAULT 100,
    countdown_seconds integer NOT NULL DEFAULT 60,
    gap_warning_pct numeric NOT NULL DEFAULT 5,
    gap_critical_pct numeric NOT NULL DEFAULT 10,
    spread_warning_pct numeric NOT NULL DEFAULT 0.5,
    spread_critical_pct numeric NOT NULL DEFAULT 1,
    alert_window_seconds integer NOT NULL DEFAULT 3600,
    sync_overdue_seconds integer NOT NULL DEFAULT 60,
    peak_since timestamptz,
    nth bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE guardwire.limits IS 'public.guard_limits as applied; the row of guardwire.no_account() holds the defaults';
COMMENT ON COLUMN guardwire.limits.user_id IS 'As in public.guard_limits';
COMMENT ON COLUMN guardwire.limits.drawdown_warning_pct IS 'As in public.guard_limits';
COMMENT ON COLUMN guardwire.limits.drawdown_critical_pct IS 'As in public.guard_limits';
COMMENT ON COLUMN guardwire.limits.minimum_equity IS 'As in public.guard_limits';
COMMENT ON COLUMN guardwire.limits.countdown_seconds IS 'As in public.guard_limits';
COMMENT ON COLUMN guardwire.limits.gap_warning_pct IS 'As in public.guard_limits';
COMMENT ON COLUMN guardwire.limits.gap_critical_pct IS 'As in public.guard_limits';
COMMENT ON COLUMN guardwire.limits.spread_warning_pct IS 'As in public.guard_limits';
COMMENT ON COLUMN guardwire.limits.spread_critical_pct IS 'As in public.guard_limits';
COMMENT ON COLUMN guardwire.limits.alert_window_seconds IS 'As in public.guard_limits';
COMMENT ON COLUMN guardwire.limits.sync_overdue_seconds IS 'As in public.guard_limits';
COMMENT ON COLUMN guardwire.limits.peak_since IS 'As in public.guard_limits';
COMMENT ON COLUMN guardwire.limits.nth IS 'As in inbox: a TRUNCATE of guard_limits with a lower one does not concern the row';
INSERT INTO guardwire.limits (user_id) VALUES ('ffffffff-ffff-ffff-ffff-ffffffffffff');

-- Not called instruments: a login named guardwire finds schema guardwire before schema public.
CREATE TABLE guardwire.contracts (
    symbol text PRIMARY KEY,
    contract_size numeric NOT NULL,
    quote_currency text NOT NULL
);
COMMENT ON TABLE guardwire.contracts IS 'public.instruments as applied';
COMMENT ON COLUMN guardwire.contracts.symbol IS 'In upper case';
COMMENT ON COLUMN guardwire.contracts.contract_size IS 'Units of the base in one lot';
COMMENT ON COLUMN guardwire.contracts.quote_currency IS 'Currency that profit arises in';

-- ---------------------------------------------------------------- changes to the tables of 0.1.0

ALTER TABLE guardwire.arrivals ADD COLUMN arrived_at timestamptz;
COMMENT ON COLUMN guardwire.arrivals.arrived_at IS 'Clock of the database when the row was written; null for rows that 0.1.0 captured: then the revision tells';
COMMENT ON COLUMN guardwire.arrivals.revision IS 'Revision of the account when the row was applied';
COMMENT ON COLUMN guardwire.arrivals.ordinal IS 'Order of the row among those that were applied at this revision';
COMMENT ON TABLE guardwire.arrivals IS 'Order in which rows were applied, account by account; kept for configuration.arrival_hours';

ALTER TABLE guardwire.ignored_rows ADD COLUMN nth bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY;
COMMENT ON COLUMN guardwire.ignored_rows.nth IS 'Number of the row';

-- The sweep and the listener of 0.1.0 read told_channel. Without it they fail, and nodes of 0.1.0 report stale.
ALTER TABLE guardwire.configuration RENAME COLUMN told_channel TO delta_channel;
ALTER TABLE guardwire.configuration RENAME COLUMN told_secret TO delta_secret;
COMMENT ON COLUMN guardwire.configuration.delta_channel IS 'Notify channel on which the applier publishes deltas; secret';
COMMENT ON COLUMN guardwire.configuration.delta_secret IS '32 random bytes that authenticate deltas; `guardwire rotate-channel` replaces them and delta_channel';
COMMENT ON COLUMN guardwire.configuration.notify IS 'Whether a row of the platform wakes the applier by NOTIFY; otherwise the applier polls';
COMMENT ON COLUMN guardwire.accounts.base_revision IS 'Revision before the latest change';
COMMENT ON COLUMN guardwire.accounts.ready IS 'False until the account''s history is read; until then its rows wait in the inbox';

-- Symbols are folded as instruments are: ASCII letters alone, in every locale of the database.
DROP INDEX guardwire.positions_open_by_symbol;
CREATE INDEX positions_open_by_symbol ON guardwire.positions (upper(symbol COLLATE "C")) WHERE is_open;

CREATE TABLE guardwire.code (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    digest text NOT NULL
);
COMMENT ON TABLE guardwire.code IS 'One row: which functions and triggers `guardwire migrate` installed';
COMMENT ON COLUMN guardwire.code.singleton IS 'Keeps the table at one row';
COMMENT ON COLUMN guardwire.code.digest IS 'SHA-256 of the files in queries/migrations/code';
INSERT INTO guardwire.code (digest) VALUES ('');
