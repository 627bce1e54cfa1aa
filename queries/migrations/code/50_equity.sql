-- The equity rules. Each row is added to a fold when it is applied: the equity that is shown, the peak, and what is in doubt. The
-- same functions fold rows of the inbox and rows of history.
--
-- A row is older (it counts at an earlier time than the equity that is shown), implausible, or accepted. Only an accepted row
-- changes what is shown.

-- Seconds after which an implausible row is confirmed when no plausible one came.
CREATE OR REPLACE FUNCTION guardwire.doubt_seconds() RETURNS interval LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '60 seconds'::interval;

-- ---------------------------------------------------------------- the peak

-- A peak by a row.
CREATE OR REPLACE FUNCTION guardwire.peak_of(r guardwire.reading) RETURNS guardwire.peak LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ROW((r).equity, 1, (r).at, (r).arrived_at, (r).row_id)::guardwire.peak;

-- Whether a peak is there and another is none, or lower.
CREATE OR REPLACE FUNCTION guardwire.is_higher(one guardwire.peak, other guardwire.peak) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (one).value IS NOT NULL
       AND ((other).value IS NULL OR (one).value * (other).divisor > (other).value * (one).divisor);

CREATE OR REPLACE FUNCTION guardwire.higher_peak(one guardwire.peak, other guardwire.peak) RETURNS guardwire.peak
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN guardwire.is_higher(other, one) THEN other ELSE one END;

-- A peak after a cash flow that leaves every percentage as it was; null where equity before or after the flow is not positive,
-- because then no percentage means anything. Fractions keep every digit until they get long.
CREATE OR REPLACE FUNCTION guardwire.scale_peak(p guardwire.peak, after_flow numeric, before_flow numeric) RETURNS guardwire.peak
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF (after_flow > 0 AND before_flow > 0) IS NOT TRUE OR p.value IS NULL THEN
        RETURN NULL;
    END IF;
    p.value := p.value * after_flow;
    p.divisor := p.divisor * before_flow;
    IF length(p.divisor::text) > 200 THEN
        p.value := round(p.value * 1.000000000000000000000000000000 / p.divisor, 30);
        p.divisor := 1;
    END IF;
    RETURN p;
END
$$;

-- A peak as people see it: the row's equity, or rounded where a flow scaled it.
CREATE OR REPLACE FUNCTION guardwire.shown_peak(p guardwire.peak) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN (p).divisor = 1 AND scale((p).value) <= 15 THEN (p).value ELSE round((p).value / (p).divisor, 2) END;

-- ---------------------------------------------------------------- one row

DROP TYPE IF EXISTS guardwire.equity_fold CASCADE;
CREATE TYPE guardwire.equity_fold AS (
    a guardwire.accounts, flows guardwire.equity_flows[], is_same boolean, signs guardwire.clock_signs
);
COMMENT ON TYPE guardwire.equity_fold IS 'What an account''s equity rows come to so far; of the account only the columns about equity and drawdown count';
COMMENT ON COLUMN guardwire.equity_fold.a IS 'The account';
COMMENT ON COLUMN guardwire.equity_fold.flows IS 'Its cash flows';
COMMENT ON COLUMN guardwire.equity_fold.is_same IS 'The last row confirmed the one before it and is still to be folded itself';
COMMENT ON COLUMN guardwire.equity_fold.signs IS 'What the rows of this fold say of the platform''s clock';

-- A row of equity_snapshots as a reading.
CREATE OR REPLACE FUNCTION guardwire.read_reading(r guardwire.equity_row) RETURNS guardwire.reading LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ROW((r).id, (r).equity, (r).balance, (r).currency, (r).cash_flow, (r).at, (r).arrived_at, (r).revision, (r).ordinal,
           (r).inserted, NULL)::guardwire.reading;

-- Why a row is implausible, or null: equity of 0 or less, and equity beyond five times or under a fifth of the last that was
-- accepted, with the cash flows since. `is_dead` says that it is a 0 as a terminal without its broker reports it.
CREATE OR REPLACE FUNCTION guardwire.weigh_reading(a guardwire.accounts, r guardwire.reading, is_dead boolean) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    base numeric := a.equity + coalesce(a.doubted_flow, 0) + r.cash_flow;
BEGIN
    IF is_dead THEN
        RETURN 'dead';
    ELSIF r.equity <= 0 THEN
        RETURN CASE WHEN (a.equity <= 0) IS NOT TRUE THEN 'low' END;
    ELSIF r.currency <> a.currency OR (a.equity > 0 AND base > 0) IS NOT TRUE THEN
        RETURN NULL;
    END IF;
    RETURN CASE WHEN r.equity * 5 < base THEN 'low' WHEN r.equity > base * 5 THEN 'high' END;
END
$$;

