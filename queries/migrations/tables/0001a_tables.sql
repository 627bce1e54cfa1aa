-- The tables of release 0.1.0, without those that its capture alone used. The platform's tables stand in schema public and are
-- made only where they are missing; schema guardwire can be rebuilt from them. A release never changes this file.

CREATE SCHEMA IF NOT EXISTS guardwire;
COMMENT ON SCHEMA guardwire IS 'Current account state that Guardwire derives from the platform''s tables; written by its triggers alone';

-- ---------------------------------------------------------------- what the platform writes

-- A table that the platform already has keeps its columns and its indexes.
DO $$
BEGIN
    IF to_regclass('public.reconciliation_logs') IS NOT NULL THEN
        RETURN;
    END IF;
    CREATE TABLE public.reconciliation_logs (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        user_id uuid,
        signal_id uuid,
        approval_id uuid,
        mt5_position_id bigint,
        symbol text,
        direction text,
        volume numeric,
        entry_price numeric,
        current_price numeric,
        take_profit numeric,
        stop_loss numeric,
        matched integer,
        divergence_reason text,
        slippage_pips numeric,
        close_reason text,
        closed_price numeric,
        pnl_gbp numeric,
        pnl_percent numeric,
        event_type text,
        status text,
        error_message text,
        created_at timestamptz DEFAULT now(),
        updated_at timestamptz
    );
    CREATE INDEX reconciliation_logs_user_id ON public.reconciliation_logs (user_id, created_at);
    CREATE INDEX reconciliation_logs_signal_id ON public.reconciliation_logs (signal_id);
    CREATE INDEX reconciliation_logs_mt5_position_id ON public.reconciliation_logs (mt5_position_id);
    CREATE INDEX reconciliation_logs_created_at ON public.reconciliation_logs (created_at);
END
$$;

CREATE TABLE IF NOT EXISTS public.equity_snapshots (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid,
    equity numeric,
    balance numeric,
    currency text,
    cash_flow numeric DEFAULT 0,
    created_at timestamptz DEFAULT now()
);
CREATE INDEX IF NOT EXISTS equity_snapshots_user_id ON public.equity_snapshots (user_id, created_at);
-- The flows after a late row are summed from here, so that its cost does not grow with history.
CREATE INDEX IF NOT EXISTS equity_snapshots_cash_flow ON public.equity_snapshots (user_id, created_at) WHERE cash_flow <> 0;
COMMENT ON TABLE public.equity_snapshots IS 'Equity of each account over time; the platform appends';
COMMENT ON COLUMN public.equity_snapshots.user_id IS 'Whose account';
COMMENT ON COLUMN public.equity_snapshots.equity IS 'Balance and floating profit, in currency; a row without a finite value is ignored and counted';
COMMENT ON COLUMN public.equity_snapshots.balance IS 'Money without floating profit, in currency';
COMMENT ON COLUMN public.equity_snapshots.currency IS 'ISO code of the account''s currency';
COMMENT ON COLUMN public.equity_snapshots.cash_flow IS 'Deposit (+) or withdrawal (-) since the row before, contained in equity; it shifts the peak';
COMMENT ON COLUMN public.equity_snapshots.created_at IS 'When the equity was read';

