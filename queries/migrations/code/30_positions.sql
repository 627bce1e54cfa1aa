-- The position rules: what rows about positions make of the open book.

-- Profit for a rise of 1 in the price; null when unknown.
CREATE OR REPLACE FUNCTION guardwire.point_value(direction text, volume numeric, contract_size numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE direction WHEN 'buy' THEN volume * contract_size WHEN 'sell' THEN -volume * contract_size END;

-- Price change that is 1 % in the position's favour; null when unknown.
CREATE OR REPLACE FUNCTION guardwire.pct_unit(direction text, entry_price numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE direction WHEN 'buy' THEN abs(entry_price) * 0.01 WHEN 'sell' THEN abs(entry_price) * -0.01 END;

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
    direct guardwire.fx_current;
    inverse guardwire.fx_current;
BEGIN
    IF quote_currency <> account_currency THEN
        SELECT fx.* INTO direct FROM guardwire.fx_current AS fx
        WHERE fx.base = quote_currency AND fx.quote = account_currency;
        SELECT fx.* INTO inverse FROM guardwire.fx_current AS fx
        WHERE fx.base = account_currency AND fx.quote = quote_currency;
        RETURN round(CASE WHEN direct.as_of >= coalesce(inverse.as_of, direct.as_of) THEN pnl * direct.rate
                          WHEN inverse.rate IS NOT NULL THEN pnl * 1.00000000 / inverse.rate
                          ELSE pnl END, 2);
    END IF;
    RETURN round(pnl, 2);
END
$$;

-- Computes the columns that follow from a position's state. A plain sync is applied without the bounds of pnl and pnl_pct,
-- so a position that could reach them loses its fingerprint. A position that the platform no longer mentioned loses it too, because
-- its next row ends the mark.
CREATE OR REPLACE FUNCTION guardwire.recompute_position(p guardwire.positions) RETURNS guardwire.positions
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    p.point_value := guardwire.point_value(p.direction, p.volume, p.contract_size);
    p.pct_unit := guardwire.pct_unit(p.direction, p.entry_price);
    p.pnl := guardwire.pnl(p.entry_price, p.current_price, p.point_value);
    p.pnl_pct := guardwire.pnl_pct(p.entry_price, p.current_price, p.pct_unit);
    IF NOT p.is_open OR p.unconfirmed_since IS NOT NULL
       OR (abs(p.point_value) < 1e7 AND abs(p.entry_price) < 1e6 AND abs(p.pct_unit) >= 2e-7) IS NOT TRUE THEN
        p.fingerprint := NULL;
    END IF;
    RETURN p;
END
$$;

-- The contract that a symbol means: the one of that name, else of the name without a leading #, else of the longest name that the
-- symbol begins with. The rest is a broker's decoration: up to five characters that begin with a punctuation mark or are lower case.
CREATE OR REPLACE FUNCTION guardwire.find_contract(written text) RETURNS guardwire.contracts LANGUAGE plpgsql STABLE AS $$
DECLARE
    bare text := CASE WHEN left(written, 1) = '#' THEN substr(written, 2) ELSE written END;
    c guardwire.contracts;
BEGIN
    SELECT i.* INTO c
    FROM (SELECT 0 AS cut, guardwire.fold(written) AS name
          UNION ALL SELECT 1, guardwire.fold(bare)
          UNION ALL SELECT 1 + s.cut, guardwire.fold(left(bare, -s.cut)) FROM generate_series(1, 5) AS s (cut)
                    WHERE right(bare, s.cut) COLLATE "C" ~ '^([!-/:-@[-`{-~]|[a-z]+$)') AS n
    JOIN guardwire.contracts AS i ON i.symbol = n.name
    ORDER BY n.cut LIMIT 1;
    RETURN c;
END
$$;

-- Sets what one lot of the position's symbol is.
CREATE OR REPLACE FUNCTION guardwire.set_instrument(p guardwire.positions) RETURNS guardwire.positions
LANGUAGE plpgsql STABLE AS $$
DECLARE
    c guardwire.contracts := guardwire.find_contract(p.symbol);
BEGIN
    p.instrument := c.symbol;
    p.contract_size := c.contract_size;
    p.quote_currency := c.quote_currency;
    p.contract_size_assumed := c.symbol IS NULL;
    IF p.contract_size_assumed THEN
        p.contract_size := 1;
        p.quote_currency := coalesce((SELECT a.currency FROM guardwire.accounts AS a WHERE a.user_id = p.user_id), 'USD');
    END IF;
    RETURN p;
END
$$;

-- Makes a row the position's state. The first row of a position that opens brings its price with it; a later row without a usable
-- price keeps the last one that was known.
CREATE OR REPLACE FUNCTION guardwire.set_state(p guardwire.positions, r guardwire.log_row, opens boolean)
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
    p.current_price := CASE WHEN opens OR guardwire.fold(p.symbol) IS DISTINCT FROM guardwire.fold(r.symbol) THEN r.current_price
                            ELSE coalesce(r.current_price, p.current_price) END;
    p.take_profit := r.take_profit;
    p.stop_loss := r.stop_loss;
    p.divergence_reason := r.divergence_reason;
    p.fingerprint := r.fingerprint;
    p.state_at := r.at;
    p.state_revision := r.revision;
    p.state_ordinal := r.ordinal;
    p.updated_at := coalesce(r.updated_at, r.at);
    p.older_rows := NULL;
    p.unconfirmed_since := NULL;
    IF opens OR p.symbol IS DISTINCT FROM r.symbol THEN
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
           n.divergence_reason, n.notice, n.detail
    FROM (SELECT u.*, row_number() OVER (PARTITION BY user_id ORDER BY created_at DESC, revision DESC, ordinal DESC) AS place,
                 row_number() OVER (PARTITION BY user_id, event_id ORDER BY revision DESC, ordinal DESC) AS version
          FROM unnest(added) AS u) AS n
    WHERE n.place <= 5 AND n.version = 1
    ON CONFLICT (user_id, event_id) DO UPDATE
        SET event_type = excluded.event_type, created_at = excluded.created_at, revision = excluded.revision,
            ordinal = excluded.ordinal, symbol = excluded.symbol, ticket = excluded.ticket, matched = excluded.matched,
            pnl_gbp = excluded.pnl_gbp, divergence_reason = excluded.divergence_reason, notice = excluded.notice,
            detail = excluded.detail;
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
            point_value = p.point_value, pct_unit = p.pct_unit, fingerprint = p.fingerprint, pnl = p.pnl, pnl_pct = p.pnl_pct,
            older_rows = p.older_rows, unconfirmed_since = p.unconfirmed_since, instrument = p.instrument
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
    IF NOT opens AND p.matched = r.matched AND guardwire.fold(p.symbol) IS NOT DISTINCT FROM guardwire.fold(r.symbol)
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
            ELSE
                p.older_rows := NULL;
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
            p.older_rows := NULL;
            p.unconfirmed_since := NULL;
            p.last_close_at := greatest(p.last_close_at, r.at);
        END IF;
        p.entry_time := least(p.entry_time, r.at);

        IF event IS NOT NULL THEN
            events := events || ROW(r.user_id, r.id::text, event, r.at, r.revision, r.ordinal, r.symbol, r.ticket,
                                    r.matched, r.pnl_gbp, r.divergence_reason, NULL, NULL)::guardwire.events;
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

-- ---------------------------------------------------------------- the platform's clock

DROP TYPE IF EXISTS guardwire.clock_sign CASCADE;
CREATE TYPE guardwire.clock_sign AS (at timestamptz, arrived_at timestamptz, revision bigint, ordinal integer);
COMMENT ON TYPE guardwire.clock_sign IS 'A row that says something of an account''s clock; columns as in guardwire.log_row';

DROP TYPE IF EXISTS guardwire.clock_signs CASCADE;
CREATE TYPE guardwire.clock_signs AS (ignored guardwire.clock_sign, latest guardwire.clock_sign, ticketless guardwire.clock_sign);
COMMENT ON TYPE guardwire.clock_signs IS 'Rows of the log, or of equity, that decide whether an account''s clock is in doubt; each is the last to arrive of its kind';
COMMENT ON COLUMN guardwire.clock_signs.ignored IS 'Ignored as older, and a clock that went back would explain it';
COMMENT ON COLUMN guardwire.clock_signs.latest IS 'About a position, or accepted as equity: the one that counts at the latest time';
COMMENT ON COLUMN guardwire.clock_signs.ticketless IS 'The same of the syncs without a ticket';

-- The sign that counts later, or arrived later where both count at the same time.
CREATE OR REPLACE FUNCTION guardwire.later_sign(one guardwire.clock_sign, other guardwire.clock_sign) RETURNS guardwire.clock_sign
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN (one).at IS NULL OR ((other).at, (other).revision, (other).ordinal) > ((one).at, (one).revision, (one).ordinal)
                THEN other ELSE one END;

-- The signs of the log after some more rows, which were settled and arrived later than those before.
CREATE OR REPLACE FUNCTION guardwire.add_signs(signs guardwire.clock_signs, rows guardwire.log_row[]) RETURNS guardwire.clock_signs
LANGUAGE plpgsql STABLE AS $$
DECLARE
    r record;
BEGIN
    FOR r IN
        SELECT u.is_older, u.is_loop, ROW(u.at, u.arrived_at, u.revision, u.ordinal)::guardwire.clock_sign AS sign
        FROM unnest(rows) AS u
        WHERE u.kind IN ('open', 'close') AND (u.ticket IS NOT NULL OR u.is_loop)
          AND (NOT u.is_older OR guardwire.is_doubtful(u.created_at, u.arrived_at))
        ORDER BY u.revision, u.ordinal
    LOOP
        IF r.is_older THEN
            signs.ignored := r.sign;
        ELSIF r.is_loop THEN
            signs.ticketless := guardwire.later_sign(signs.ticketless, r.sign);
        ELSE
            signs.latest := guardwire.later_sign(signs.latest, r.sign);
        END IF;
    END LOOP;
    RETURN signs;
END
$$;

-- Notes that a row was ignored as older: from the first such row on the account is in doubt, if a clock that went back can explain
-- it.
CREATE OR REPLACE FUNCTION guardwire.doubt_clock(account uuid, created_at timestamptz, arrived_at timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE guardwire.accounts AS a SET clock_doubted_at = coalesce(a.clock_doubted_at, doubt_clock.arrived_at)
    WHERE a.user_id = account AND guardwire.is_doubtful(created_at, doubt_clock.arrived_at);
END
$$;

-- Ends the doubt when a row counts at a time that is not before any row of the account: the clock did not go back, or is known.
CREATE OR REPLACE FUNCTION guardwire.end_doubt(account uuid, at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE guardwire.accounts AS a SET clock_doubted_at = NULL
    WHERE a.user_id = account AND a.clock_doubted_at IS NOT NULL AND (at < greatest(a.error_at, a.equity_at)) IS NOT TRUE;
END
$$;

-- Notes that the platform's clock went back: from this arrival on the account's rows count at their arrival.
CREATE OR REPLACE FUNCTION guardwire.note_step(account uuid, arrived_at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE guardwire.accounts AS a
    SET clock_stepped_at = least(a.clock_stepped_at, note_step.arrived_at), clock_doubted_at = NULL
    WHERE a.user_id = account;
END
$$;

-- Settles at what time a row counts, by the account's clock as it is known now. The window of a guard trigger is measured by the
-- clock of this database: by a clock that is hours behind it would be over when the row arrives.
CREATE OR REPLACE FUNCTION guardwire.date_row(r guardwire.log_row) RETURNS guardwire.log_row LANGUAGE plpgsql STABLE AS $$
DECLARE
    a guardwire.accounts;
BEGIN
    SELECT o.* INTO a FROM guardwire.accounts AS o WHERE o.user_id = r.user_id;
    r.at := guardwire.effective_time(r.created_at, r.arrived_at, a.clock_stepped_at);
    r.window_from := least(r.at + make_interval(secs => greatest(a.clock_offset_seconds, 0)), r.arrived_at);
    RETURN r;
END
$$;

-- Whether what is known of an account's clock can change with these rows, which also hold a guard trigger of the account.
CREATE OR REPLACE FUNCTION guardwire.clock_moves(rows guardwire.log_row[]) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM unnest(rows) AS g JOIN guardwire.accounts AS a ON a.user_id = g.user_id
        WHERE g.kind = 'guard'
          AND (a.recent_offsets IS NOT NULL OR EXISTS (
               SELECT FROM unnest(rows) AS u
               WHERE u.user_id = g.user_id AND u.is_sync AND NOT guardwire.clock_agrees(
                         (extract(epoch FROM u.arrived_at - u.created_at) * 1000000)::bigint, a.clock_offset_seconds))));
END
$$;

-- Whether some row is older than one that was applied before it, or than one before it in `rows`: of its position, or of the
-- syncs without a ticket.
CREATE OR REPLACE FUNCTION guardwire.any_older(rows guardwire.log_row[]) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM (SELECT u.user_id, u.ticket, u.at,
                            max(u.at) OVER (PARTITION BY u.user_id, u.ticket ORDER BY u.revision, u.ordinal
                                            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
                     FROM unnest(rows) AS u
                     WHERE (u.kind = 'open' AND u.ticket IS NOT NULL AND NOT u.failed) OR (u.kind = 'close' AND u.ticket IS NOT NULL)
                           OR u.is_loop) AS r
        LEFT JOIN guardwire.positions AS p ON p.user_id = r.user_id AND p.ticket = r.ticket
        JOIN guardwire.accounts AS a ON a.user_id = r.user_id
        WHERE r.at < greatest(r.before, CASE WHEN r.ticket IS NULL THEN a.last_loop_at
                                             WHEN p.is_open THEN p.state_at ELSE p.last_close_at END));
END
$$;

-- Applies the rows about positions, and returns all rows as settled: at what time each counts, and whether it was ignored as
-- older. Rows are sorted by account, ticket and arrival. Where one is older, or shows another clock, what becomes of the next ones
-- depends on it, so all are taken one by one, in the order of their arrival.
CREATE OR REPLACE FUNCTION guardwire.settle_rows(rows guardwire.log_row[]) RETURNS guardwire.log_row[] LANGUAGE plpgsql AS $$
DECLARE
    settled guardwire.log_row[] := '{}';
    r guardwire.log_row;
BEGIN
    IF EXISTS (SELECT FROM unnest(rows) AS u JOIN guardwire.accounts AS a ON a.user_id = u.user_id
               WHERE a.clock_stepped_at IS NOT NULL OR a.clock_offset_seconds > 0) THEN
        rows := ARRAY(SELECT guardwire.date_row(u) FROM unnest(rows) AS u ORDER BY u.user_id, u.ticket, u.revision, u.ordinal);
    END IF;
    IF guardwire.any_older(rows) OR guardwire.clock_moves(rows) THEN
        FOR r IN SELECT u.* FROM unnest(rows) AS u ORDER BY u.user_id, u.revision, u.ordinal LOOP
            r := guardwire.settle_row(r);
            PERFORM guardwire.follow_clock(ARRAY[r]);
            settled := settled || r;
        END LOOP;
        RETURN settled;
    END IF;
    PERFORM guardwire.end_doubt(u.user_id, max(u.at)) FROM unnest(rows) AS u
    WHERE u.kind IN ('open', 'close') AND (u.ticket IS NOT NULL OR u.is_loop) GROUP BY u.user_id;
    PERFORM guardwire.apply_positions(rows);
    UPDATE guardwire.accounts AS a SET older_syncs = NULL, last_loop_at = greatest(a.last_loop_at, o.at)
    FROM (SELECT u.user_id, max(u.at) AS at FROM unnest(rows) AS u WHERE u.is_loop GROUP BY u.user_id) AS o
    WHERE a.user_id = o.user_id;
    PERFORM guardwire.follow_clock(rows);
    RETURN rows;
END
$$;

-- The same of one row.
CREATE OR REPLACE FUNCTION guardwire.settle_row(r guardwire.log_row) RETURNS guardwire.log_row LANGUAGE plpgsql AS $$
BEGIN
    r := guardwire.date_row(r);
    IF r.kind IS NULL OR r.kind = 'guard' OR (r.ticket IS NULL AND NOT r.is_loop) THEN
        RETURN r;
    END IF;
    IF NOT r.failed AND r.kind = 'open' THEN
        r := CASE WHEN r.ticket IS NULL THEN guardwire.place_loop(r) ELSE guardwire.place_row(r) END;
    END IF;
    IF NOT r.is_older THEN
        PERFORM guardwire.end_doubt(r.user_id, r.at);
        PERFORM guardwire.apply_positions(ARRAY[r]);
        UPDATE guardwire.accounts AS a SET error_at = greatest(a.error_at, r.at)
        WHERE a.user_id = r.user_id AND r.ticket IS NOT NULL;
    END IF;
    RETURN r;
END
$$;

-- Compares an open row with its position. A row that is ignored as older is noted in the position. The third one that agrees shows
-- that the clock went back, and becomes the state although the position has a later time.
CREATE OR REPLACE FUNCTION guardwire.place_row(r guardwire.log_row) RETURNS guardwire.log_row LANGUAGE plpgsql AS $$
DECLARE
    p guardwire.positions;
    run bigint[];
BEGIN
    SELECT o.* INTO p FROM guardwire.positions AS o WHERE o.user_id = r.user_id AND o.ticket = r.ticket;
    IF (r.at < CASE WHEN p.is_open THEN p.state_at ELSE p.last_close_at END) IS NOT TRUE THEN
        RETURN r;
    END IF;
    run := guardwire.note_older(p.older_rows, r.created_at, r.arrived_at);
    IF guardwire.has_stepped(run) THEN
        PERFORM guardwire.note_step(r.user_id, r.arrived_at);
        r.at := r.arrived_at;
        UPDATE guardwire.positions AS o
        SET older_rows = NULL, state_at = least(o.state_at, r.at), last_close_at = least(o.last_close_at, r.at - interval '1 microsecond')
        WHERE o.user_id = r.user_id AND o.ticket = r.ticket;
    ELSE
        r.is_older := true;
        PERFORM guardwire.doubt_clock(r.user_id, r.created_at, r.arrived_at);
        UPDATE guardwire.positions AS o SET older_rows = run, entry_time = least(o.entry_time, r.at)
        WHERE o.user_id = r.user_id AND o.ticket = r.ticket;
    END IF;
    RETURN r;
END
$$;

-- The same of a sync without a ticket, which is compared with the last one of its kind.
CREATE OR REPLACE FUNCTION guardwire.place_loop(r guardwire.log_row) RETURNS guardwire.log_row LANGUAGE plpgsql AS $$
DECLARE
    a guardwire.accounts;
    run bigint[];
BEGIN
    SELECT o.* INTO a FROM guardwire.accounts AS o WHERE o.user_id = r.user_id;
    IF r.at < a.last_loop_at THEN
        run := guardwire.note_older(a.older_syncs, r.created_at, r.arrived_at);
        r.is_older := guardwire.has_stepped(run) IS NOT TRUE;
        IF r.is_older THEN
            PERFORM guardwire.doubt_clock(r.user_id, r.created_at, r.arrived_at);
        ELSE
            PERFORM guardwire.note_step(r.user_id, r.arrived_at);
            r.at := r.arrived_at;
            run := NULL;
        END IF;
    END IF;
    UPDATE guardwire.accounts AS o
    SET older_syncs = run, last_loop_at = CASE WHEN r.is_older THEN o.last_loop_at ELSE r.at END
    WHERE o.user_id = r.user_id;
    RETURN r;
END
$$;

-- Whether a sync's offset (arrival less created_at, in microseconds) agrees with what is said of the clock: within 30 s of it, or
-- within a minute of 0 where nothing is said.
CREATE OR REPLACE FUNCTION guardwire.clock_agrees(late_us bigint, said integer) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN abs(late_us - coalesce(said, 0) * 1000000::bigint) <= CASE WHEN said IS NULL THEN 60000000 ELSE 30000000 END;

-- A clock's offset in words, to the minute: rows take a moment to arrive.
CREATE OR REPLACE FUNCTION guardwire.describe_offset(seconds integer) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN seconds IS NULL THEN 'The platform''s clock is right again'
            ELSE concat('The platform''s clock is ',
                        concat_ws(' ', CASE WHEN abs(seconds) >= 3570 THEN (abs(seconds) + 30) / 3600 || ' h' END,
                                  CASE WHEN (abs(seconds) + 30) / 60 % 60 > 0 THEN (abs(seconds) + 30) / 60 % 60 || ' min' END),
                        CASE WHEN seconds < 0 THEN ' ahead' ELSE ' behind' END) END;

-- Follows the median of the last five syncs' offsets. A sync that is more than 26 h old is an import and says nothing about the
-- clock. While every one of the five agrees with what is said they are not kept: the median of five cannot leave the range
-- before three of them have.
CREATE OR REPLACE FUNCTION guardwire.follow_clock(rows guardwire.log_row[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    r record;
BEGIN
    FOR r IN
        SELECT s.*
        FROM (SELECT u.user_id, u.id, u.ticket, u.symbol, u.revision, u.ordinal, u.arrived_at,
                     (extract(epoch FROM u.arrived_at - u.created_at) * 1000000)::bigint AS late_us,
                     bool_or(a.recent_offsets IS NOT NULL OR NOT guardwire.clock_agrees(
                                 (extract(epoch FROM u.arrived_at - u.created_at) * 1000000)::bigint, a.clock_offset_seconds))
                         OVER (PARTITION BY u.user_id) AS is_needed
              FROM unnest(rows) AS u JOIN guardwire.accounts AS a ON a.user_id = u.user_id
              WHERE u.is_sync AND u.inserted AND u.revision > 0 AND NOT u.failed AND (u.ticket IS NOT NULL OR u.is_loop)
                AND u.arrived_at - u.created_at <= interval '26 hours') AS s
        WHERE s.is_needed ORDER BY s.user_id, s.revision, s.ordinal
    LOOP
        PERFORM guardwire.add_offset(r.user_id, r.late_us, concat('clock-', r.id), r.arrived_at, r.revision, r.ordinal);
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION guardwire.add_offset(
    account uuid, late_us bigint, cause text, arrived_at timestamptz, revision bigint, ordinal integer
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    said integer;
    recent bigint[];
    median bigint;
    new_said integer;
BEGIN
    SELECT a.clock_offset_seconds, a.recent_offsets INTO said, recent FROM guardwire.accounts AS a WHERE a.user_id = account;
    new_said := said;
    recent := (coalesce(recent, array_fill(coalesce(said, 0) * 1000000::bigint, ARRAY[5])))[2:5] || late_us;
    median := (SELECT o.late FROM unnest(recent) AS o (late) ORDER BY o.late OFFSET 2 LIMIT 1);
    IF abs(median - coalesce(said, 0) * 1000000::bigint) > 30000000 THEN
        new_said := CASE WHEN abs(median) > 60000000 THEN round(median / 1000000.0) END;
    END IF;
    IF (SELECT bool_and(guardwire.clock_agrees(o.late, new_said)) FROM unnest(recent) AS o (late)) THEN
        recent := NULL;
    END IF;
    UPDATE guardwire.accounts AS a SET clock_offset_seconds = new_said, recent_offsets = recent WHERE a.user_id = account;
    IF new_said IS DISTINCT FROM said THEN
        PERFORM guardwire.add_events(ARRAY[ROW(
            account, cause, 'position_synced', arrived_at, revision, ordinal, NULL, NULL, NULL, NULL, NULL, 'clock_offset',
            guardwire.describe_offset(new_said))::guardwire.events]);
    END IF;
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
           count(*) FILTER (WHERE r.is_sync AND r.inserted AND (r.ticket IS NOT NULL OR r.is_loop)),
           max(r.at) FILTER (WHERE r.is_alive),
           max(r.arrived_at) FILTER (WHERE r.is_alive),
           (array_agg(r.duration_ms ORDER BY r.at DESC, r.revision DESC, r.ordinal DESC) FILTER (WHERE r.is_alive))[1],
           max(coalesce(r.updated_at, r.at)) FILTER (WHERE NOT r.failed AND r.ticket IS NOT NULL),
           max(r.at) FILTER (WHERE r.ticket IS NOT NULL),
           (array_agg(r.error_message ORDER BY r.at DESC, r.revision DESC, r.ordinal DESC)
               FILTER (WHERE r.ticket IS NOT NULL))[1],
           count(*) FILTER (WHERE r.ticket IS NULL AND NOT r.is_loop)
    -- A row that was ignored as older is no sign of life: the platform may go on with a clock that went back.
    FROM (SELECT u.*, u.is_sync AND NOT u.failed AND NOT u.is_older AND (u.ticket IS NOT NULL OR u.is_loop) AS is_alive
          FROM unnest(rows) AS u WHERE u.kind IN ('open', 'close')) AS r
    GROUP BY r.user_id
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