-- Since when equity_overdue_seconds run for a row: since its arrival, or since its own time where it was old when it arrived. A row
-- is not old whose platform's clock is that much behind: by the syncs, or by the row before.
CREATE OR REPLACE FUNCTION guardwire.fresh_since(a guardwire.accounts, r guardwire.reading, overdue_seconds integer)
RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN (r).arrived_at - (r).at < make_interval(secs => overdue_seconds) THEN (r).arrived_at
            WHEN (r).arrived_at - (r).at > '26 hours'::interval THEN (r).at
            WHEN abs(extract(epoch FROM (r).arrived_at - (r).at) - (a).clock_offset_seconds) <= 30 THEN (r).arrived_at
            WHEN abs(extract(epoch FROM ((r).arrived_at - (r).at) - ((a).equity_arrived_at - (a).equity_at))) <= 5 THEN (r).arrived_at
            ELSE (r).at END;

-- Makes a reading the account's equity. Cash flows scale the peak; another currency makes it begin anew, because amounts of two
-- currencies are never compared. Before peak_since each accepted row is the equity that stands, with which the peak will begin.
CREATE OR REPLACE FUNCTION guardwire.accept_reading(f guardwire.equity_fold, r guardwire.reading, l guardwire.limits)
RETURNS guardwire.equity_fold LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    a guardwire.accounts := f.a;
    before_flow numeric := r.equity - r.cash_flow;
    begins_anew boolean := coalesce(r.currency <> a.currency, false);
BEGIN
    IF begins_anew THEN
        a.balance := NULL;
    END IF;
    IF r.cash_flow <> 0 OR begins_anew THEN
        IF begins_anew OR NOT (r.equity > 0 AND before_flow > 0) THEN
            before_flow := 0;
        END IF;
        a.peak := guardwire.scale_peak(a.peak, r.equity, before_flow);
        a.top := guardwire.scale_peak(a.top, r.equity, before_flow);
        f.flows := f.flows || ROW(a.user_id, r.row_id, r.at, r.equity, before_flow)::guardwire.equity_flows;
    END IF;
    a.equity_fresh_at := guardwire.fresh_since(a, r, l.equity_overdue_seconds);
    a.equity := r.equity;
    a.balance := coalesce(r.balance, a.balance);
    a.currency := coalesce(r.currency, a.currency);
    a.equity_at := r.at;
    a.equity_arrived_at := r.arrived_at;
    a.equity_row := r.row_id;
    a.older_equity := NULL;
    a.clock_doubted_at := CASE WHEN r.at < a.error_at THEN a.clock_doubted_at END;
    a.doubted := NULL;
    a.doubted_flow := NULL;
    f.signs.latest := guardwire.later_sign((f.signs).latest, ROW(r.at, r.arrived_at, r.revision, r.ordinal)::guardwire.clock_sign);
    IF r.equity > 0 THEN
        a.peak := CASE WHEN r.arrived_at < l.peak_since THEN guardwire.peak_of(r)
                       ELSE guardwire.higher_peak(a.peak, guardwire.peak_of(r)) END;
        IF l.peak_since IS NOT NULL THEN
            a.top := guardwire.higher_peak(a.top, guardwire.peak_of(r));
        END IF;
    END IF;
    f.a := a;
    RETURN f;
END
$$;

-- Adds a row that counts at an earlier time than the equity that is shown. It may have been the highest; its cash flow scales a
-- peak that was before it. Rows that are no positive amount of the account's currency, or that would be implausible, count for
-- nothing.
CREATE OR REPLACE FUNCTION guardwire.add_older(f guardwire.equity_fold, r guardwire.reading, l guardwire.limits)
RETURNS guardwire.equity_fold LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    a guardwire.accounts := f.a;
    before_flow numeric := CASE WHEN r.equity > 0 AND r.equity > r.cash_flow THEN r.equity - r.cash_flow ELSE 0 END;
    value guardwire.peak;
BEGIN
    IF r.currency <> a.currency THEN
        RETURN f;
    END IF;
    value := guardwire.value_of_older(f, r);
    IF r.cash_flow <> 0 THEN
        a.peak := CASE WHEN (a.peak).at < r.at THEN guardwire.scale_peak(a.peak, r.equity, before_flow) ELSE a.peak END;
        a.top := CASE WHEN (a.top).at < r.at THEN guardwire.scale_peak(a.top, r.equity, before_flow) ELSE a.top END;
        f.flows := f.flows || ROW(a.user_id, r.row_id, r.at, r.equity, before_flow)::guardwire.equity_flows;
    END IF;
    IF value.value <= 5 * a.equity * value.divisor THEN
        a.peak := CASE WHEN r.arrived_at < l.peak_since THEN a.peak ELSE guardwire.higher_peak(a.peak, value) END;
        a.top := CASE WHEN l.peak_since IS NOT NULL THEN guardwire.higher_peak(a.top, value) END;
    END IF;
    IF (a.peak).value IS NULL AND a.equity > 0 THEN
        a.peak := ROW(a.equity, 1, a.equity_at, a.equity_arrived_at, a.equity_row)::guardwire.peak;
    END IF;
    f.a := a;
    RETURN f;
