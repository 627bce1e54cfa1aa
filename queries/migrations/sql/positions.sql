-- The position rules: what a batch of rows about positions makes of the book.

-- What the profit is reckoned with: how much a rise of 1 in the price earns, and which rise is 1 % in the position's favour.
CREATE FUNCTION guardwire.point_value(direction text, volume numeric, contract_size numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE direction WHEN 'buy' THEN volume * contract_size WHEN 'sell' THEN -volume * contract_size END
$$;

CREATE FUNCTION guardwire.pct_unit(direction text, entry_price numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN entry_price > 0 THEN CASE direction WHEN 'buy' THEN entry_price * 0.01 WHEN 'sell' THEN entry_price * -0.01 END END
$$;

-- A position's floating profit in its quote currency, exact; null when unknown.
CREATE FUNCTION guardwire.pnl(entry_price numeric, current_price numeric, point_value numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN abs((coalesce(current_price, entry_price) - entry_price) * point_value) < 1e13
                THEN (coalesce(current_price, entry_price) - entry_price) * point_value END
$$;

-- A position's price change since entry in its favour, in % with 2 decimals; null when unknown.
CREATE FUNCTION guardwire.pnl_pct(entry_price numeric, current_price numeric, pct_unit numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN abs(coalesce(current_price, entry_price) - entry_price) < abs(pct_unit) * 1e13
                THEN round((coalesce(current_price, entry_price) - entry_price) / pct_unit, 2) END
$$;

-- Reckons what follows from a position's state. The quick path is for prices and volumes of this world: it does without the
-- guards of pnl and pnl_pct.
CREATE FUNCTION guardwire.reckoned(p guardwire.positions) RETURNS guardwire.positions LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    p.point_value := guardwire.point_value(p.direction, p.volume, p.contract_size);
    p.pct_unit := guardwire.pct_unit(p.direction, p.entry_price);
    p.pnl := guardwire.pnl(p.entry_price, p.current_price, p.point_value);
    p.pnl_pct := guardwire.pnl_pct(p.entry_price, p.current_price, p.pct_unit);
    IF NOT p.is_open OR (abs(p.point_value) < 1e7 AND p.entry_price < 1e6 AND p.pct_unit IS NOT NULL) IS NOT TRUE THEN
        p.fingerprint := NULL;
    END IF;
    RETURN p;
END
$$;

-- What one lot of the position's symbol is.
CREATE FUNCTION guardwire.with_instrument(p guardwire.positions) RETURNS guardwire.positions
LANGUAGE plpgsql STABLE AS $$
BEGIN
    SELECT i.contract_size, i.quote_currency, false INTO p.contract_size, p.quote_currency, p.contract_size_assumed
    FROM public.instruments AS i WHERE i.symbol = upper(p.symbol);
    IF NOT FOUND THEN
        p.contract_size := 1;
        p.quote_currency := coalesce((SELECT a.currency FROM guardwire.accounts AS a WHERE a.user_id = p.user_id), 'USD');
        p.contract_size_assumed := true;
    END IF;
    RETURN p;
END
$$;

-- A position whose state is this row; the instrument is looked up where it may be another.
CREATE FUNCTION guardwire.with_state(p guardwire.positions, r guardwire.log_row, look_up boolean) RETURNS guardwire.positions
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF p.position_id IS NULL THEN
        p.user_id := r.user_id;
        p.ticket := r.ticket;
        p.position_id := r.id;
        -- A row whose ticket or user was altered in place was the first of two tickets.
        IF EXISTS (SELECT FROM guardwire.positions AS o WHERE o.position_id = r.id) THEN
            p.position_id := md5(r.user_id::text || r.ticket::text)::uuid;
        END IF;
    END IF;
    p.matched := r.matched;
    p.direction := r.direction;
    p.volume := r.volume;
    p.entry_price := r.entry_price;
    p.current_price := r.current_price;
    p.take_profit := r.take_profit;
    p.stop_loss := r.stop_loss;
    p.divergence_reason := r.divergence_reason;
    p.fingerprint := r.fingerprint;
    p.state_at := r.at;
    p.state_revision := r.revision;
    p.state_ordinal := r.ordinal;
    p.updated_at := coalesce(r.updated_at, r.at);
    IF look_up OR p.symbol IS DISTINCT FROM r.symbol THEN
        p.symbol := r.symbol;
        p := guardwire.with_instrument(p);
    END IF;
    RETURN p;
END
$$;

-- Keeps the newest 5 events of each account.
CREATE FUNCTION guardwire.add_events(added guardwire.events[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(added) = 0 THEN
        RETURN;
    END IF;
    INSERT INTO guardwire.events AS e
    SELECT n.user_id, n.event_id, n.event_type, n.created_at, n.revision, n.ordinal, n.symbol, n.ticket, n.matched, n.pnl_gbp,
           n.divergence_reason
    FROM (SELECT u.*, row_number() OVER (PARTITION BY user_id ORDER BY created_at DESC, revision DESC, ordinal DESC) AS nth
          FROM unnest(added) AS u) AS n
    WHERE n.nth <= 5
    ON CONFLICT (user_id, event_id) DO UPDATE
        SET event_type = excluded.event_type, created_at = excluded.created_at, revision = excluded.revision,
            ordinal = excluded.ordinal, symbol = excluded.symbol, ticket = excluded.ticket, matched = excluded.matched,
            pnl_gbp = excluded.pnl_gbp, divergence_reason = excluded.divergence_reason;
    DELETE FROM guardwire.events AS e
    USING (SELECT o.user_id, o.event_id,
                  row_number() OVER (PARTITION BY o.user_id
                                     ORDER BY o.created_at DESC, o.revision DESC, o.ordinal DESC) AS nth
           FROM guardwire.events AS o
           WHERE o.user_id IN (SELECT u.user_id FROM unnest(added) AS u)) AS n
    WHERE n.nth > 5 AND e.user_id = n.user_id AND e.event_id = n.event_id;
END
$$;

-- Writes positions back, in two statements however many they are.
CREATE FUNCTION guardwire.put_positions(opened guardwire.positions[], changed guardwire.positions[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(changed) > 0 THEN
        UPDATE guardwire.positions AS o
        SET is_open = p.is_open, matched = p.matched, symbol = p.symbol, direction = p.direction, volume = p.volume,
            entry_price = p.entry_price, current_price = p.current_price, take_profit = p.take_profit,
            stop_loss = p.stop_loss, entry_time = p.entry_time, state_at = p.state_at,
            state_revision = p.state_revision, state_ordinal = p.state_ordinal, updated_at = p.updated_at,
            last_close_at = p.last_close_at, close_reason = p.close_reason, closed_price = p.closed_price,
            closed_at = p.closed_at, divergence_reason = p.divergence_reason, quote_currency = p.quote_currency,
            contract_size = p.contract_size, contract_size_assumed = p.contract_size_assumed,
            point_value = p.point_value, pct_unit = p.pct_unit, fingerprint = p.fingerprint, pnl = p.pnl, pnl_pct = p.pnl_pct
        FROM unnest(changed) AS p
        WHERE o.user_id = p.user_id AND o.ticket = p.ticket;
    END IF;
    IF cardinality(opened) > 0 THEN
        INSERT INTO guardwire.positions SELECT p.* FROM unnest(opened) AS p;
    END IF;
END
$$;

-- Applies rows about positions. They come sorted by account, ticket and arrival, and later in arrival than all that was
-- applied before, so that a position is read and written once however many rows it has. Returns the positions as they are
-- now where all rows are plain syncs, which move prices and times and nothing else; otherwise null.
CREATE FUNCTION guardwire.apply_positions(rows guardwire.log_row[]) RETURNS guardwire.positions[] LANGUAGE plpgsql AS $$
DECLARE
    plain boolean := true;
    r guardwire.log_row;
    p guardwire.positions;
    known boolean := false;
    opens boolean;
    event text;
    events guardwire.events[] := '{}';
    opened guardwire.positions[] := '{}';
    changed guardwire.positions[] := '{}';
BEGIN
    FOREACH r IN ARRAY rows LOOP
        plain := plain AND r.kind IS NOT DISTINCT FROM 'open' AND r.is_sync AND NOT r.failed AND r.ticket IS NOT NULL
                 AND r.error_message IS NULL;
        CONTINUE WHEN r.kind IS NULL OR r.kind = 'guard' OR r.failed OR r.ticket IS NULL;
        IF p.ticket IS DISTINCT FROM r.ticket OR p.user_id IS DISTINCT FROM r.user_id THEN
            IF known THEN
                changed := changed || guardwire.reckoned(p);
            ELSIF p.ticket IS NOT NULL THEN
                opened := opened || guardwire.reckoned(p);
            END IF;
            SELECT o.* INTO p FROM guardwire.positions AS o WHERE o.user_id = r.user_id AND o.ticket = r.ticket;
            known := FOUND;
        END IF;

        event := NULL;
        IF r.kind = 'open' THEN
            opens := p.is_open IS NOT TRUE AND (p.last_close_at IS NULL OR r.at > p.last_close_at);
            IF opens OR (p.is_open AND r.at >= p.state_at) THEN
                IF opens THEN
                    event := CASE r.matched WHEN 2 THEN 'divergence_detected' WHEN 1 THEN 'position_matched'
                             ELSE 'position_synced' END;
                    p.is_open := true;
                    p.close_reason := NULL;
                    p.closed_price := NULL;
                    p.closed_at := NULL;
                ELSIF p.matched <> r.matched OR p.symbol IS DISTINCT FROM r.symbol
                      OR p.direction IS DISTINCT FROM r.direction OR p.volume IS DISTINCT FROM r.volume
                      OR p.entry_price IS DISTINCT FROM r.entry_price
                      OR p.take_profit IS DISTINCT FROM r.take_profit OR p.stop_loss IS DISTINCT FROM r.stop_loss
                      OR p.divergence_reason IS DISTINCT FROM r.divergence_reason THEN
                    event := CASE WHEN r.matched = 2 THEN 'divergence_detected'
                                  WHEN r.matched = 1 AND p.matched <> 1 THEN 'position_matched'
                                  ELSE 'position_synced' END;
                END IF;
                p := guardwire.with_state(p, r, opens);
            END IF;
        ELSE
            IF p.position_id IS NULL THEN
                p := guardwire.with_state(p, r, true);
                event := 'position_closed';
            ELSIF p.is_open THEN
                event := 'position_closed';
            END IF;
            IF p.closed_at IS NULL OR r.at >= p.closed_at THEN
                p.close_reason := r.close_reason;
                p.closed_price := r.closed_price;
                p.closed_at := r.at;
                p.updated_at := coalesce(r.updated_at, r.at);
            END IF;
            p.is_open := false;
            p.last_close_at := greatest(p.last_close_at, r.at);
        END IF;
        plain := plain AND event IS NULL AND p.is_open AND r.at >= p.entry_time;
        p.entry_time := least(p.entry_time, r.at);

        IF event IS NOT NULL THEN
            events := events || ROW(r.user_id, r.id::text, event, r.at, r.revision, r.ordinal, r.symbol, r.ticket,
                                    r.matched, r.pnl_gbp, r.divergence_reason)::guardwire.events;
        END IF;
    END LOOP;
    IF known THEN
        changed := changed || guardwire.reckoned(p);
    ELSIF p.ticket IS NOT NULL THEN
        opened := opened || guardwire.reckoned(p);
    END IF;
    PERFORM guardwire.put_positions(opened, changed);
    PERFORM guardwire.add_events(events);
    RETURN CASE WHEN plain AND NOT EXISTS (SELECT FROM unnest(changed) AS c
                                           WHERE c.current_price IS NULL OR c.pnl IS NULL OR c.pnl_pct IS NULL)
                THEN changed END;
END
$$;
