-- The equity rules: the latest row is shown, and the peak is the highest equity less the cash flows since.

-- An account's equity rows as they were applied, in the order in which they count: by time, then by arrival. They are the
-- platform's rows as they are now, less the changes that wait.
CREATE OR REPLACE FUNCTION guardwire.equity_history(of_account uuid, batch guardwire.inbox[], after_nth bigint) RETURNS TABLE (
    equity numeric, balance numeric, currency text, cash_flow numeric, at timestamptz, nth bigint
) LANGUAGE sql STABLE AS $$
    WITH waiting AS MATERIALIZED (
        SELECT w.* FROM guardwire.waiting_rows(of_account, 'e', batch, after_nth) AS w
    ), snapshots AS (
        SELECT e.id, guardwire.parse_copy('e', guardwire.copy_of('e', e)) AS snapshot FROM public.equity_snapshots AS e
        WHERE e.user_id = of_account AND NOT EXISTS (SELECT FROM waiting AS w WHERE w.id = e.id)
        UNION ALL
        SELECT w.id, w.old_row FROM waiting AS w WHERE guardwire.read_user(w.old_row ->> 'user_id') = of_account
    )
    SELECT r.equity, r.balance, r.currency, r.cash_flow, r.at,
           row_number() OVER (ORDER BY r.at, r.revision, r.ordinal, r.id)
    FROM snapshots AS e
    LEFT JOIN (SELECT DISTINCT ON (s.log_id) s.log_id, s.revision, s.ordinal, s.arrived_at FROM guardwire.arrivals AS s
               WHERE s.user_id = of_account AND s.source = 'e'
               ORDER BY s.log_id, s.revision DESC, s.ordinal DESC) AS a ON a.log_id = e.id
    CROSS JOIN LATERAL guardwire.read_equity(
        e.snapshot, coalesce(a.arrived_at, to_timestamp(a.revision / 1000000.0), statement_timestamp()), coalesce(a.revision, 0),
        coalesce(a.ordinal, 0), true, NULL) AS r
    WHERE r.equity IS NOT NULL
$$;

-- Cash flows of an account later than a moment, as they were applied; an account has few of them.
CREATE OR REPLACE FUNCTION guardwire.flows_after(
    of_account uuid, moment timestamptz, batch guardwire.inbox[], after_nth bigint
) RETURNS numeric LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (
        WITH waiting AS MATERIALIZED (
            SELECT w.* FROM guardwire.waiting_rows(of_account, 'e', batch, after_nth) AS w
        ), flows AS (
            SELECT o.id, guardwire.parse_copy('e', guardwire.copy_of('e', o)) AS snapshot FROM public.equity_snapshots AS o
            WHERE o.user_id = of_account AND o.cash_flow <> 0 AND NOT EXISTS (SELECT FROM waiting AS w WHERE w.id = o.id)
            UNION ALL
            SELECT w.id, w.old_row FROM waiting AS w WHERE guardwire.read_user(w.old_row ->> 'user_id') = of_account
        )
        SELECT coalesce(sum(r.cash_flow), 0)
        FROM flows AS e
        CROSS JOIN LATERAL guardwire.read_equity(
            e.snapshot, (SELECT max(coalesce(s.arrived_at, to_timestamp(s.revision / 1000000.0))) FROM guardwire.arrivals AS s
                         WHERE s.user_id = of_account AND s.source = 'e' AND s.log_id = e.id), 0, 0, true, NULL) AS r
        WHERE r.equity IS NOT NULL AND r.at > moment);
END
$$;

DROP TYPE IF EXISTS guardwire.equity_sums CASCADE;
CREATE TYPE guardwire.equity_sums AS (
    equity numeric, balance numeric, currency text, at timestamptz, flow numeric, peak numeric
);
COMMENT ON TYPE guardwire.equity_sums IS 'What an account''s equity rows come to: the latest row, all cash flows, and the highest equity less the flows up to it';

CREATE OR REPLACE FUNCTION guardwire.sum_equity(
    of_account uuid, batch guardwire.inbox[], after_nth bigint
) RETURNS guardwire.equity_sums LANGUAGE plpgsql STABLE AS $$
DECLARE
    since timestamptz := (guardwire.limits_of(of_account)).peak_since;
    found_sums guardwire.equity_sums;