END
$$;

-- The value of an older row in today's money: scaled by the cash flows after it; null where the peak began anew since.
CREATE OR REPLACE FUNCTION guardwire.value_of_older(f guardwire.equity_fold, r guardwire.reading) RETURNS guardwire.peak
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    value guardwire.peak := CASE WHEN r.equity > 0 THEN guardwire.peak_of(r) END;
    flow guardwire.equity_flows;
BEGIN
    FOR flow IN SELECT u.* FROM unnest(f.flows) AS u WHERE u.at > r.at LOOP
        value := guardwire.scale_peak(value, flow.after_flow, flow.before_flow);
    END LOOP;
    RETURN value;
END
$$;

-- Notes a reading that is implausible. A 0 of a terminal without its broker says nothing: it does not take the place of another.
CREATE OR REPLACE FUNCTION guardwire.doubt_reading(a guardwire.accounts, r guardwire.reading) RETURNS guardwire.accounts
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    a.doubted_flow := coalesce(a.doubted_flow, 0) + r.cash_flow;
    IF (a.doubted).row_id IS NULL OR r.side <> 'dead' THEN
        a.doubted := r;
    END IF;
    RETURN a;
END
$$;

-- The doubted row with all cash flows since the last accepted one, to be accepted.
CREATE OR REPLACE FUNCTION guardwire.doubted_reading(a guardwire.accounts) RETURNS guardwire.reading LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    r guardwire.reading := a.doubted;
BEGIN
    r.cash_flow := coalesce(a.doubted_flow, 0);
    RETURN r;
END
$$;

-- Whether time has confirmed a doubted row.
CREATE OR REPLACE FUNCTION guardwire.is_confirmed(a guardwire.accounts, now_at timestamptz) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(((a).doubted).side <> 'dead' AND ((a).doubted).arrived_at + guardwire.doubt_seconds() <= now_at, false);

-- ---------------------------------------------------------------- rows of history

-- An account's equity rows as they were applied, in the order of their first arrival; those whose arrival nobody recorded come
-- first, by time. They are the platform's rows as they are now, less the changes that wait.
CREATE OR REPLACE FUNCTION guardwire.equity_history(of_account uuid, batch guardwire.inbox[], after_nth bigint)
RETURNS SETOF guardwire.equity_row LANGUAGE sql STABLE AS $$
    WITH waiting AS MATERIALIZED (
        SELECT w.* FROM guardwire.waiting_rows(of_account, 'e', batch, after_nth) AS w
    ), snapshots AS (
        SELECT e.id, guardwire.parse_copy('e', guardwire.copy_of('e', e)) AS snapshot FROM public.equity_snapshots AS e
        WHERE e.user_id = of_account AND NOT EXISTS (SELECT FROM waiting AS w WHERE w.id = e.id)
        UNION ALL
        SELECT w.id, w.old_row FROM waiting AS w WHERE guardwire.read_user(w.old_row ->> 'user_id') = of_account
    )
    SELECT r.*
    FROM snapshots AS e
    LEFT JOIN (SELECT DISTINCT ON (s.log_id) s.log_id, s.revision, s.ordinal, s.arrived_at FROM guardwire.arrivals AS s
               WHERE s.user_id = of_account AND s.source = 'e'
               ORDER BY s.log_id, s.revision) AS a ON a.log_id = e.id
    CROSS JOIN LATERAL guardwire.read_equity(
        e.snapshot,
        coalesce(a.arrived_at, to_timestamp(a.revision / 1000000.0),
                 least(guardwire.read_time(e.snapshot ->> 'created_at'), statement_timestamp()), statement_timestamp()),
        coalesce(a.revision, 0), coalesce(a.ordinal, 0), true, NULL, false) AS r
    WHERE r.equity IS NOT NULL
    ORDER BY coalesce(a.revision, 0), a.ordinal, r.at, r.id
$$;

