-- Copies of rates, instruments and limits, and what their changes do to accounts.

DROP TYPE IF EXISTS guardwire.rate_row CASCADE;
CREATE TYPE guardwire.rate_row AS (
    nth bigint, id text, base text, quote text, rate numeric, created_at timestamptz, arrived_at timestamptz, at timestamptz
);
COMMENT ON TYPE guardwire.rate_row IS 'A row of fx_rates as read; at is the time at which it counts';

CREATE OR REPLACE FUNCTION guardwire.read_rates(rows guardwire.copied_row[]) RETURNS guardwire.rate_row[] LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (
        WITH read AS (
            SELECT r.nth, r.new_row ->> 'id' AS id, guardwire.read_code(r.new_row ->> 'base', 16) AS base,
                   guardwire.read_code(r.new_row ->> 'quote', 16) AS quote, guardwire.read_number(r.new_row -> 'rate') AS rate,
                   guardwire.read_time(r.new_row ->> 'created_at') AS created_at, r.arrived_at
            FROM unnest(rows) AS r WHERE r.source = 'x' AND r.new_row IS NOT NULL
        )
        SELECT array_agg(ROW(r.*, guardwire.effective_time(r.created_at, r.arrived_at, c.clock_stepped_at))::guardwire.rate_row
                         ORDER BY r.nth)
        FROM read AS r LEFT JOIN guardwire.fx_current AS c ON c.base = r.base AND c.quote = r.quote);
END
$$;

-- Makes the newest usable rate of each pair current; the accounts whose open positions it converts.
CREATE OR REPLACE FUNCTION guardwire.apply_rates(rows guardwire.copied_row[]) RETURNS uuid[] LANGUAGE plpgsql AS $$
DECLARE
    rates guardwire.rate_row[] := guardwire.read_rates(rows);
    usable guardwire.rate_row[] := ARRAY(
        SELECT r FROM unnest(rates) AS r WHERE r.base IS NOT NULL AND r.quote IS NOT NULL AND r.rate > 0 ORDER BY r.nth);
    moved guardwire.rate_row[] := usable;
    r guardwire.rate_row;
BEGIN
    IF cardinality(rates) > cardinality(usable) THEN
        INSERT INTO guardwire.ignored_rows (source, row_key, reason)
        SELECT 'fx', coalesce(o.id, ''), 'rate' FROM unnest(rates) AS o
        WHERE o.base IS NULL OR o.quote IS NULL OR o.rate IS NULL OR o.rate <= 0;
    END IF;
    IF guardwire.any_older_rate(usable) THEN
        moved := '{}';
        FOREACH r IN ARRAY usable LOOP
            IF guardwire.place_rate(r) THEN
                moved := moved || r;
            END IF;
        END LOOP;
    ELSE
        PERFORM guardwire.set_rates(usable);
    END IF;
    RETURN (
        SELECT array_agg(DISTINCT p.user_id)
        FROM (SELECT DISTINCT u.base, u.quote FROM unnest(moved) AS u) AS m
        JOIN guardwire.positions AS p ON p.is_open AND p.quote_currency IN (m.base, m.quote)
        JOIN guardwire.accounts AS a
            ON a.user_id = p.user_id AND a.currency IN (m.base, m.quote) AND a.currency <> p.quote_currency);
END
$$;

-- Whether a rate is older than the one that is current, or than one before it in `rates`.
CREATE OR REPLACE FUNCTION guardwire.any_older_rate(rates guardwire.rate_row[]) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM (SELECT u.*, max(u.at) OVER (PARTITION BY u.base, u.quote ORDER BY u.nth
                                                 ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
                     FROM unnest(rates) AS u) AS r
        LEFT JOIN guardwire.fx_current AS c ON c.base = r.base AND c.quote = r.quote
        WHERE r.at < greatest(r.before, c.as_of));
END
$$;

-- Whether the last rates of a pair were ignored as older, and a clock that went back would explain it.
CREATE OR REPLACE FUNCTION guardwire.is_doubted(c guardwire.fx_current) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce((c).older_rates[cardinality((c).older_rates)] > 5000000, false);