CREATE TABLE IF NOT EXISTS public.guard_limits (
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
    CONSTRAINT drawdown_levels_rise CHECK (drawdown_warning_pct >= 0 AND drawdown_warning_pct <= drawdown_critical_pct
                                           AND drawdown_critical_pct <= 100),
    CONSTRAINT gap_levels_rise CHECK (gap_warning_pct >= 0 AND gap_warning_pct <= gap_critical_pct
                                      AND gap_critical_pct < 1e6),
    CONSTRAINT spread_levels_rise CHECK (spread_warning_pct >= 0 AND spread_warning_pct <= spread_critical_pct
                                         AND spread_critical_pct < 1e6),
    CONSTRAINT minimum_equity_is_an_amount CHECK (minimum_equity >= 0 AND minimum_equity < 1e15),
    CONSTRAINT countdown_is_within_a_day CHECK (countdown_seconds BETWEEN 0 AND 86400),
    CONSTRAINT alert_window_is_within_a_month CHECK (alert_window_seconds BETWEEN 1 AND 2678400),
    CONSTRAINT sync_overdue_is_within_a_month CHECK (sync_overdue_seconds BETWEEN 1 AND 2678400),
    CONSTRAINT peak_since_is_finite CHECK (peak_since IS NULL OR isfinite(peak_since))
);
COMMENT ON TABLE public.guard_limits IS 'When guards warn and when they act, per account; an account without a row has the defaults';
COMMENT ON COLUMN public.guard_limits.user_id IS 'Whose account';
COMMENT ON COLUMN public.guard_limits.drawdown_warning_pct IS 'Drawdown from which the level is warning, % of the peak';
COMMENT ON COLUMN public.guard_limits.drawdown_critical_pct IS 'Drawdown from which everything should be closed, % of the peak';
COMMENT ON COLUMN public.guard_limits.minimum_equity IS 'Equity below which the level is critical, in the account''s currency';
COMMENT ON COLUMN public.guard_limits.countdown_seconds IS 'From the breach to liquidation_at';
COMMENT ON COLUMN public.guard_limits.gap_warning_pct IS 'Price gap from which an alert is a warning, %';
COMMENT ON COLUMN public.guard_limits.gap_critical_pct IS 'Price gap from which an alert is critical, %';
COMMENT ON COLUMN public.guard_limits.spread_warning_pct IS 'Spread above which an alert is a warning, % of the mid price';
COMMENT ON COLUMN public.guard_limits.spread_critical_pct IS 'Spread from which an alert is critical, % of the mid price';
COMMENT ON COLUMN public.guard_limits.alert_window_seconds IS 'How long a market alert lives';
COMMENT ON COLUMN public.guard_limits.sync_overdue_seconds IS 'Without a sync for so long the source is silent';
COMMENT ON COLUMN public.guard_limits.peak_since IS 'Equity read before this moment does not count for the peak';

CREATE TABLE IF NOT EXISTS public.instruments (
    symbol text PRIMARY KEY,
    contract_size numeric NOT NULL,
    pip_size numeric,
    quote_currency text NOT NULL,
    CONSTRAINT symbol_is_upper_case CHECK (symbol = upper(btrim(symbol)) AND length(symbol) BETWEEN 1 AND 64),
    CONSTRAINT contract_size_is_positive CHECK (contract_size > 0 AND contract_size < 1e12),
    CONSTRAINT pip_size_is_positive CHECK (pip_size > 0 AND pip_size < 1e12),
    CONSTRAINT quote_currency_is_upper_case CHECK (quote_currency = upper(btrim(quote_currency))
                                                   AND length(quote_currency) BETWEEN 1 AND 16)
);
COMMENT ON TABLE public.instruments IS 'What one lot of a symbol is; an unknown symbol counts as contract size 1 in the account''s currency';
COMMENT ON COLUMN public.instruments.symbol IS 'In upper case, as the platform writes it';
COMMENT ON COLUMN public.instruments.contract_size IS 'Units of the base in one lot';
COMMENT ON COLUMN public.instruments.pip_size IS 'Price of one pip, in the quote currency';
COMMENT ON COLUMN public.instruments.quote_currency IS 'Currency that profit arises in';

CREATE TABLE IF NOT EXISTS public.fx_rates (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    base text,
    quote text,
    rate numeric,
    created_at timestamptz DEFAULT now()
);
COMMENT ON TABLE public.fx_rates IS 'Exchange rates over time; the platform appends';
COMMENT ON COLUMN public.fx_rates.base IS 'ISO code';
COMMENT ON COLUMN public.fx_rates.quote IS 'ISO code';
COMMENT ON COLUMN public.fx_rates.rate IS 'Units of quote for one of base; a row without a finite positive rate is ignored';
COMMENT ON COLUMN public.fx_rates.created_at IS 'When the rate was read';

-- ---------------------------------------------------------------- what the capture derives