-- Whether the log has a sync with a price of an account shortly before a moment. Two statements, because PostgreSQL checks the types
-- of all parts of one, and the platform's column of users is a uuid or a text.
CREATE OR REPLACE FUNCTION guardwire.was_synced(of_account uuid, moment timestamptz, seconds integer) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF guardwire.log_users_are_uuids() THEN
        RETURN EXISTS (
            SELECT FROM public.reconciliation_logs AS l
            WHERE l.user_id = of_account AND l.created_at BETWEEN moment - interval '1 day' AND moment + interval '1 day'
              AND guardwire.is_priced_sync(to_jsonb(l), moment, seconds));
    END IF;
    RETURN EXISTS (
        SELECT FROM public.reconciliation_logs AS l
        WHERE l.user_id IN (SELECT u.written FROM guardwire.log_users AS u WHERE u.user_id = of_account
                            UNION ALL SELECT f.form FROM (VALUES (of_account::text), (replace(of_account::text, '-', ''))) AS f (form)
                            UNION ALL SELECT upper(f.form) FROM (VALUES (of_account::text), (replace(of_account::text, '-', ''))) AS f (form))
          AND l.created_at BETWEEN moment - interval '1 day' AND moment + interval '1 day'
          AND guardwire.is_priced_sync(to_jsonb(l), moment, seconds));
END
$$;

-- Whether a row of the log is a sync with a price, at most so many seconds before a moment.
CREATE OR REPLACE FUNCTION guardwire.is_priced_sync(log jsonb, moment timestamptz, seconds integer) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT r.kind = 'open' AND r.is_sync AND NOT r.failed AND r.current_price <> 0
           AND guardwire.read_time(log ->> 'created_at') BETWEEN moment - make_interval(secs => seconds) AND moment
    FROM guardwire.read_log(log, moment, 0, 0, true) AS r
$$;

-- Folds an account's equity rows anew, by the limits of now.
CREATE OR REPLACE FUNCTION guardwire.fold_history(of_account uuid, batch guardwire.inbox[], after_nth bigint)
RETURNS guardwire.equity_fold LANGUAGE plpgsql STABLE AS $$
DECLARE
    l guardwire.limits := guardwire.limits_of(of_account);
    f guardwire.equity_fold;
    a guardwire.accounts;
    e guardwire.equity_row;
    r guardwire.reading;
BEGIN
    SELECT o.user_id, o.clock_stepped_at, o.clock_offset_seconds INTO a.user_id, a.clock_stepped_at, a.clock_offset_seconds
    FROM guardwire.accounts AS o WHERE o.user_id = of_account;
    f.a := a;
    f.flows := '{}';
    FOR e IN SELECT h.* FROM guardwire.equity_history(of_account, batch, after_nth) AS h LOOP
        f := guardwire.confirm_by_time(f, e.arrived_at, l);
        r := guardwire.read_reading(e);
        r.at := guardwire.effective_time(e.created_at, e.arrived_at, (f.a).clock_stepped_at);
        r.side := CASE WHEN (r.at < (f.a).equity_at) IS NOT TRUE THEN guardwire.weigh_reading(
            f.a, r, r.equity = 0 AND (((f.a).doubted).side = 'dead' OR coalesce(r.balance, (f.a).balance) = 0
                                      OR guardwire.was_synced(of_account, r.at, l.sync_overdue_seconds))) END;
        f := guardwire.fold_reading(f, r, e.created_at, l);
        IF f.is_same THEN
            r.side := NULL;
            r.at := guardwire.effective_time(e.created_at, e.arrived_at, (f.a).clock_stepped_at);
            f := guardwire.fold_reading(f, r, e.created_at, l);
        END IF;
    END LOOP;
    RETURN f;
END
$$;

-- Accepts the doubted row where time has confirmed it, which counts as an arrival of that moment.
CREATE OR REPLACE FUNCTION guardwire.confirm_by_time(f guardwire.equity_fold, now_at timestamptz, l guardwire.limits)
RETURNS guardwire.equity_fold LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    r guardwire.reading;
BEGIN
    IF guardwire.is_confirmed(f.a, now_at) THEN
        r := guardwire.doubted_reading(f.a);
        IF r.revision > 0 THEN
            r.revision := (extract(epoch FROM r.arrived_at + guardwire.doubt_seconds()) * 1000000)::bigint;
        END IF;
        f := guardwire.accept_reading(f, r, l);
    END IF;
    RETURN f;
END
$$;

-- Adds one row that was weighed. A second implausible row on the same side confirms the first; then it is to be added once more, as
-- plausible. The third older row that agrees shows that the platform's clock went back; it counts at its arrival.
CREATE OR REPLACE FUNCTION guardwire.fold_reading(
    f guardwire.equity_fold, r guardwire.reading, created_at timestamptz, l guardwire.limits
) RETURNS guardwire.equity_fold LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    a guardwire.accounts := f.a;
BEGIN
    f.is_same := false;
    IF r.at < a.equity_at THEN
        a.older_equity := guardwire.note_older(a.older_equity, created_at, r.arrived_at);
        IF guardwire.has_stepped(a.older_equity) IS NOT TRUE THEN
            IF guardwire.is_doubtful(created_at, r.arrived_at) THEN
                a.clock_doubted_at := coalesce(a.clock_doubted_at, r.arrived_at);
                f.signs.ignored := ROW(r.at, r.arrived_at, r.revision, r.ordinal)::guardwire.clock_sign;
            END IF;
            f.a := a;
            RETURN guardwire.add_older(f, r, l);
        END IF;
        a.clock_stepped_at := least(a.clock_stepped_at, r.arrived_at);
        a.clock_doubted_at := NULL;
        r.at := r.arrived_at;
        f.a := a;
        r.side := guardwire.weigh_reading(a, r, r.equity = 0);
    END IF;
    IF r.side IS NULL THEN
        r.cash_flow := r.cash_flow + coalesce(a.doubted_flow, 0);
        RETURN guardwire.accept_reading(f, r, l);
    ELSIF r.side = (a.doubted).side AND r.side <> 'dead' THEN
        f := guardwire.accept_reading(f, guardwire.doubted_reading(a), l);
        f.signs.latest.revision := r.revision;
        f.signs.latest.ordinal := r.ordinal;
        f.is_same := true;
        RETURN f;
    END IF;
    f.a := guardwire.doubt_reading(a, r);
    RETURN f;