-- Makes rates current, none of which is older than the one before it.
CREATE OR REPLACE FUNCTION guardwire.set_rates(rates guardwire.rate_row[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO guardwire.fx_current AS c (base, quote, rate, as_of)
    SELECT DISTINCT ON (r.base, r.quote) r.base, r.quote, r.rate, r.at FROM unnest(rates) AS r
    ORDER BY r.base, r.quote, r.nth DESC
    ON CONFLICT ON CONSTRAINT fx_current_pkey DO UPDATE SET rate = excluded.rate, as_of = excluded.as_of, older_rates = NULL;
END
$$;

-- Makes a rate current unless it is older; the third older one that agrees shows that the clock of the pair's rates went back.
-- Whether it is current now.
CREATE OR REPLACE FUNCTION guardwire.place_rate(r guardwire.rate_row) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    c guardwire.fx_current;
    run bigint[];
BEGIN
    SELECT o.* INTO c FROM guardwire.fx_current AS o WHERE o.base = r.base AND o.quote = r.quote;
    r.at := guardwire.effective_time(r.created_at, r.arrived_at, c.clock_stepped_at);
    IF r.at < c.as_of THEN
        run := guardwire.note_older(c.older_rates, r.created_at, r.arrived_at);
        IF guardwire.has_stepped(run) IS NOT TRUE THEN
            UPDATE guardwire.fx_current AS o SET older_rates = run WHERE o.base = r.base AND o.quote = r.quote;
            RETURN false;
        END IF;
        r.at := r.arrived_at;
        UPDATE guardwire.fx_current AS o SET clock_stepped_at = least(o.clock_stepped_at, r.arrived_at)
        WHERE o.base = r.base AND o.quote = r.quote;
    END IF;
    PERFORM guardwire.set_rates(ARRAY[r]);
    RETURN true;
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

-- The open positions whose symbols may mean one of these instruments: each begins with its name, or with # and its name.
CREATE OR REPLACE FUNCTION guardwire.positions_of(symbols text[]) RETURNS SETOF guardwire.positions LANGUAGE sql STABLE AS $$
    SELECT DISTINCT p.*
    FROM unnest(symbols) AS s (name)
    CROSS JOIN LATERAL (VALUES (s.name), ('#' || s.name)) AS b (beginning)
    JOIN guardwire.positions AS p
        ON p.is_open AND guardwire.fold(p.symbol) COLLATE "C" >= b.beginning COLLATE "C"
           AND guardwire.fold(p.symbol) COLLATE "C" < (b.beginning || chr(1114111)) COLLATE "C"
$$;

-- Recomputes the open positions of these symbols, in accounts that are locked and ready.
CREATE OR REPLACE FUNCTION guardwire.apply_instruments(symbols text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM guardwire.write_positions('{}', ARRAY(
        SELECT guardwire.recompute_position(guardwire.set_instrument(p))
        FROM guardwire.positions_of(symbols) AS p JOIN guardwire.accounts AS a ON a.user_id = p.user_id AND a.ready));
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
    r.equity_overdue_seconds := greatest(coalesce(guardwire.read_seconds(l -> 'equity_overdue_seconds', 2678400),
                                                  r.equity_overdue_seconds), 1);
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
    f guardwire.equity_fold := guardwire.load_fold(account);
BEGIN
    a := f.a;
    IF NOT a.ready THEN
        RETURN;
    END IF;
    IF a.peak_since IS DISTINCT FROM l.peak_since THEN
        a := guardwire.restart_peak(a, l, batch, after_nth);
        UPDATE guardwire.accounts AS o SET carried_peak = NULL, carried_flow = NULL
        WHERE o.user_id = account AND o.carried_peak IS NOT NULL;
    END IF;
    -- Equity and syncs are looked at by the limits of now.
    a.equity_due_at := CASE WHEN a.equity IS NOT NULL OR (a.doubted).row_id IS NOT NULL THEN arrived_at END;
    f.a := guardwire.judge_drawdown(a, l, concat('limits-', revision), arrived_at, arrived_at, revision, ordinal);
    PERFORM guardwire.store_fold(f, l, arrived_at);
    UPDATE guardwire.accounts AS o SET sync_due_at = arrived_at WHERE o.user_id = account AND o.source = 'live';
    FOR held IN SELECT o.* FROM guardwire.market_alerts AS o WHERE o.user_id = account LOOP
        m := held;
        m.alert_type := guardwire.market_level(m, l);
        m.expires_at := coalesce(m.window_from, m.detected_at) + make_interval(secs => l.alert_window_seconds);
        UPDATE guardwire.market_alerts AS o SET alert_type = m.alert_type, expires_at = m.expires_at
        WHERE o.user_id = account AND o.symbol = m.symbol AND o.condition_type = m.condition_type;
        PERFORM guardwire.follow_market_level(
            held.alert_type, m, guardwire.cause_of(m.log_id::text, false, revision, ordinal), arrived_at, arrived_at, l);
    END LOOP;
END
$$;

-- Copies rates, instruments and emptied tables; which symbols and which accounts they concern.
CREATE OR REPLACE FUNCTION guardwire.apply_reference(rows guardwire.copied_row[], OUT symbols text[], OUT concerned uuid[])
LANGUAGE plpgsql AS $$
DECLARE
    r guardwire.copied_row;
BEGIN
    symbols := guardwire.copy_instruments(rows);
    concerned := guardwire.apply_rates(rows) || ARRAY(
        SELECT DISTINCT p.user_id FROM guardwire.positions_of(symbols) AS p);
    FOREACH r IN ARRAY rows LOOP
        CONTINUE WHEN r.source <> 'g';
        IF r.operation = 't' THEN
            concerned := concerned || guardwire.forget_limits(NULL, r.nth);
        ELSIF guardwire.moved_from(r.account, r.old_row ->> 'user_id') IS NOT NULL THEN
            concerned := concerned || guardwire.forget_limits(guardwire.moved_from(r.account, r.old_row ->> 'user_id'), r.nth);
        END IF;
    END LOOP;
END
$$;

-- Judges again those concerned accounts whose limits are gone. Rows of the batch after `rows` are still to be applied; after a
-- TRUNCATE there are none, because it is applied last.
CREATE OR REPLACE FUNCTION guardwire.reset_limits(
    rows guardwire.copied_row[], users uuid[], revisions bigint[], batch guardwire.inbox[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    last_nth bigint := (SELECT max(CASE r.operation WHEN 't' THEN 9223372036854775807 ELSE r.nth END) FROM unnest(rows) AS r);
BEGIN
    IF EXISTS (SELECT FROM unnest(rows) AS r WHERE r.source = 'g' AND (r.operation = 't' OR r.old_row IS NOT NULL)) THEN
        PERFORM guardwire.apply_limits(l.user_id, clock_timestamp(), l.revision, 0, batch, last_nth)
        FROM unnest(users, revisions) AS l (user_id, revision);
    END IF;
END
$$;

-- Rows of limits that a later row of the batch replaced: a TRUNCATE, or one that moved the limits to another account. That row
-- waits in another queue than these rows, and they must not be applied after it.
CREATE OR REPLACE FUNCTION guardwire.find_replaced_limits(rows guardwire.copied_row[], batch guardwire.inbox[])
RETURNS bigint[] LANGUAGE plpgsql AS $$
BEGIN
    RETURN ARRAY(
        WITH ends AS MATERIALIZED (
            SELECT b.nth, guardwire.moved_from(b.account, b.old_row ->> 'user_id') AS account FROM unnest(batch) AS b
            WHERE b.source = 'g' AND (b.operation = 't' OR guardwire.moved_from(b.account, b.old_row ->> 'user_id') IS NOT NULL)
        )
        SELECT r.nth FROM unnest(rows) AS r JOIN ends AS e ON e.nth > r.nth AND r.account = coalesce(e.account, r.account)
        WHERE r.source = 'g');
END
$$;
