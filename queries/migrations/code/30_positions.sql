-- The position rules: what rows about positions make of the open book.

-- Profit for a rise of 1 in the price; null when unknown.
CREATE OR REPLACE FUNCTION guardwire.point_value(direction text, volume numeric, contract_size numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE direction WHEN 'buy' THEN volume * contract_size WHEN 'sell' THEN -volume * contract_size END;

-- Price change that is 1 % in the position's favour; null when unknown.
CREATE OR REPLACE FUNCTION guardwire.pct_unit(direction text, entry_price numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN entry_price > 0
                THEN CASE direction WHEN 'buy' THEN entry_price * 0.01 WHEN 'sell' THEN entry_price * -0.01 END END;

-- A position's floating profit in its quote currency, exact; null when unknown.
CREATE OR REPLACE FUNCTION guardwire.pnl(entry_price numeric, current_price numeric, point_value numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN abs((coalesce(current_price, entry_price) - entry_price) * point_value) < 1e13
                THEN (coalesce(current_price, entry_price) - entry_price) * point_value END;

-- A position's price change since entry in its favour, in % with 2 decimals; null when unknown.
CREATE OR REPLACE FUNCTION guardwire.pnl_pct(entry_price numeric, current_price numeric, pct_unit numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN abs(coalesce(current_price, entry_price) - entry_price) < abs(pct_unit) * 1e13
                THEN round((coalesce(current_price, entry_price) - entry_price) / pct_unit, 2) END;

-- A profit in another currency, to the cent, by the rule of queries/conversion.py; unconverted where no rate is known.
CREATE OR REPLACE FUNCTION guardwire.convert(pnl numeric, quote_currency text, account_currency text) RETURNS numeric
LANGUAGE plpgsql STABLE AS $$
DECLARE
    found_rate numeric;
BEGIN
    IF quote_currency <> account_currency THEN
        SELECT fx.rate INTO found_rate FROM guardwire.fx_current AS fx
        WHERE fx.base = quote_currency AND fx.quote = account_currency;
        IF FOUND THEN
            RETURN round(pnl * found_rate, 2);
        END IF;
        SELECT fx.rate INTO found_rate FROM guardwire.fx_current AS fx
        WHERE fx.base = account_currency AND fx.quote = quote_currency;
        IF FOUND THEN
            RETURN round(pnl * 1.00000000 / found_rate, 2);
        END IF;
    END IF;
    RETURN round(pnl, 2);
END
$$;

-- Computes the columns that follow from a position's state. A plain sync is applied without the bounds of pnl and pnl_pct,
-- so a position that could reach them loses its fingerprint.
CREATE OR REPLACE FUNCTION guardwire.recompute_position(p guardwire.positions) RETURNS guardwire.positions
LANGUAGE plpgsql IMMUTABLE AS $$
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

-- Sets what one lot of the position's symbol is.
CREATE OR REPLACE FUNCTION guardwire.set_instrument(p guardwire.positions) RETURNS guardwire.positions
LANGUAGE plpgsql STABLE AS $$
BEGIN
    SELECT i.contract_size, i.quote_currency, false INTO p.contract_size, p.quote_currency, p.contract_size_assumed
    FROM guardwire.contracts AS i WHERE i.symbol = upper(p.symbol COLLATE "C");
    IF NOT FOUND THEN
        p.contract_size := 1;
        p.quote_currency := coalesce((SELECT a.currency FROM guardwire.accounts AS a WHERE a.user_id = p.user_id), 'USD');
        p.contract_size_assumed := true;
    END IF;
    RETURN p;
END
$$;

-- Makes a row the position's state; the instrument is looked up where the symbol may be another one.
CREATE OR REPLACE FUNCTION guardwire.set_state(p guardwire.positions, r guardwire.log_row, look_up boolean)
RETURNS guardwire.positions LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF p.position_id IS NULL THEN
        p.user_id := r.user_id;
        p.ticket := r.ticket;
        p.position_id := r.id;
        -- The platform may alter the ticket of a row in place: then the row's id already names its first ticket.
        IF r.id IS NULL OR EXISTS (SELECT FROM guardwire.positions AS o WHERE o.position_id = r.id) THEN
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
        p := guardwire.set_instrument(p);
    END IF;
    RETURN p;
END
$$;

-- Keeps the newest 5 events of each account.
CREATE OR REPLACE FUNCTION guardwire.add_events(added guardwire.events[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(added) = 0 THEN
        RETURN;
    END IF;
    INSERT INTO guardwire.events AS e
    SELECT n.user_id, n.event_id, n.event_type, n.created_at, n.revision, n.ordinal, n.symbol, n.ticket, n.matched, n.pnl_gbp,
           n.divergence_reason
    FROM (SELECT u.*, row_number() OVER (PARTITION BY user_id ORDER BY created_at DESC, revision DESC, ordinal DESC) AS place,
                 row_number() OVER (PARTITION BY user_id, event_id ORDER BY revision DESC, ordinal DESC) AS version
          FROM unnest(added) AS u) AS n
    WHERE n.place <= 5 AND n.version = 1
    ON CONFLICT (user_id, event_id) DO UPDATE
        SET event_type = excluded.event_type, created_at = excluded.created_at, revision = excluded.revision,
            ordinal = excluded.ordinal, symbol = excluded.symbol, ticket = excluded.ticket, matched = excluded.matched,
            pnl_gbp = excluded.pnl_gbp, divergence_reason = excluded.divergence_reason;
    DELETE FROM guardwire.events AS e
    USING (SELECT o.user_id, o.event_id,
                  row_number() OVER (PARTITION BY o.user_id
                                     ORDER BY o.created_at DESC, o.revision DESC, o.ordinal DESC) AS place
           FROM guardwire.events AS o
           WHERE o.user_id IN (SELECT u.user_id FROM unnest(added) AS u)) AS n
    WHERE n.place > 5 AND e.user_id = n.user_id AND e.event_id = n.event_id;
END
$$;

-- Writes positions, in two statements however many they are.
CREATE OR REPLACE FUNCTION guardwire.write_positions(opened guardwire.positions[], changed guardwire.positions[]) RETURNS void
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

-- The event that an open row is; null for a row that changes no more than prices and times.
CREATE OR REPLACE FUNCTION guardwire.open_event(p guardwire.positions, r guardwire.log_row, opens boolean) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF NOT opens AND p.matched = r.matched AND p.symbol IS NOT DISTINCT FROM r.symbol
       AND p.direction IS NOT DISTINCT FROM r.direction AND p.volume IS NOT DISTINCT FROM r.volume
       AND p.entry_price IS NOT DISTINCT FROM r.entry_price AND p.take_profit IS NOT DISTINCT FROM r.take_profit
       AND p.stop_loss IS NOT DISTINCT FROM r.stop_loss AND p.divergence_reason IS NOT DISTINCT FROM r.divergence_reason THEN
        RETURN NULL;
    END IF;
    RETURN CASE WHEN r.matched = 2 THEN 'divergence_detected'
                WHEN r.matched = 1 AND (opens OR p.matched <> 1) THEN 'position_matched'
                ELSE 'position_synced' END;
END
$$;

-- Applies rows about positions. The rows are sorted by account, ticket and arrival, and arrived later than every row that was
-- applied before, so each position is read once and written once however many rows it has.
CREATE OR REPLACE FUNCTION guardwire.apply_positions(rows guardwire.log_row[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
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
        CONTINUE WHEN r.kind IS NULL OR r.kind = 'guard' OR r.failed OR r.ticket IS NULL;
        IF p.ticket IS DISTINCT FROM r.ticket OR p.user_id IS DISTINCT FROM r.user_id THEN
            IF known THEN
                changed := changed || guardwire.recompute_position(p);
            ELSIF p.ticket IS NOT NULL THEN
                opened := opened || guardwire.recompute_position(p);
            END IF;
            SELECT o.* INTO p FROM guardwire.positions AS o WHERE o.user_id = r.user_id AND o.ticket = r.ticket;
            known := FOUND;
        END IF;

        event := NULL;
        IF r.kind = 'open' THEN
            opens := p.is_open IS NOT TRUE AND (p.last_close_at IS NULL OR r.at > p.last_close_at);
            IF opens OR (p.is_open AND r.at >= p.state_at) THEN
                event := guardwire.open_event(p, r, opens);
                IF opens THEN
                    p.is_open := true;
                    p.close_reason := NULL;
                    p.closed_price := NULL;
                    p.closed_at := NULL;
                END IF;
                p := guardwire.set_state(p, r, opens);
            END IF;
        ELSE
            IF p.position_id IS NULL THEN
                p := guardwire.set_state(p, r, true);
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
        p.entry_time := least(p.entry_time, r.at);

        IF event IS NOT NULL THEN
            events := events || ROW(r.user_id, r.id::text, event, r.at, r.revision, r.ordinal, r.symbol, r.ticket,
                                    r.matched, r.pnl_gbp, r.divergence_reason)::guardwire.events;
        END IF;
    END LOOP;
    IF known THEN
        changed := changed || guardwire.recompute_position(p);
    ELSIF p.ticket IS NOT NULL THEN
        opened := opened || guardwire.recompute_position(p);
    END IF;
    PERFORM guardwire.write_positions(opened, changed);
    PERFORM guardwire.add_events(events);
END
$$;

-- ---------------------------------------------------------------- syncs

DROP TYPE IF EXISTS guardwire.sync_sums CASCADE;
CREATE TYPE guardwire.sync_sums AS (
    user_id uuid,
    syncs bigint,
    last_sync_at timestamptz,
    last_sync_arrived_at timestamptz,
    duration_ms double precision,
    last_position_at timestamptz,
    error_at timestamptz,
    error_message text,
    ignored bigint
);
COMMENT ON TYPE guardwire.sync_sums IS 'What rows about positions add to their account; columns as in guardwire.accounts';

CREATE OR REPLACE FUNCTION guardwire.sum_syncs(rows guardwire.log_row[]) RETURNS SETOF guardwire.sync_sums
LANGUAGE sql STABLE AS $$
    SELECT r.user_id,
           count(*) FILTER (WHERE r.is_sync AND r.inserted AND r.ticket IS NOT NULL),
           max(r.at) FILTER (WHERE r.is_sync AND NOT r.failed AND r.ticket IS NOT NULL),
           max(r.arrived_at) FILTER (WHERE r.is_sync AND NOT r.failed AND r.ticket IS NOT NULL),
           (array_agg(r.duration_ms ORDER BY r.at DESC, r.revision DESC, r.ordinal DESC)
               FILTER (WHERE r.is_sync AND NOT r.failed AND r.ticket IS NOT NULL))[1],
           max(coalesce(r.updated_at, r.at)) FILTER (WHERE NOT r.failed AND r.ticket IS NOT NULL),
           max(r.at) FILTER (WHERE r.ticket IS NOT NULL),
           (array_agg(r.error_message ORDER BY r.at DESC, r.revision DESC, r.ordinal DESC)
               FILTER (WHERE r.ticket IS NOT NULL))[1],
           count(*) FILTER (WHERE r.ticket IS NULL)
    FROM unnest(rows) AS r
    WHERE r.kind IN ('open', 'close')
    GROUP BY r.user_id
$$;

-- Adds the sums of a batch to those of the batches before. The batch arrived later, so it wins where times are equal.
CREATE OR REPLACE FUNCTION guardwire.add_sums(before guardwire.sync_sums, batch guardwire.sync_sums)
RETURNS guardwire.sync_sums LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF batch.last_sync_at >= coalesce(before.last_sync_at, batch.last_sync_at) THEN
        before.duration_ms := batch.duration_ms;
    END IF;
    IF batch.error_at >= coalesce(before.error_at, batch.error_at) THEN
        before.error_message := batch.error_message;
    END IF;
    before.syncs := coalesce(before.syncs, 0) + batch.syncs;
    before.last_sync_at := greatest(before.last_sync_at, batch.last_sync_at);
    before.last_sync_arrived_at := greatest(before.last_sync_arrived_at, batch.last_sync_arrived_at);
    before.last_position_at := greatest(before.last_position_at, batch.last_position_at);
    before.error_at := greatest(before.error_at, batch.error_at);
    before.ignored := coalesce(before.ignored, 0) + batch.ignored;
    RETURN before;
END
$$;

CREATE OR REPLACE FUNCTION guardwire.apply_syncs(rows guardwire.log_row[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE guardwire.accounts AS a
    SET total_syncs = a.total_syncs + s.syncs,
        source = CASE WHEN s.last_sync_at IS NULL THEN a.source ELSE 'live' END,
        last_sync_arrived_at = greatest(a.last_sync_arrived_at, s.last_sync_arrived_at),
        sync_due_at = CASE WHEN s.last_sync_at IS NULL THEN a.sync_due_at
                           ELSE coalesce(a.sync_due_at, s.last_sync_arrived_at) END,
        last_sync_duration_ms = CASE WHEN s.last_sync_at IS NULL OR s.last_sync_at < a.last_sync_at
                                     THEN a.last_sync_duration_ms ELSE s.duration_ms END,
        last_sync_at = greatest(a.last_sync_at, s.last_sync_at),
        last_position_at = greatest(a.last_position_at, s.last_position_at),
        error_message = CASE WHEN s.error_at IS NULL OR s.error_at < a.error_at THEN a.error_message ELSE s.error_message END,
        error_at = greatest(a.error_at, s.error_at),
        ignored_rows = a.ignored_rows + s.ignored
    FROM guardwire.sum_syncs(rows) AS s
    WHERE a.user_id = s.user_id;
END
$$;