END
$$;

-- ---------------------------------------------------------------- rows of the inbox

-- Whether an update in place changed what an equity row says about money; its balance alone is not folded.
CREATE OR REPLACE FUNCTION guardwire.is_correction(old_row jsonb, new_row jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (old_row -> 'equity', old_row -> 'cash_flow', old_row -> 'currency', old_row -> 'created_at', old_row -> 'user_id')
       IS DISTINCT FROM
       (new_row -> 'equity', new_row -> 'cash_flow', new_row -> 'currency', new_row -> 'created_at', new_row -> 'user_id');

CREATE OR REPLACE FUNCTION guardwire.load_fold(of_account uuid) RETURNS guardwire.equity_fold LANGUAGE plpgsql STABLE AS $$
DECLARE
    f guardwire.equity_fold;
BEGIN
    SELECT o INTO f.a FROM guardwire.accounts AS o WHERE o.user_id = of_account;
    f.flows := ARRAY(SELECT e FROM guardwire.equity_flows AS e WHERE e.user_id = of_account);
    RETURN f;
END
$$;

-- Writes a fold back. The account is looked at again when its equity would be overdue, or its doubted row confirmed.
CREATE OR REPLACE FUNCTION guardwire.store_fold(f guardwire.equity_fold, l guardwire.limits, now_at timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    a guardwire.accounts := f.a;
    overdue_at timestamptz := a.equity_fresh_at + make_interval(secs => l.equity_overdue_seconds);
    confirmed_at timestamptz := CASE WHEN (a.doubted).side <> 'dead' THEN (a.doubted).arrived_at + guardwire.doubt_seconds() END;
BEGIN
    a.equity_overdue := coalesce(overdue_at <= now_at, false);
    a.equity_due_at := least(a.equity_due_at, confirmed_at, CASE WHEN NOT a.equity_overdue THEN overdue_at END);
    UPDATE guardwire.accounts AS o
    SET equity = a.equity, balance = a.balance, currency = a.currency, equity_at = a.equity_at, equity_row = a.equity_row,
        equity_arrived_at = a.equity_arrived_at, equity_fresh_at = a.equity_fresh_at, equity_due_at = a.equity_due_at,
        equity_overdue = a.equity_overdue, older_equity = a.older_equity, clock_doubted_at = a.clock_doubted_at,
        clock_stepped_at = a.clock_stepped_at, doubted = a.doubted, doubted_flow = a.doubted_flow,
        peak = a.peak, top = a.top, peak_since = l.peak_since, peak_equity = guardwire.shown_peak(a.peak),
        drawdown_pct = a.drawdown_pct, drawdown_level = a.drawdown_level, liquidation_at = a.liquidation_at
    WHERE o.user_id = a.user_id;
    IF cardinality(f.flows) > 0 THEN
        INSERT INTO guardwire.equity_flows AS e SELECT u.* FROM unnest(f.flows) AS u
        ON CONFLICT (user_id, row_id) DO UPDATE
            SET at = excluded.at, after_flow = excluded.after_flow, before_flow = excluded.before_flow
            WHERE (e.at, e.after_flow, e.before_flow) IS DISTINCT FROM (excluded.at, excluded.after_flow, excluded.before_flow);
    END IF;
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

-- Whether a 0 is what a terminal without its broker reports: beside a balance of 0, or while open positions are still synced with
-- their prices. After one such 0 the next ones are the same.
CREATE OR REPLACE FUNCTION guardwire.is_dead_reading(a guardwire.accounts, r guardwire.reading) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN r.equity = 0 AND (
        coalesce((a.doubted).side = 'dead', false) OR coalesce(coalesce(r.balance, a.balance) = 0, false)
        OR (a.source = 'live' AND EXISTS (SELECT FROM guardwire.positions AS p
                                          WHERE p.user_id = a.user_id AND p.is_open AND p.current_price <> 0)));
END
$$;

-- An event about an account's equity that Guardwire itself found.
CREATE OR REPLACE FUNCTION guardwire.add_notice(
    account uuid, cause text, at timestamptz, revision bigint, ordinal integer, notice text, detail text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM guardwire.add_events(ARRAY[ROW(account, cause, 'drawdown_alert', at, revision, ordinal, NULL, NULL, NULL, NULL, NULL,
                                           notice, detail)::guardwire.events]);
END
$$;

-- An amount for people.
CREATE OR REPLACE FUNCTION guardwire.describe_amount(amount numeric, currency text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN concat_ws(' ', round(amount, 2), currency);

-- Applies equity rows of a batch in the order of their arrival; the cost of an append does not grow with the history. Rows are
-- sorted by account, and rows of an account that follow each other are folded before the account is written.
CREATE OR REPLACE FUNCTION guardwire.apply_equity(rows guardwire.equity_row[], batch guardwire.inbox[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    r guardwire.equity_row;
    l guardwire.limits;
    f guardwire.equity_fold;
    arrived_at timestamptz;
BEGIN
    FOREACH r IN ARRAY rows LOOP
        IF (f.a).user_id IS NOT NULL AND (NOT r.inserted OR (f.a).user_id <> r.user_id) THEN
            PERFORM guardwire.store_fold(f, l, arrived_at);
            f := NULL;
        END IF;
        IF r.equity IS NULL THEN
            UPDATE guardwire.accounts AS o SET ignored_rows = o.ignored_rows + 1 WHERE o.user_id = r.user_id;
            INSERT INTO guardwire.ignored_rows (source, row_key, user_id, reason)
            VALUES ('equity', r.id::text, r.user_id, 'equity');
        END IF;
        IF r.corrects THEN
            PERFORM guardwire.correct_equity(r, batch);
        ELSIF NOT r.inserted THEN
            UPDATE guardwire.accounts AS o SET balance = coalesce(r.balance, o.balance)
            WHERE o.user_id = r.user_id AND o.equity_row = r.id;
        ELSIF r.equity IS NOT NULL THEN
            IF (f.a).user_id IS NULL THEN
                l := guardwire.limits_of(r.user_id);
                f := guardwire.load_fold(r.user_id);
            END IF;
            f := guardwire.add_equity(f, r, l);
            arrived_at := r.arrived_at;
        END IF;
    END LOOP;
    IF (f.a).user_id IS NOT NULL THEN
        PERFORM guardwire.store_fold(f, l, arrived_at);
    END IF;
    PERFORM guardwire.follow_currency(u.user_id) FROM (SELECT DISTINCT o.user_id FROM unnest(rows) AS o) AS u;
END
$$;

-- Adds one equity row that is new, with what follows from it; the caller writes the account.
CREATE OR REPLACE FUNCTION guardwire.add_equity(f guardwire.equity_fold, e guardwire.equity_row, l guardwire.limits)
RETURNS guardwire.equity_fold LANGUAGE plpgsql AS $$
DECLARE
    r guardwire.reading := guardwire.read_reading(e);
    before guardwire.accounts;
BEGIN
    IF guardwire.is_confirmed(f.a, r.arrived_at) THEN
        f := guardwire.confirm_reading(f, l);
    END IF;
    before := f.a;
    r.at := guardwire.effective_time(e.created_at, r.arrived_at, before.clock_stepped_at);
    r.side := CASE WHEN (r.at < before.equity_at) IS NOT TRUE
                   THEN guardwire.weigh_reading(before, r, guardwire.is_dead_reading(before, r)) END;
    f := guardwire.fold_reading(f, r, e.created_at, l);
    IF f.is_same THEN
        f.a := guardwire.judge_drawdown(f.a, l, (f.a).equity_row::text, (f.a).equity_at, (f.a).equity_arrived_at,
                                        (before.doubted).revision, (before.doubted).ordinal);
        r.side := NULL;
        r.at := guardwire.effective_time(e.created_at, r.arrived_at, (f.a).clock_stepped_at);
        f := guardwire.fold_reading(f, r, e.created_at, l);
    END IF;
    r.at := guardwire.effective_time(e.created_at, r.arrived_at, (f.a).clock_stepped_at);
    IF (f.a).equity_row = r.row_id THEN
        f.a := guardwire.judge_drawdown(f.a, l, r.row_id::text, (f.a).equity_at, r.arrived_at, r.revision, r.ordinal);
    ELSIF r.at < (f.a).equity_at THEN
        f.a := guardwire.judge_older(f, before, r, l);
    END IF;
    PERFORM guardwire.note_equity(before, f.a, r);
    RETURN f;
END
$$;

-- Judges an account after a row that is older than its equity: the peak may have moved. A critical reading among rows that a clock
-- which went back would explain is latched at its arrival, because it may be the newest; only an accepted row ends that.
CREATE OR REPLACE FUNCTION guardwire.judge_older(
    f guardwire.equity_fold, before guardwire.accounts, r guardwire.reading, l guardwire.limits
)
RETURNS guardwire.accounts LANGUAGE plpgsql AS $$
DECLARE
    a guardwire.accounts := f.a;
    value guardwire.peak := guardwire.value_of_older(f, r);
    equity numeric := value.value / value.divisor;
BEGIN
    IF before.drawdown_level = 'critical' AND guardwire.drawdown_level(before.peak, before.equity, l) <> 'critical'
       AND a.equity_row = before.equity_row THEN
        RETURN a;
    END IF;
    a := guardwire.judge_drawdown(a, l, r.row_id::text, least(a.equity_at, r.arrived_at), r.arrived_at, r.revision, r.ordinal);
    IF a.drawdown_level IS DISTINCT FROM 'critical' AND guardwire.is_doubtful(r.at, r.arrived_at)
       AND equity * 5 >= a.equity AND equity <= 5 * a.equity AND (r.currency <> a.currency) IS NOT TRUE
       AND guardwire.drawdown_level(a.peak, equity, l) = 'critical' THEN
        a := guardwire.set_level(a, l, 'critical', guardwire.drawdown_pct(a.peak, equity), r.row_id::text, r.arrived_at, r.arrived_at,
                                 r.revision, r.ordinal);
    END IF;
    RETURN a;
END
$$;

-- Accepts the doubted row, with what follows from it, at that row's time.
CREATE OR REPLACE FUNCTION guardwire.confirm_reading(f guardwire.equity_fold, l guardwire.limits) RETURNS guardwire.equity_fold
LANGUAGE plpgsql AS $$
DECLARE
    r guardwire.reading := guardwire.doubted_reading(f.a);
BEGIN
    f := guardwire.accept_reading(f, r, l);
    f.a := guardwire.judge_drawdown(f.a, l, r.row_id::text, r.at, r.arrived_at, r.revision, r.ordinal);
    RETURN f;
END
$$;

-- The events that a row brings about beside those of levels.
CREATE OR REPLACE FUNCTION guardwire.note_equity(before guardwire.accounts, a guardwire.accounts, r guardwire.reading) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF a.equity_row = r.row_id AND a.currency <> before.currency THEN
        PERFORM guardwire.add_notice(
            a.user_id, concat('currency-', r.row_id), r.at, r.revision, r.ordinal, 'currency_changed',
            concat('the currency was ', before.currency, ' and is ', a.currency, ': the peak begins anew'));
    ELSIF (a.doubted).row_id = r.row_id THEN
        PERFORM guardwire.add_notice(
            a.user_id, r.row_id::text, r.at, r.revision, r.ordinal, 'equity_implausible',
            concat('equity of ', guardwire.describe_amount(r.equity, coalesce(r.currency, a.currency)), ' was read',
                   ' after ' || guardwire.describe_amount(a.equity, NULL), ' and does not count yet'));
    END IF;
END
$$;

-- A peak whose row is gone from the platform's table, and is not the one that is corrected.
CREATE OR REPLACE FUNCTION guardwire.kept_peak(p guardwire.peak, corrected uuid) RETURNS guardwire.peak LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF p.row_id = corrected OR EXISTS (SELECT FROM public.equity_snapshots AS e WHERE e.id = p.row_id) THEN
        RETURN NULL;
    END IF;
    RETURN p;
END
$$;

-- Folds the account's equity rows anew after one of them was changed in place. A peak whose row is gone stays.
CREATE OR REPLACE FUNCTION guardwire.correct_equity(r guardwire.equity_row, batch guardwire.inbox[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    l guardwire.limits := guardwire.limits_of(r.user_id);
    held guardwire.equity_fold := guardwire.load_fold(r.user_id);
    f guardwire.equity_fold := guardwire.fold_history(r.user_id, batch, r.nth);
    a guardwire.accounts := held.a;
    cause text := guardwire.cause_of(r.id::text, false, r.revision, r.ordinal);
BEGIN
    f := guardwire.confirm_by_time(f, r.arrived_at, l);
    IF a.equity_row IS NULL OR (f.a).equity_at >= a.equity_at OR a.equity_row = r.id
       OR EXISTS (SELECT FROM public.equity_snapshots AS e WHERE e.id = a.equity_row) THEN
        a := guardwire.with_reading(a, f.a);
    END IF;
    IF (f.a).currency IS DISTINCT FROM (held.a).currency THEN
        a.peak := (f.a).peak;
        a.top := (f.a).top;
    ELSE
        a.peak := guardwire.higher_peak((f.a).peak, guardwire.kept_peak(a.peak, r.id));
        a.top := guardwire.higher_peak((f.a).top, guardwire.kept_peak(a.top, r.id));
    END IF;
    f.a := guardwire.judge_drawdown(a, l, cause, least(coalesce(a.equity_at, r.arrived_at), r.arrived_at), r.arrived_at, r.revision,
                                    r.ordinal);
    PERFORM guardwire.store_fold(f, l, r.arrived_at);
    PERFORM guardwire.note_peak(held.a, f.a, concat('peak-', cause), r.arrived_at, r.revision, r.ordinal);
END
$$;

-- An account with the equity of another fold.
CREATE OR REPLACE FUNCTION guardwire.with_reading(a guardwire.accounts, other guardwire.accounts) RETURNS guardwire.accounts
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    a.equity := other.equity;
    a.balance := other.balance;
    a.currency := other.currency;
    a.equity_at := other.equity_at;
    a.equity_row := other.equity_row;
    a.equity_arrived_at := other.equity_arrived_at;
    a.equity_fresh_at := other.equity_fresh_at;
    a.older_equity := other.older_equity;
    a.doubted := other.doubted;
    a.doubted_flow := other.doubted_flow;
    RETURN a;
END
$$;

-- Says that a correction or a rebuild moved the peak.
CREATE OR REPLACE FUNCTION guardwire.note_peak(
    before guardwire.accounts, a guardwire.accounts, cause text, at timestamptz, revision bigint, ordinal integer
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF (before.peak).value IS NOT NULL
       AND (guardwire.shown_peak(before.peak), before.currency) IS DISTINCT FROM (guardwire.shown_peak(a.peak), a.currency) THEN
        PERFORM guardwire.add_notice(
            a.user_id, cause, at, revision, ordinal, 'peak_corrected',
            concat('the peak was ', guardwire.describe_amount(guardwire.shown_peak(before.peak), before.currency), ' and is ',
                   coalesce(guardwire.describe_amount(guardwire.shown_peak(a.peak), a.currency), 'unknown')));
    END IF;
END
$$;

-- The peak after peak_since moved. It begins with the equity that stood at that moment, so it is that equity where no row has
-- arrived since; else the rows on record are folded anew, and what rows that are gone came to stays.
CREATE OR REPLACE FUNCTION guardwire.restart_peak(a guardwire.accounts, l guardwire.limits, batch guardwire.inbox[], after_nth bigint)
RETURNS guardwire.accounts LANGUAGE plpgsql AS $$
DECLARE
    highest guardwire.peak := guardwire.higher_peak(a.peak, a.top);
    kept guardwire.peak := guardwire.kept_peak(highest, NULL);
    f guardwire.equity_fold;
BEGIN
    IF l.peak_since IS NULL THEN
        a.peak := highest;
        a.top := NULL;
        RETURN a;
    ELSIF (l.peak_since <= greatest(a.equity_arrived_at, (a.peak).arrived_at, (a.top).arrived_at)) IS NOT TRUE THEN
        a.peak := CASE WHEN a.equity > 0
                       THEN ROW(a.equity, 1, a.equity_at, a.equity_arrived_at, a.equity_row)::guardwire.peak END;
    ELSE
        f := guardwire.fold_history(a.user_id, batch, after_nth);
        a.peak := guardwire.higher_peak((f.a).peak, CASE WHEN (kept).arrived_at >= l.peak_since THEN kept END);
    END IF;
    a.top := guardwire.higher_peak(highest, a.peak);
    RETURN a;
END
$$;

-- ---------------------------------------------------------------- time

-- Whether time has changed what is known of an account's equity: a doubted row is confirmed, or the equity is overdue.
CREATE OR REPLACE FUNCTION guardwire.has_aged(a guardwire.accounts, l guardwire.limits, now_at timestamptz) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT guardwire.is_confirmed(a, now_at)
           OR (NOT a.equity_overdue AND coalesce(a.equity_fresh_at + make_interval(secs => l.equity_overdue_seconds) <= now_at, false))
$$;

-- Confirms a doubted row that nothing contradicted in time, and finds out whether the equity is overdue. The account is looked at
-- again when either will be so.
CREATE OR REPLACE FUNCTION guardwire.age_equity(of_account uuid, now_at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    l guardwire.limits := guardwire.limits_of(of_account);
    f guardwire.equity_fold := guardwire.load_fold(of_account);
    a guardwire.accounts;
BEGIN
    IF guardwire.is_confirmed(f.a, now_at) THEN
        f := guardwire.confirm_reading(f, l);
    END IF;
    a := f.a;
    a.equity_due_at := NULL;
    -- The database's clock may have been ahead when the row arrived.
    a.equity_fresh_at := least(a.equity_fresh_at, now_at);
    f.a := a;
    PERFORM guardwire.store_fold(f, l, now_at);
    PERFORM guardwire.follow_currency(of_account);
END
$$;