BEGIN
    SELECT (array_agg(e.equity ORDER BY e.nth DESC))[1], (array_agg(e.balance ORDER BY e.nth DESC))[1],
           (array_agg(e.currency ORDER BY e.nth DESC))[1], max(e.at), sum(e.cash_flow),
           max(e.equity - e.upto) FILTER (WHERE e.equity >= 0 AND (since IS NULL OR e.at >= since))
    INTO found_sums
    FROM (SELECT o.*, sum(o.cash_flow) OVER (ORDER BY o.nth) AS upto
          FROM guardwire.equity_history(of_account, batch, after_nth) AS o) AS e;
    RETURN found_sums;
END
$$;

-- Computes an account's equity anew from the platform's table: after peak_since moved, a cash flow came late, or a row was
-- altered in place.
CREATE OR REPLACE FUNCTION guardwire.recompute_equity(of_account uuid, batch guardwire.inbox[], after_nth bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    sums guardwire.equity_sums := guardwire.sum_equity(of_account, batch, after_nth);
BEGIN
    UPDATE guardwire.accounts AS a
    SET equity = sums.equity, balance = sums.balance, currency = sums.currency, equity_at = sums.at,
        equity_flow = coalesce(sums.flow, 0), peak_adjusted = sums.peak,
        peak_since = (guardwire.limits_of(of_account)).peak_since
    WHERE a.user_id = of_account;
END
$$;

-- A symbol that is in no list of instruments counts in the account's currency, which may have changed.
CREATE OR REPLACE FUNCTION guardwire.follow_currency(of_account uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE guardwire.positions AS p SET quote_currency = coalesce(a.currency, 'USD')
    FROM guardwire.accounts AS a
    WHERE a.user_id = of_account AND p.user_id = of_account AND p.is_open AND p.contract_size_assumed
      AND p.quote_currency <> coalesce(a.currency, 'USD');
END
$$;

-- Applies equity rows of a batch in the order of their arrival; the cost of an append does not grow with the history.
CREATE OR REPLACE FUNCTION guardwire.apply_equity(rows guardwire.equity_row[], batch guardwire.inbox[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    r guardwire.equity_row;
    a guardwire.accounts;
    since timestamptz;
    adjusted numeric;
BEGIN
    FOREACH r IN ARRAY rows LOOP
        SELECT o.* INTO a FROM guardwire.accounts AS o WHERE o.user_id = r.user_id;
        IF r.equity IS NULL THEN
            UPDATE guardwire.accounts AS o SET ignored_rows = o.ignored_rows + 1 WHERE o.user_id = r.user_id;
            INSERT INTO guardwire.ignored_rows (source, row_key, user_id, reason)
            VALUES ('equity', r.id::text, r.user_id, 'equity');
            CONTINUE WHEN r.inserted;
        END IF;
        since := (guardwire.limits_of(r.user_id)).peak_since;
        IF NOT r.inserted OR (r.at < a.equity_at AND r.cash_flow <> 0) THEN
            PERFORM guardwire.recompute_equity(r.user_id, batch, r.nth);
        ELSIF a.equity_at IS NULL OR r.at >= a.equity_at THEN
            adjusted := CASE WHEN r.equity >= 0 AND (since IS NULL OR r.at >= since)
                             THEN r.equity - a.equity_flow - r.cash_flow END;
            UPDATE guardwire.accounts AS o
            SET equity = r.equity, balance = r.balance, currency = r.currency, equity_at = r.at,
                equity_flow = o.equity_flow + r.cash_flow, peak_adjusted = greatest(o.peak_adjusted, adjusted)
            WHERE o.user_id = r.user_id;
        ELSIF r.equity >= 0 AND (since IS NULL OR r.at >= since) THEN
            adjusted := r.equity - a.equity_flow + guardwire.flows_after(r.user_id, r.at, batch, r.nth);
            UPDATE guardwire.accounts AS o SET peak_adjusted = greatest(o.peak_adjusted, adjusted)
            WHERE o.user_id = r.user_id;
        END IF;
        SELECT o.* INTO a FROM guardwire.accounts AS o WHERE o.user_id = r.user_id;
        PERFORM guardwire.follow_currency(r.user_id);
        PERFORM guardwire.judge_drawdown(r.user_id, r.id::text, least(a.equity_at, r.arrived_at), r.arrived_at, r.revision,
                                         r.ordinal);
    END LOOP;
END
$$;