-- One row per account, updated by every commit that concerns it: no index on a changing column and room in the
-- page, so that each update stays on its page (HOT) and needs no vacuum.
CREATE TABLE guardwire.accounts (
    user_id uuid PRIMARY KEY,
    revision bigint NOT NULL,
    base_revision bigint,
    ready boolean NOT NULL DEFAULT true,
    source text NOT NULL DEFAULT 'silent',
    last_sync_at timestamptz,
    last_sync_arrived_at timestamptz,
    last_sync_duration_ms double precision,
    total_syncs bigint NOT NULL DEFAULT 0,
    sync_due_at timestamptz,
    last_position_at timestamptz,
    error_message text,
    error_at timestamptz,
    currency text,
    balance numeric,
    equity numeric,
    equity_at timestamptz,
    equity_flow numeric NOT NULL DEFAULT 0,
    peak_adjusted numeric,
    peak_since timestamptz,
    peak_equity numeric,
    drawdown_pct numeric,
    drawdown_level text,
    liquidation_at timestamptz,
    ignored_rows bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 40, autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX accounts_not_ready ON guardwire.accounts (user_id) WHERE NOT ready;
CREATE INDEX accounts_sync_due ON guardwire.accounts (sync_due_at) WHERE sync_due_at IS NOT NULL;
COMMENT ON TABLE guardwire.accounts IS 'One row per account: its revision, totals, equity and drawdown; locking it orders the account''s commits';
COMMENT ON COLUMN guardwire.accounts.user_id IS 'Whose account';
COMMENT ON COLUMN guardwire.accounts.revision IS 'Grows with every commit that concerns the account: greatest(last + 1, microseconds of the clock)';
COMMENT ON COLUMN guardwire.accounts.base_revision IS 'Revision before the latest commit that told nodes what it changed';
COMMENT ON COLUMN guardwire.accounts.ready IS 'False until the account''s history is read; until then its rows only queue in arrivals';
COMMENT ON COLUMN guardwire.accounts.source IS 'live while syncs arrive, silent when they are overdue';
COMMENT ON COLUMN guardwire.accounts.last_sync_at IS 'Greatest time of a sync that did not fail';
COMMENT ON COLUMN guardwire.accounts.last_sync_arrived_at IS 'When the last sync that did not fail was committed; null for syncs older than the capture';
COMMENT ON COLUMN guardwire.accounts.last_sync_duration_ms IS 'updated_at - created_at of the latest sync; null unless positive';
COMMENT ON COLUMN guardwire.accounts.total_syncs IS 'Sync rows ever inserted';
COMMENT ON COLUMN guardwire.accounts.sync_due_at IS 'When to look whether syncs are overdue; set once and moved lazily, null while silent';
COMMENT ON COLUMN guardwire.accounts.last_position_at IS 'Greatest updated_at (else created_at) of a row about a position';
COMMENT ON COLUMN guardwire.accounts.error_message IS 'Of the latest row about a position; null when it carries none';
COMMENT ON COLUMN guardwire.accounts.error_at IS 'Time of the row that error_message was taken from';
COMMENT ON COLUMN guardwire.accounts.currency IS 'Of the latest equity row';
COMMENT ON COLUMN guardwire.accounts.balance IS 'Of the latest equity row';
COMMENT ON COLUMN guardwire.accounts.equity IS 'Of the latest equity row';
COMMENT ON COLUMN guardwire.accounts.equity_at IS 'Time of the latest equity row';
COMMENT ON COLUMN guardwire.accounts.equity_flow IS 'Sum of all cash flows on record';
COMMENT ON COLUMN guardwire.accounts.peak_adjusted IS 'Highest equity less the cash flows up to it';
COMMENT ON COLUMN guardwire.accounts.peak_since IS 'guard_limits.peak_since that peak_adjusted was computed with';
COMMENT ON COLUMN guardwire.accounts.peak_equity IS 'peak_adjusted + equity_flow: the peak in today''s money';
COMMENT ON COLUMN guardwire.accounts.drawdown_pct IS '(peak - equity) / peak, 0-100 %, 2 decimals; null without equity';
COMMENT ON COLUMN guardwire.accounts.drawdown_level IS 'normal, warning or critical; null without equity';
COMMENT ON COLUMN guardwire.accounts.liquidation_at IS 'End of the countdown of a critical drawdown; null otherwise';
COMMENT ON COLUMN guardwire.accounts.ignored_rows IS 'Rows of this user that could not be used';

CREATE TABLE guardwire.positions (
    user_id uuid NOT NULL,
    ticket bigint NOT NULL,
    position_id uuid NOT NULL,
    is_open boolean NOT NULL,
    matched smallint NOT NULL,
    symbol text,
    direction text,
    volume numeric,
    entry_price numeric,
    current_price numeric,
    take_profit numeric,
    stop_loss numeric,
    entry_time timestamptz NOT NULL,
    state_at timestamptz NOT NULL,
    state_revision bigint NOT NULL,
    state_ordinal integer NOT NULL,
    updated_at timestamptz NOT NULL,
    last_close_at timestamptz,
    close_reason text,
    closed_price numeric,
    closed_at timestamptz,
    divergence_reason text,
    quote_currency text NOT NULL,
    contract_size numeric NOT NULL,
    contract_size_assumed boolean NOT NULL,
    point_value numeric,
    pct_unit numeric,
    fingerprint bigint,
    pnl numeric,
    pnl_pct numeric,
    PRIMARY KEY (user_id, ticket)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0);
CREATE UNIQUE INDEX positions_by_id ON guardwire.positions (position_id);
CREATE INDEX positions_open ON guardwire.positions (user_id) WHERE is_open;
CREATE INDEX positions_open_by_symbol ON guardwire.positions (upper(symbol)) WHERE is_open;
CREATE INDEX positions_open_by_quote_currency ON guardwire.positions (quote_currency) WHERE is_open;
COMMENT ON TABLE guardwire.positions IS 'One row per ticket ever seen: its present state, or how it was when it closed';
COMMENT ON COLUMN guardwire.positions.user_id IS 'Whose account';
COMMENT ON COLUMN guardwire.positions.ticket IS 'MT5 ticket, 1 … 2^63-1';
COMMENT ON COLUMN guardwire.positions.position_id IS 'Id of the ticket''s first log row; never changes';
COMMENT ON COLUMN guardwire.positions.is_open IS 'An open row later than every close, in time and in arrival, exists';
COMMENT ON COLUMN guardwire.positions.matched IS '0 not matched, 1 matched, 2 divergence';
COMMENT ON COLUMN guardwire.positions.symbol IS 'At most 64 characters';
COMMENT ON COLUMN guardwire.positions.direction IS 'buy or sell; null when unknown';
COMMENT ON COLUMN guardwire.positions.volume IS 'Lots; null when unusable';
COMMENT ON COLUMN guardwire.positions.entry_price IS 'Null when unusable';
COMMENT ON COLUMN guardwire.positions.current_price IS 'Null until one is known';
COMMENT ON COLUMN guardwire.positions.take_profit IS 'As the broker sees it';
COMMENT ON COLUMN guardwire.positions.stop_loss IS 'As the broker sees it';
COMMENT ON COLUMN guardwire.positions.entry_time IS 'Least time of the ticket''s rows';
COMMENT ON COLUMN guardwire.positions.state_at IS 'Time of the row that is the state';
COMMENT ON COLUMN guardwire.positions.state_revision IS 'Revision that the row that is the state arrived with; 0 in a backfill';
COMMENT ON COLUMN guardwire.positions.state_ordinal IS 'Order of that row within its transaction';
COMMENT ON COLUMN guardwire.positions.updated_at IS 'updated_at (else created_at) of the row that is the state, or that closed it';
COMMENT ON COLUMN guardwire.positions.last_close_at IS 'Greatest time of a close of this ticket; only a row later than it reopens';
COMMENT ON COLUMN guardwire.positions.close_reason IS 'Of the latest close; null while open';
COMMENT ON COLUMN guardwire.positions.closed_price IS 'Of the latest close; null while open';
COMMENT ON COLUMN guardwire.positions.closed_at IS 'Time of the latest close; null while open';
COMMENT ON COLUMN guardwire.positions.divergence_reason IS 'Of the row that is the state';
COMMENT ON COLUMN guardwire.positions.quote_currency IS 'Currency of pnl';
COMMENT ON COLUMN guardwire.positions.contract_size IS 'Units in one lot that pnl was computed with';
COMMENT ON COLUMN guardwire.positions.contract_size_assumed IS 'The symbol is not in instruments';
COMMENT ON COLUMN guardwire.positions.point_value IS 'Profit for a rise of 1 in the price: volume x contract_size, negative for a sell; null when unknown';
COMMENT ON COLUMN guardwire.positions.pct_unit IS 'Price change that is 1 % in the position''s favour; null when unknown';
COMMENT ON COLUMN guardwire.positions.fingerprint IS 'Of all that a sync row says but prices and times; null where a row like it may not be applied by the quick path';
COMMENT ON COLUMN guardwire.positions.pnl IS 'Floating profit in quote_currency, exact; null when unknown';
COMMENT ON COLUMN guardwire.positions.pnl_pct IS 'Price change since entry in the position''s favour, %, 2 decimals; null when unknown';

CREATE TABLE guardwire.fx_current (
    base text NOT NULL,
    quote text NOT NULL,
    rate numeric NOT NULL,
    as_of timestamptz NOT NULL,
    PRIMARY KEY (base, quote)
) WITH (fillfactor = 50);
COMMENT ON TABLE guardwire.fx_current IS 'Newest usable rate of each pair';
COMMENT ON COLUMN guardwire.fx_current.base IS 'ISO code, upper case';
COMMENT ON COLUMN guardwire.fx_current.quote IS 'ISO code, upper case';
COMMENT ON COLUMN guardwire.fx_current.rate IS 'Units of quote for one of base';
COMMENT ON COLUMN guardwire.fx_current.as_of IS 'created_at of the rate';

CREATE TABLE guardwire.events (
    user_id uuid NOT NULL,
    event_id text NOT NULL,
    event_type text NOT NULL,
    created_at timestamptz NOT NULL,
    revision bigint NOT NULL,
    ordinal integer NOT NULL,
    symbol text,
    ticket bigint,
    matched smallint,
    pnl_gbp numeric,
    divergence_reason text,
    PRIMARY KEY (user_id, event_id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE guardwire.events IS 'Newest 5 events of each account';
COMMENT ON COLUMN guardwire.events.user_id IS 'Whose account';
COMMENT ON COLUMN guardwire.events.event_id IS 'Id of the log or equity row, or limits-<revision>';
COMMENT ON COLUMN guardwire.events.event_type IS 'position_synced, position_matched, divergence_detected, position_closed, drawdown_alert or market_condition_alert';
COMMENT ON COLUMN guardwire.events.created_at IS 'Time of the row';
COMMENT ON COLUMN guardwire.events.revision IS 'Revision that the row arrived with; 0 in a backfill';
COMMENT ON COLUMN guardwire.events.ordinal IS 'Order of the row within its transaction';
COMMENT ON COLUMN guardwire.events.symbol IS 'At most 64 characters';
COMMENT ON COLUMN guardwire.events.ticket IS 'MT5 ticket';
COMMENT ON COLUMN guardwire.events.matched IS '0 not matched, 1 matched, 2 divergence';
COMMENT ON COLUMN guardwire.events.pnl_gbp IS 'As the platform recorded it';
COMMENT ON COLUMN guardwire.events.divergence_reason IS 'At most 500 characters';

CREATE TABLE guardwire.market_alerts (
    user_id uuid NOT NULL,
    symbol text NOT NULL,
    condition_type text NOT NULL,
    alert_type text NOT NULL,
    gap_pct numeric,
    spread_pct numeric,
    open_price numeric,
    close_price numeric,
    bid numeric,
    ask numeric,
    detected_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    revision bigint NOT NULL,
    ordinal integer NOT NULL,
    log_id uuid NOT NULL,
    PRIMARY KEY (user_id, symbol, condition_type)
) WITH (fillfactor = 70);
CREATE INDEX market_alerts_expiry ON guardwire.market_alerts (expires_at);
COMMENT ON TABLE guardwire.market_alerts IS 'Latest market condition per account, symbol and kind, until its window has passed; normal ones are remembered, not shown';
COMMENT ON COLUMN guardwire.market_alerts.user_id IS 'Whose account';
COMMENT ON COLUMN guardwire.market_alerts.symbol IS 'At most 64 characters; * when the row had none';
COMMENT ON COLUMN guardwire.market_alerts.condition_type IS 'price_gap, bid_ask_spread, low_liquidity or other';
COMMENT ON COLUMN guardwire.market_alerts.alert_type IS 'normal, warning or critical';
COMMENT ON COLUMN guardwire.market_alerts.gap_pct IS 'price_gap: |open - close| / close, %, 2 decimals';
COMMENT ON COLUMN guardwire.market_alerts.spread_pct IS 'bid_ask_spread: (ask - bid) / mid, %, 2 decimals';
COMMENT ON COLUMN guardwire.market_alerts.open_price IS 'price_gap: price after the gap';
COMMENT ON COLUMN guardwire.market_alerts.close_price IS 'price_gap: price before the gap';
COMMENT ON COLUMN guardwire.market_alerts.bid IS 'bid_ask_spread';
COMMENT ON COLUMN guardwire.market_alerts.ask IS 'bid_ask_spread';
COMMENT ON COLUMN guardwire.market_alerts.detected_at IS 'Time of the row';
COMMENT ON COLUMN guardwire.market_alerts.expires_at IS 'End of its window; a housekeeping statement removes it then';
COMMENT ON COLUMN guardwire.market_alerts.revision IS 'Revision that the row arrived with; 0 in a backfill';
COMMENT ON COLUMN guardwire.market_alerts.ordinal IS 'Order of the row within its transaction';
COMMENT ON COLUMN guardwire.market_alerts.log_id IS 'The log row';

CREATE TABLE guardwire.breaches (
    user_id uuid NOT NULL,
    breach_id text NOT NULL,
    kind text NOT NULL,
    symbol text,
    condition_type text,
    raised_at timestamptz NOT NULL,
    cleared_at timestamptz,
    observed_pct numeric,
    PRIMARY KEY (user_id, breach_id)
) WITH (fillfactor = 70);
COMMENT ON TABLE guardwire.breaches IS 'Whatever became critical: newest 20 and all younger than an hour, at most 200 per account';
COMMENT ON COLUMN guardwire.breaches.user_id IS 'Whose account';
COMMENT ON COLUMN guardwire.breaches.breach_id IS 'Id of the log or equity row, or limits-<revision>';
COMMENT ON COLUMN guardwire.breaches.kind IS 'drawdown or market';
COMMENT ON COLUMN guardwire.breaches.symbol IS 'market: symbol, or *';
COMMENT ON COLUMN guardwire.breaches.condition_type IS 'market: as in market_alerts';
COMMENT ON COLUMN guardwire.breaches.raised_at IS 'When it became critical';
COMMENT ON COLUMN guardwire.breaches.cleared_at IS 'When it no longer was; null while it is';
COMMENT ON COLUMN guardwire.breaches.observed_pct IS 'Drawdown, gap or spread when it became critical, %';

-- ---------------------------------------------------------------- how the capture works

CREATE TABLE guardwire.epoch (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    epoch bigint NOT NULL,
    system_identifier text,
    timeline text
);
COMMENT ON TABLE guardwire.epoch IS 'One row: names the history that revisions belong to; raised when a restored or promoted database may have lost commits';
COMMENT ON COLUMN guardwire.epoch.singleton IS 'Keeps the table at one row';
COMMENT ON COLUMN guardwire.epoch.epoch IS 'greatest(last + 1, unix milliseconds)';
COMMENT ON COLUMN guardwire.epoch.system_identifier IS 'pg_control_system() when the epoch was raised';
COMMENT ON COLUMN guardwire.epoch.timeline IS 'pg_control_checkpoint() when the epoch was raised';
INSERT INTO guardwire.epoch (epoch, system_identifier, timeline)
SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint,
       (SELECT system_identifier FROM pg_control_system())::text,
       (SELECT timeline_id FROM pg_control_checkpoint())::text;

CREATE TABLE guardwire.configuration (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    notify boolean NOT NULL DEFAULT true,
    told_channel text NOT NULL DEFAULT 'guardwire_' || replace(gen_random_uuid()::text, '-', ''),
    arrival_hours integer NOT NULL DEFAULT 48 CHECK (arrival_hours BETWEEN 1 AND 87600),
    told_secret bytea NOT NULL DEFAULT uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
);
COMMENT ON TABLE guardwire.configuration IS 'One row: settings that every writer and node shares';
COMMENT ON COLUMN guardwire.configuration.singleton IS 'Keeps the table at one row';
COMMENT ON COLUMN guardwire.configuration.notify IS 'Whether a commit sends NOTIFY; without it nodes find changes by their sweep alone';
COMMENT ON COLUMN guardwire.configuration.told_channel IS 'Notify channel on which commits tell what they changed: a secret, because a login that knows the name can listen';
COMMENT ON COLUMN guardwire.configuration.told_secret IS '32 random bytes that prove that an item comes from the capture; `guardwire rotate-channel` replaces it and told_channel';
COMMENT ON COLUMN guardwire.configuration.arrival_hours IS 'How long arrivals and ignored rows are kept';
INSERT INTO guardwire.configuration DEFAULT VALUES;

CREATE TABLE guardwire.backfill (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    listed boolean NOT NULL DEFAULT false,
    done boolean NOT NULL DEFAULT false,
    started_at timestamptz NOT NULL DEFAULT now(),
    done_at timestamptz
);
COMMENT ON TABLE guardwire.backfill IS 'One row: whether the history that was there before the capture has been read';
COMMENT ON COLUMN guardwire.backfill.singleton IS 'Keeps the table at one row';
COMMENT ON COLUMN guardwire.backfill.listed IS 'Every account with history has a row in accounts; one that appears later has none and is ready at once';
COMMENT ON COLUMN guardwire.backfill.done IS 'Every account is ready';
COMMENT ON COLUMN guardwire.backfill.started_at IS 'When the capture was installed';
COMMENT ON COLUMN guardwire.backfill.done_at IS 'When every account was ready';
INSERT INTO guardwire.backfill DEFAULT VALUES;

CREATE TABLE guardwire.arrivals (
    user_id uuid NOT NULL,
    revision bigint NOT NULL,
    ordinal integer NOT NULL,
    log_id uuid NOT NULL,
    source "char" NOT NULL DEFAULT 'l',
    inserted boolean NOT NULL DEFAULT true,
    PRIMARY KEY (user_id, source, revision, ordinal)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.5);
CREATE INDEX arrivals_by_age ON guardwire.arrivals USING brin (revision) WITH (pages_per_range = 16, autosummarize = on);
COMMENT ON TABLE guardwire.arrivals IS 'Order in which rows were committed, account by account; kept for configuration.arrival_hours';
COMMENT ON COLUMN guardwire.arrivals.user_id IS 'Whose account';
COMMENT ON COLUMN guardwire.arrivals.revision IS 'Revision of the commit';
COMMENT ON COLUMN guardwire.arrivals.ordinal IS 'Order within the transaction';
COMMENT ON COLUMN guardwire.arrivals.log_id IS 'Id of the row';
COMMENT ON COLUMN guardwire.arrivals.source IS 'l: reconciliation_logs, e: equity_snapshots';
COMMENT ON COLUMN guardwire.arrivals.inserted IS 'False when the row was updated in place';

CREATE TABLE guardwire.ignored_rows (
    noted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    source text NOT NULL,
    row_key text NOT NULL,
    user_id uuid,
    reason text NOT NULL
);
CREATE INDEX ignored_rows_by_age ON guardwire.ignored_rows (noted_at);
COMMENT ON TABLE guardwire.ignored_rows IS 'Rows that could not be used: no usable user, ticket, equity or rate';
COMMENT ON COLUMN guardwire.ignored_rows.noted_at IS 'When the row arrived';
COMMENT ON COLUMN guardwire.ignored_rows.source IS 'log, equity or fx';
COMMENT ON COLUMN guardwire.ignored_rows.row_key IS 'Primary key of the row';
COMMENT ON COLUMN guardwire.ignored_rows.user_id IS 'Whose account; null when that is what could not be used';
COMMENT ON COLUMN guardwire.ignored_rows.reason IS 'user, ticket, equity or rate';

-- How the users of the log are written where the column is text, so that their rows can be found by its index.
CREATE TABLE guardwire.log_users (
    written text PRIMARY KEY,
    user_id uuid
);
CREATE INDEX log_users_by_user ON guardwire.log_users (user_id);
COMMENT ON TABLE guardwire.log_users IS 'Every form of a user in reconciliation_logs.user_id, where that column is not a uuid';
COMMENT ON COLUMN guardwire.log_users.written IS 'As the platform wrote it';
COMMENT ON COLUMN guardwire.log_users.user_id IS 'The account; null when it is none';

