-- The guard rules: market alerts, drawdown and the breaches that both raise.

-- An account's limits; the defaults where it has set none.
CREATE FUNCTION guardwire.limits_of(account uuid) RETURNS public.guard_limits LANGUAGE plpgsql STABLE AS $$
DECLARE
    found_limits public.guard_limits;
BEGIN
    SELECT l.* INTO found_limits FROM public.guard_limits AS l WHERE l.user_id = account;
    IF NOT FOUND THEN
        found_limits.user_id := account;
        found_limits.drawdown_warning_pct := 15;
        found_limits.drawdown_critical_pct := 20;
        found_limits.minimum_equity := 100;
        found_limits.countdown_seconds := 60;
        found_limits.gap_warning_pct := 5;
        found_limits.gap_critical_pct := 10;
        found_limits.spread_warning_pct := 0.5;
        found_limits.spread_critical_pct := 1;
        found_limits.alert_window_seconds := 3600;
        found_limits.sync_overdue_seconds := 60;
    END IF;
    RETURN found_limits;
END
$$;

-- Latches what became critical: the newest 20 and all younger than an hour stay, never more than 200.
CREATE FUNCTION guardwire.raise_breach(
    account uuid, id text, kind text, at timestamptz, observed numeric, symbol text, condition_type text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO guardwire.breaches AS b (user_id, breach_id, kind, symbol, condition_type, raised_at, observed_pct)
    VALUES (account, id, kind, symbol, condition_type, at, observed)
    ON CONFLICT (user_id, breach_id) DO UPDATE SET cleared_at = NULL, observed_pct = excluded.observed_pct;
    DELETE FROM guardwire.breaches AS b
    USING (SELECT o.breach_id, o.raised_at, row_number() OVER (ORDER BY o.raised_at DESC, o.breach_id DESC) AS nth
           FROM guardwire.breaches AS o WHERE o.user_id = account) AS n
    WHERE b.user_id = account AND b.breach_id = n.breach_id
      AND (n.nth > 200 OR (n.nth > 20 AND n.raised_at < clock_timestamp() - interval '1 hour'));
END
$$;

-- Ends the breach that stands open for a market condition, or for the drawdown.
CREATE FUNCTION guardwire.clear_breach(
    account uuid, of_kind text, at timestamptz, of_symbol text, of_condition text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE guardwire.breaches AS b SET cleared_at = greatest(at, b.raised_at)
    WHERE b.user_id = account AND b.kind = of_kind AND b.cleared_at IS NULL
      AND b.symbol IS NOT DISTINCT FROM of_symbol AND b.condition_type IS NOT DISTINCT FROM of_condition;
END
$$;

-- How serious an observed condition is.
CREATE FUNCTION guardwire.market_level(condition_type text, gap numeric, spread numeric, l public.guard_limits)
RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE condition_type
        WHEN 'price_gap' THEN CASE WHEN gap IS NULL THEN 'warning' WHEN gap >= l.gap_critical_pct THEN 'critical'
                                   WHEN gap >= l.gap_warning_pct THEN 'warning' ELSE 'normal' END
        WHEN 'bid_ask_spread' THEN CASE WHEN spread IS NULL THEN 'warning' WHEN spread >= l.spread_critical_pct THEN 'critical'
                                        WHEN spread > l.spread_warning_pct THEN 'warning' ELSE 'normal' END
        ELSE 'warning' END
$$;

-- Applies guard triggers in the order in which they arrived: the latest of each symbol and condition is what is shown.
CREATE FUNCTION guardwire.apply_market(rows guardwire.log_row[], now_at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    r guardwire.log_row;
    limits public.guard_limits;
    held guardwire.market_alerts;
    m guardwire.market_alerts;
    events guardwire.events[] := '{}';
BEGIN
    FOR r IN SELECT u.* FROM unnest(rows) AS u WHERE u.kind = 'guard' ORDER BY u.user_id, u.revision, u.ordinal LOOP
        events := events || ROW(r.user_id, r.id::text, 'market_condition_alert', r.at, r.revision, r.ordinal, r.symbol,
                                r.ticket, r.matched, r.pnl_gbp, r.divergence_reason)::guardwire.events;
        IF limits.user_id IS DISTINCT FROM r.user_id THEN
            limits := guardwire.limits_of(r.user_id);
        END IF;
        m := NULL;
        m.user_id := r.user_id;
        m.symbol := coalesce(r.symbol, '*');
        m.condition_type := CASE WHEN lower(r.divergence_reason) LIKE '%gap%' THEN 'price_gap'
                                 WHEN lower(r.divergence_reason) LIKE '%spread%' THEN 'bid_ask_spread'
                                 WHEN lower(r.divergence_reason) LIKE '%liquidity%' THEN 'low_liquidity'
                                 ELSE 'other' END;
        IF m.condition_type = 'price_gap' THEN
            m.close_price := r.entry_price;
            m.open_price := r.current_price;
            m.gap_pct := CASE WHEN m.close_price > 0 THEN round(abs(m.open_price - m.close_price) * 100 / m.close_price, 2) END;
        ELSIF m.condition_type = 'bid_ask_spread' THEN
            m.bid := r.entry_price;
            m.ask := r.current_price;
            m.spread_pct := CASE WHEN m.bid + m.ask > 0 THEN round((m.ask - m.bid) * 200 / (m.bid + m.ask), 2) END;
        END IF;
        m.alert_type := guardwire.market_level(m.condition_type, m.gap_pct, m.spread_pct, limits);
        m.detected_at := r.at;
        m.expires_at := r.at + make_interval(secs => limits.alert_window_seconds);
        m.revision := r.revision;
        m.ordinal := r.ordinal;
        m.log_id := r.id;
        CONTINUE WHEN m.expires_at <= now_at;
        SELECT o.* INTO held FROM guardwire.market_alerts AS o
        WHERE o.user_id = m.user_id AND o.symbol = m.symbol AND o.condition_type = m.condition_type;
        CONTINUE WHEN FOUND AND held.detected_at > m.detected_at;
        DELETE FROM guardwire.market_alerts AS o
        WHERE o.user_id = m.user_id AND o.symbol = m.symbol AND o.condition_type = m.condition_type;
        INSERT INTO guardwire.market_alerts SELECT (m).*;
        PERFORM guardwire.note_market_level(held.alert_type, m, m.detected_at);
    END LOOP;
    PERFORM guardwire.add_events(events);
END
$$;

-- Raises or clears the breach of a market condition when its level has changed, at a moment.
CREATE FUNCTION guardwire.note_market_level(before text, m guardwire.market_alerts, at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF m.alert_type = 'critical' AND before IS DISTINCT FROM 'critical' THEN
        PERFORM guardwire.raise_breach(m.user_id, m.log_id::text, 'market', at, coalesce(m.gap_pct, m.spread_pct),
                                       m.symbol, m.condition_type);
    ELSIF m.alert_type <> 'critical' AND before = 'critical' THEN
        PERFORM guardwire.clear_breach(m.user_id, 'market', at, m.symbol, m.condition_type);
    END IF;
END
$$;

-- Measures an account's equity against its limits, and raises or clears the breach, the countdown and the event.
CREATE FUNCTION guardwire.judge_drawdown(account uuid, cause text, at timestamptz, changed_at bigint, nth integer)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    a guardwire.accounts;
    l public.guard_limits := guardwire.limits_of(account);
    peak numeric;
    pct numeric;
    level text;
BEGIN
    SELECT o.* INTO a FROM guardwire.accounts AS o WHERE o.user_id = account;
    IF a.equity IS NULL THEN
        RETURN;
    END IF;
    peak := greatest(a.peak_adjusted + a.equity_flow, a.equity);
    pct := CASE WHEN peak > 0 THEN round(least(greatest((peak - a.equity) * 100 / peak, 0), 100), 2) ELSE 0 END;
    level := CASE WHEN pct >= l.drawdown_critical_pct OR a.equity < l.minimum_equity THEN 'critical'
                  WHEN pct >= l.drawdown_warning_pct THEN 'warning' ELSE 'normal' END;
    IF level = 'critical' AND a.drawdown_level IS DISTINCT FROM 'critical' THEN
        a.liquidation_at := at + make_interval(secs => l.countdown_seconds);
        PERFORM guardwire.raise_breach(account, cause, 'drawdown', at, pct, NULL, NULL);
    ELSIF level <> 'critical' THEN
        a.liquidation_at := NULL;
        IF a.drawdown_level = 'critical' THEN
            PERFORM guardwire.clear_breach(account, 'drawdown', at, NULL, NULL);
        END IF;
    END IF;
    IF level <> 'normal' AND (coalesce(a.drawdown_level, 'normal') = 'normal' OR (level = 'critical' AND a.drawdown_level = 'warning')) THEN
        PERFORM guardwire.add_events(ARRAY[ROW(account, cause, 'drawdown_alert', at, changed_at, nth, NULL, NULL, NULL, NULL,
                                               NULL)::guardwire.events]);
    END IF;
    UPDATE guardwire.accounts AS o
    SET peak_equity = peak, drawdown_pct = pct, drawdown_level = level, liquidation_at = a.liquidation_at
    WHERE o.user_id = account;
END
$$;
