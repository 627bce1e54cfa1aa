-- The guard rules: market alerts, drawdown, and the breaches that both raise.

-- An account's limits; the defaults where it has set none.
CREATE OR REPLACE FUNCTION guardwire.limits_of(account uuid) RETURNS guardwire.limits LANGUAGE plpgsql STABLE AS $$
DECLARE
    found_limits guardwire.limits;
BEGIN
    SELECT l.* INTO found_limits FROM guardwire.limits AS l WHERE l.user_id = account;
    IF NOT FOUND THEN
        SELECT l.* INTO found_limits FROM guardwire.limits AS l WHERE l.user_id = guardwire.no_account();
        found_limits.user_id := account;
    END IF;
    RETURN found_limits;
END
$$;

-- Makes this transaction durable before it is answered, also where the server's synchronous_commit is off: clients act on breaches.
CREATE OR REPLACE FUNCTION guardwire.commit_durably() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('synchronous_commit') IN ('off', 'local') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
END
$$;

-- Latches a guard that became critical: the newest 20 breaches stay, and all younger than an hour, but never more than 200. Bots
-- act once for each id, so an id is used once. A guard has one open breach. `deadline` is the end of its countdown, and limit_value
-- what was reached; both are null where history is read, whose end raises the alerts (settle_history_alerts).
CREATE OR REPLACE FUNCTION guardwire.raise_breach(
    account uuid, id text, kind text, at timestamptz, observed numeric, symbol text, condition_type text,
    deadline timestamptz DEFAULT NULL, limit_value numeric DEFAULT NULL
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM guardwire.open_breaches(account, kind, symbol, condition_type)) THEN
        RETURN;
    END IF;
    PERFORM guardwire.commit_durably();
    IF deadline IS NOT NULL AND guardwire.is_ready(account) THEN
        PERFORM guardwire.raise_alert(account, kind, 'critical', concat_ws(' ', symbol, condition_type), symbol, condition_type, at,
                                      deadline, observed, limit_value);
    END IF;
    -- History that is read again comes to the breach that there is.
    UPDATE guardwire.breaches AS b SET cleared_at = NULL WHERE b.user_id = account AND b.breach_id = id AND b.raised_at = at;
    IF FOUND THEN
        RETURN;
    END IF;
    INSERT INTO guardwire.breaches AS b (user_id, breach_id, kind, symbol, condition_type, raised_at, observed_pct)
    SELECT account, CASE WHEN EXISTS (SELECT FROM guardwire.breaches AS o WHERE o.user_id = account AND o.breach_id = id)
                         THEN concat(id, '.', guardwire.unix_us(clock_timestamp())) ELSE id END,
           kind, symbol, condition_type, at, observed;
    DELETE FROM guardwire.breaches AS b
    USING (SELECT o.breach_id, o.raised_at, row_number() OVER (ORDER BY o.raised_at DESC, o.breach_id DESC) AS place
           FROM guardwire.breaches AS o WHERE o.user_id = account) AS n
    WHERE b.user_id = account AND b.breach_id = n.breach_id
      AND (n.place > 200 OR (n.place > 20 AND n.raised_at < clock_timestamp() - interval '1 hour'));
END
$$;

