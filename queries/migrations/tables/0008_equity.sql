-- An account keeps a fold of its equity rows: each row is added when it is applied. Rows that the platform deletes later take
-- nothing away.

CREATE TYPE guardwire.peak AS (value numeric, divisor numeric, at timestamptz, arrived_at timestamptz, row_id uuid);
COMMENT ON TYPE guardwire.peak IS 'The highest equity of some rows, in money of today: value / divisor, because a cash flow scales it by a fraction';
COMMENT ON COLUMN guardwire.peak.value IS 'Equity of the row, times the equities after the cash flows since';
COMMENT ON COLUMN guardwire.peak.divisor IS 'Product of the equities before the cash flows since; 1 when there were none';
COMMENT ON COLUMN guardwire.peak.at IS 'Time at which the row counts';
COMMENT ON COLUMN guardwire.peak.arrived_at IS 'When the row arrived';
COMMENT ON COLUMN guardwire.peak.row_id IS 'Id of the row';

CREATE TYPE guardwire.reading AS (
    row_id uuid, equity numeric, balance numeric, currency text, cash_flow numeric, at timestamptz, arrived_at timestamptz,
    revision bigint, ordinal integer, inserted boolean, side text
);
COMMENT ON TYPE guardwire.reading IS 'An equity row that may become the account''s equity';
COMMENT ON COLUMN guardwire.reading.row_id IS 'Id of the row';
COMMENT ON COLUMN guardwire.reading.equity IS 'As the platform wrote it';
COMMENT ON COLUMN guardwire.reading.balance IS 'As the platform wrote it';
COMMENT ON COLUMN guardwire.reading.currency IS 'As the platform wrote it, in upper case';
COMMENT ON COLUMN guardwire.reading.cash_flow IS 'Deposits less withdrawals since the last row that was accepted';
COMMENT ON COLUMN guardwire.reading.at IS 'Time at which the row counts';
COMMENT ON COLUMN guardwire.reading.arrived_at IS 'When the row arrived';
COMMENT ON COLUMN guardwire.reading.revision IS 'Revision that the row was applied at';
COMMENT ON COLUMN guardwire.reading.ordinal IS 'Order among the rows of that revision';
COMMENT ON COLUMN guardwire.reading.inserted IS 'False where the row was updated in place';
COMMENT ON COLUMN guardwire.reading.side IS 'Why it is implausible: low, high, or dead (0 as a terminal without its broker reports it); null when it is not';

ALTER TABLE guardwire.accounts
    ADD COLUMN equity_row uuid,
    ADD COLUMN equity_arrived_at timestamptz,
    ADD COLUMN equity_fresh_at timestamptz,
    ADD COLUMN equity_due_at timestamptz,
    ADD COLUMN equity_overdue boolean NOT NULL DEFAULT false,
    ADD COLUMN doubted guardwire.reading,
    ADD COLUMN doubted_flow numeric,
    ADD COLUMN peak guardwire.peak,
    ADD COLUMN top guardwire.peak,
    ADD COLUMN carried_peak numeric,
    ADD COLUMN carried_flow numeric;