-- Whether an account's history is read: rows of history raise and resolve no alert one by one.
CREATE OR REPLACE FUNCTION guardwire.is_ready(account uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT a.ready FROM guardwire.accounts AS a WHERE a.user_id = account
$$;

-- The end of a countdown that begins at the time of a row, unless the row waited in the inbox for more than a minute: a countdown that
-- nobody could see would be over before it began.
CREATE OR REPLACE FUNCTION guardwire.countdown_end(l guardwire.limits, at timestamptz, arrived_at timestamptz) RETURNS timestamptz
LANGUAGE sql VOLATILE
RETURN make_interval(secs => (l).countdown_seconds)
       + CASE WHEN clock_timestamp() - arrived_at > interval '1 minute' THEN clock_timestamp() ELSE at END;

-- The open breaches of a market condition, whose symbol is compared without case, or of the drawdown.
CREATE OR REPLACE FUNCTION guardwire.open_breaches(account uuid, of_kind text, of_symbol text, of_condition text)
RETURNS SETOF guardwire.breaches LANGUAGE sql STABLE AS $$
    SELECT b.* FROM guardwire.breaches AS b
    WHERE b.user_id = account AND b.kind = of_kind AND b.cleared_at IS NULL
      AND guardwire.fold(b.symbol) IS NOT DISTINCT FROM guardwire.fold(of_symbol)
      AND b.condition_type IS NOT DISTINCT FROM of_condition
$$;

-- Ends the open breach of a market condition, or of the drawdown.
CREATE OR REPLACE FUNCTION guardwire.clear_breach(
    account uuid, of_kind text, at timestamptz, of_symbol text, of_condition text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM guardwire.commit_durably();
    UPDATE guardwire.breaches AS b SET cleared_at = greatest(at, b.raised_at)
    FROM guardwire.open_breaches(account, of_kind, of_symbol, of_condition) AS o
    WHERE b.user_id = account AND b.breach_id = o.breach_id;
    IF guardwire.is_ready(account) THEN
        PERFORM guardwire.resolve_alert(account, of_kind, concat_ws(' ', of_symbol, of_condition), at, 'the condition is over');
    END IF;
END
$$;

-- The id of what a row causes: that of the row, and for a row that was updated in place that of the change, because a breach
-- that rises again is another one.
CREATE OR REPLACE FUNCTION guardwire.cause_of(row_id text, inserted boolean, revision bigint, ordinal integer) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN inserted THEN row_id ELSE concat(row_id, '.', revision, '.', ordinal) END;

-- ---------------------------------------------------------------- market conditions

-- The condition that a guard trigger's reason speaks of: its first whole word that names one. Words may also be joined as in
-- price_gap and PriceGap. Every character beyond ASCII counts as a letter.
CREATE OR REPLACE FUNCTION guardwire.read_condition(reason text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE substring(lower(regexp_replace(reason, '([a-z])([A-Z])', '\1 \2', 'g') COLLATE "C") COLLATE "C"
                      FROM '(?:^|[\x01-\x60\x7b-\x7f])(gap|spread|liquidity)s?(?![a-z]|[^\x01-\x7f])')
       WHEN 'gap' THEN 'price_gap' WHEN 'spread' THEN 'bid_ask_spread' WHEN 'liquidity' THEN 'low_liquidity' ELSE 'other' END;

-- The level of a market condition. It is decided on the prices, because rounded percentages have other sides of a limit.
CREATE OR REPLACE FUNCTION guardwire.market_level(m guardwire.market_alerts, l guardwire.limits) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN m.gap_pct IS NOT NULL THEN
            CASE WHEN abs(m.open_price - m.close_price) * 100 >= l.gap_critical_pct * abs(m.close_price) THEN 'critical'
                 WHEN abs(m.open_price - m.close_price) * 100 >= l.gap_warning_pct * abs(m.close_price) THEN 'warning'
                 ELSE 'normal' END
        WHEN m.spread_pct IS NOT NULL THEN
            CASE WHEN (m.ask - m.bid) * 200 >= l.spread_critical_pct * abs(m.bid + m.ask) THEN 'critical'
                 WHEN (m.ask - m.bid) * 200 > l.spread_warning_pct * abs(m.bid + m.ask) THEN 'warning'
                 ELSE 'normal' END
        ELSE 'warning' END
$$;

-- The limit from which a market condition is critical, %; null where nothing was measured.
CREATE OR REPLACE FUNCTION guardwire.market_limit(m guardwire.market_alerts, l guardwire.limits) RETURNS numeric
LANGUAGE sql IMMUTABLE
RETURN CASE WHEN (m).gap_pct IS NOT NULL THEN (l).gap_critical_pct WHEN (m).spread_pct IS NOT NULL THEN (l).spread_critical_pct END;

-- The market condition that a guard trigger reports. A price of 0 is MetaTrader's way to say that there is none, and a bid above
-- the ask is no quote: then nothing was measured. Prices below 0 are real, so percentages are of the absolute value.
CREATE OR REPLACE FUNCTION guardwire.read_market(r guardwire.log_row, l guardwire.limits) RETURNS guardwire.market_alerts
LANGUAGE plpgsql STABLE AS $$
DECLARE
    m guardwire.market_alerts;
BEGIN
    m.user_id := r.user_id;
    m.symbol := coalesce(r.symbol, '*');
    m.condition_type := guardwire.read_condition(r.divergence_reason);
    IF m.condition_type = 'price_gap' THEN
        m.close_price := nullif(r.entry_price, 0);
        m.open_price := nullif(r.current_price, 0);
        m.gap_pct := round(abs(m.open_price - m.close_price) * 100 / abs(m.close_price), 2);
    ELSIF m.condition_type = 'bid_ask_spread' THEN
        m.bid := nullif(r.entry_price, 0);
        m.ask := nullif(r.current_price, 0);
        m.spread_pct := CASE WHEN m.bid <= m.ask THEN round((m.ask - m.bid) * 200 / nullif(abs(m.bid + m.ask), 0), 2) END;
    END IF;
    m.alert_type := guardwire.market_level(m, l);
    m.detected_at := r.at;
    m.window_from := r.window_from;
    m.expires_at := r.window_from + make_interval(secs => l.alert_window_seconds);
    m.revision := r.revision;
    m.ordinal := r.ordinal;
    m.log_id := r.id;
    RETURN m;
END
$$;

-- Raises or clears the breach of a market condition when its level changed.
CREATE OR REPLACE FUNCTION guardwire.follow_market_level(
    before text, m guardwire.market_alerts, cause text, at timestamptz, arrived_at timestamptz, l guardwire.limits
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF m.alert_type = 'critical' AND before IS DISTINCT FROM 'critical' THEN
        PERFORM guardwire.raise_breach(m.user_id, cause, 'market', at, coalesce(m.gap_pct, m.spread_pct), m.symbol,
                                       m.condition_type, guardwire.countdown_end(l, at, arrived_at), guardwire.market_limit(m, l));
    ELSIF m.alert_type <> 'critical' AND before = 'critical' THEN
        PERFORM guardwire.clear_breach(m.user_id, 'market', at, m.symbol, m.condition_type);
    END IF;
END
$$;

-- Whether a condition that is held outranks one that was reported later without figures: what is not known never ends or lowers
-- what is critical.
CREATE OR REPLACE FUNCTION guardwire.outranks(held guardwire.market_alerts, m guardwire.market_alerts, now_at timestamptz)
RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT held.alert_type = 'critical' AND held.expires_at > now_at AND coalesce(m.gap_pct, m.spread_pct) IS NULL
$$;

-- Applies guard triggers in the order of their arrival: the latest of each symbol and condition is shown, also one whose level
-- is normal. A condition whose window had passed when its row arrived is only an event; history_at is the time to compare with
-- for rows of history.
CREATE OR REPLACE FUNCTION guardwire.apply_market(rows guardwire.log_row[], history_at timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    r guardwire.log_row;
    limits guardwire.limits;
    held guardwire.market_alerts;
    m guardwire.market_alerts;
    now_at timestamptz;
    events guardwire.events[] := '{}';
BEGIN
    FOR r IN SELECT u.* FROM unnest(rows) AS u WHERE u.kind = 'guard' ORDER BY u.user_id, u.revision, u.ordinal LOOP
        events := events || ROW(r.user_id, r.id::text, 'market_condition_alert', r.at, r.revision, r.ordinal, r.symbol,
                                r.ticket, r.matched, r.pnl_gbp, r.divergence_reason, NULL, NULL)::guardwire.events;
        IF limits.user_id IS DISTINCT FROM r.user_id THEN
            limits := guardwire.limits_of(r.user_id);
        END IF;
        m := guardwire.read_market(r, limits);
        now_at := coalesce(history_at, r.arrived_at);
        CONTINUE WHEN m.expires_at <= now_at;
        SELECT o.* INTO held FROM guardwire.market_alerts AS o
        WHERE o.user_id = m.user_id AND guardwire.fold(o.symbol) = guardwire.fold(m.symbol)
          AND o.condition_type = m.condition_type
        ORDER BY o.detected_at DESC LIMIT 1;
        CONTINUE WHEN FOUND AND (held.detected_at > m.detected_at OR guardwire.outranks(held, m, now_at));
        DELETE FROM guardwire.market_alerts AS o
        WHERE o.user_id = m.user_id AND guardwire.fold(o.symbol) = guardwire.fold(m.symbol)
          AND o.condition_type = m.condition_type;
        INSERT INTO guardwire.market_alerts SELECT (m).*;
        PERFORM guardwire.follow_market_level(
            held.alert_type, m, guardwire.cause_of(r.id::text, r.inserted, r.revision, r.ordinal), m.detected_at, r.arrived_at, limits);
    END LOOP;
    PERFORM guardwire.add_events(events);
END
$$;

-- ---------------------------------------------------------------- drawdown

-- Fall of the equity below its peak, 0-100 % with 2 decimals, for people; null without a peak.
CREATE OR REPLACE FUNCTION guardwire.drawdown_pct(p guardwire.peak, equity numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN (p).value IS NOT NULL
            THEN round(least(greatest(((p).value - equity * (p).divisor) * 100 / (p).value, 0), 100), 2) END;

-- The level of a drawdown. It is decided on the amounts: 19.995 % is below 20 %.
CREATE OR REPLACE FUNCTION guardwire.drawdown_level(p guardwire.peak, equity numeric, l guardwire.limits) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN equity < (l).minimum_equity
                 OR ((p).value - equity * (p).divisor) * 100 >= (l).drawdown_critical_pct * (p).value THEN 'critical'
            WHEN ((p).value - equity * (p).divisor) * 100 >= (l).drawdown_warning_pct * (p).value THEN 'warning'
            WHEN equity IS NOT NULL THEN 'normal' END;

-- Measures an account's equity against its limits, and raises or clears the breach, the countdown and the event. `cause` is
-- the id of the row that made the difference, `at` its time, at which the countdown begins. Writes no row of accounts.
CREATE OR REPLACE FUNCTION guardwire.judge_drawdown(
    a guardwire.accounts, l guardwire.limits, cause text, at timestamptz, arrived_at timestamptz, revision bigint, ordinal integer
) RETURNS guardwire.accounts LANGUAGE plpgsql AS $$
BEGIN
    RETURN guardwire.set_level(a, l, guardwire.drawdown_level(a.peak, a.equity, l), guardwire.drawdown_pct(a.peak, a.equity),
                               cause, at, arrived_at, revision, ordinal);
END
$$;

CREATE OR REPLACE FUNCTION guardwire.set_level(
    a guardwire.accounts, l guardwire.limits, level text, pct numeric, cause text, at timestamptz, arrived_at timestamptz,
    revision bigint, ordinal integer
) RETURNS guardwire.accounts LANGUAGE plpgsql AS $$
DECLARE
    before text := coalesce(a.drawdown_level, 'normal');
BEGIN
    IF level = 'critical' AND before <> 'critical' THEN
        a.liquidation_at := guardwire.countdown_end(l, at, arrived_at);
        PERFORM guardwire.raise_breach(a.user_id, cause, 'drawdown', at, pct, NULL, NULL, a.liquidation_at, l.drawdown_critical_pct);
    ELSIF level IS DISTINCT FROM 'critical' THEN
        a.liquidation_at := NULL;
        IF before = 'critical' THEN
            PERFORM guardwire.clear_breach(a.user_id, 'drawdown', at, NULL, NULL);
        END IF;
    END IF;
    IF level <> 'normal' AND (before = 'normal' OR (level = 'critical' AND before = 'warning')) THEN
        PERFORM guardwire.add_events(ARRAY[ROW(
            a.user_id, cause, 'drawdown_alert', at, revision, ordinal, NULL, NULL, NULL, NULL, NULL, level,
            concat_ws(', ', level, pct || ' % below the peak'))::guardwire.events]);
    END IF;
    a.drawdown_pct := pct;
    a.drawdown_level := level;
    RETURN a;
END
$$;