CREATE INDEX accounts_equity_due ON guardwire.accounts (equity_due_at) WHERE equity_due_at IS NOT NULL;
COMMENT ON COLUMN guardwire.accounts.currency IS 'The last that an accepted equity row named';
COMMENT ON COLUMN guardwire.accounts.balance IS 'The last that an accepted equity row named, in currency';
COMMENT ON COLUMN guardwire.accounts.equity IS 'Of the last equity row that was accepted';
COMMENT ON COLUMN guardwire.accounts.equity_at IS 'Time at which the last equity row that was accepted counts';
COMMENT ON COLUMN guardwire.accounts.equity_row IS 'Id of the last equity row that was accepted';
COMMENT ON COLUMN guardwire.accounts.equity_arrived_at IS 'When that row arrived';
COMMENT ON COLUMN guardwire.accounts.equity_fresh_at IS 'Since when equity_overdue_seconds run: the arrival of that row, or its own time if it was old when it arrived';
COMMENT ON COLUMN guardwire.accounts.equity_due_at IS 'When to look whether equity is overdue or a doubted row is confirmed; moved lazily';
COMMENT ON COLUMN guardwire.accounts.equity_overdue IS 'The equity is older than equity_overdue_seconds';
COMMENT ON COLUMN guardwire.accounts.doubted IS 'An implausible equity row that nothing has confirmed or contradicted yet';
COMMENT ON COLUMN guardwire.accounts.doubted_flow IS 'Cash flows of rows that were not accepted; they count with the next one that is';
COMMENT ON COLUMN guardwire.accounts.peak IS 'The highest equity since peak_since; null until an equity above 0 was accepted';
COMMENT ON COLUMN guardwire.accounts.top IS 'The highest equity of all; null while peak_since is null, because then peak is that';
COMMENT ON COLUMN guardwire.accounts.peak_since IS 'guard_limits.peak_since that peak was folded with';
COMMENT ON COLUMN guardwire.accounts.peak_equity IS 'The peak in today''s money, for people';
COMMENT ON COLUMN guardwire.accounts.drawdown_level IS 'normal, warning or critical as measured last; null without equity';
COMMENT ON COLUMN guardwire.accounts.carried_peak IS 'The peak of release 0.1.0 less the cash flows up to it, until the history is read anew; it stays where the history does not show what it is in today''s money';
COMMENT ON COLUMN guardwire.accounts.carried_flow IS 'Sum of all cash flows that release 0.1.0 had seen; null without carried_peak';

CREATE TABLE guardwire.equity_flows (
    user_id uuid NOT NULL,
    row_id uuid NOT NULL,
    at timestamptz NOT NULL,
    after_flow numeric NOT NULL,
    before_flow numeric NOT NULL,
    PRIMARY KEY (user_id, row_id)
);
COMMENT ON TABLE guardwire.equity_flows IS 'By how much cash flows scaled an account''s peak; equity rows that come late are scaled by those after them';
COMMENT ON COLUMN guardwire.equity_flows.user_id IS 'Whose account';
COMMENT ON COLUMN guardwire.equity_flows.row_id IS 'Id of the row with the flow';
COMMENT ON COLUMN guardwire.equity_flows.at IS 'Time at which the row counts';
COMMENT ON COLUMN guardwire.equity_flows.after_flow IS 'Equity after the flow';
COMMENT ON COLUMN guardwire.equity_flows.before_flow IS 'Equity before the flow; 0 where the peak began anew, so that no earlier row counts';

-- The old peak added flows up. Rows that set it may be gone, so it is kept until the history is read: every history is read anew.
UPDATE guardwire.accounts
SET carried_peak = peak_adjusted, carried_flow = CASE WHEN peak_adjusted IS NOT NULL THEN equity_flow END, ready = false;
ALTER TABLE guardwire.accounts DROP COLUMN equity_flow, DROP COLUMN peak_adjusted;

ALTER TABLE guardwire.limits ADD COLUMN equity_overdue_seconds integer NOT NULL DEFAULT 300;
COMMENT ON COLUMN guardwire.limits.equity_overdue_seconds IS 'As in public.guard_limits';
-- A table of the platform's own may belong to somebody else; then the default holds for all accounts.
DO $$
BEGIN
    IF (SELECT pg_has_role(c.relowner, 'USAGE') FROM pg_class AS c WHERE c.oid = 'public.guard_limits'::regclass) THEN
        ALTER TABLE public.guard_limits ADD COLUMN IF NOT EXISTS equity_overdue_seconds integer NOT NULL DEFAULT 300
            CONSTRAINT equity_overdue_is_within_a_month CHECK (equity_overdue_seconds BETWEEN 1 AND 2678400);
        COMMENT ON COLUMN public.guard_limits.equity_overdue_seconds IS 'Without equity for so long the drawdown is unknown';
        COMMENT ON COLUMN public.guard_limits.peak_since IS 'The peak begins with the equity that stood at this moment; rows count by their arrival';
    ELSE
        RAISE WARNING 'guard_limits gets no column equity_overdue_seconds: this login does not own the table';
    END IF;
END
$$;
COMMENT ON COLUMN public.equity_snapshots.cash_flow IS 'Deposit (+) or withdrawal (-) since the row before, contained in equity; it scales the peak, so that no percentage changes';
