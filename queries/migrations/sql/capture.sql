-- The capture: what a transaction touched is listed while it runs, and applied once, when it commits.
--
-- Listing takes no lock. At commit all accounts concerned are locked in one statement, in one order, so that writers of
-- many accounts cannot deadlock, and a revision is given under that lock, so that revision order is commit order.
-- Whatever fails leaves a note of the rows and never fails the writer. Not supported: SERIALIZABLE writers (their commit
-- may fail for reading what others wrote) and two-phase commit (a prepared transaction cannot notify).

-- Tokens of a long transaction, so that listing many rows one by one does not copy the whole list each time.
CREATE TABLE guardwire.capture_spill (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    nth bigint GENERATED ALWAYS AS IDENTITY,
    tokens text[] NOT NULL
);
CREATE INDEX capture_spill_xid ON guardwire.capture_spill (xid);
COMMENT ON TABLE guardwire.capture_spill IS 'Rows that a transaction still running has touched, when they are many';
COMMENT ON COLUMN guardwire.capture_spill.xid IS 'The writer''s transaction';
COMMENT ON COLUMN guardwire.capture_spill.nth IS 'Order in which they were listed';
COMMENT ON COLUMN guardwire.capture_spill.tokens IS 'As guardwire.list_touched takes them';

-- Adds to the transaction's list. A token is the source (l, e, g, i, x), i or u for inserted or updated, and the row's key.
CREATE FUNCTION guardwire.list_touched(tokens text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    listed text := current_setting('guardwire.touched', true);
    added text := array_to_string(tokens, E'\x1f');
BEGIN
    IF listed <> '' THEN
        added := listed || E'\x1f' || added;
    END IF;
    IF length(added) > 8000 THEN
        INSERT INTO guardwire.capture_spill (tokens) VALUES (string_to_array(added, E'\x1f'));
        added := '+';
    END IF;
    PERFORM set_config('guardwire.touched', added, true);
END
$$;

CREATE FUNCTION guardwire.touch_log() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM guardwire.list_touched(array_agg('l' || left(lower(TG_OP), 1) || t.id::text)) FROM touched AS t HAVING count(*) > 0;
    RETURN NULL;
END
$$;

CREATE FUNCTION guardwire.touch_equity() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM guardwire.list_touched(array_agg('e' || left(lower(TG_OP), 1) || t.id::text)) FROM touched AS t HAVING count(*) > 0;
    RETURN NULL;
END
$$;

CREATE FUNCTION guardwire.touch_limits() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM guardwire.list_touched(array_agg('gu' || t.user_id::text)) FROM touched AS t HAVING count(*) > 0;
    RETURN NULL;
END
$$;

CREATE FUNCTION guardwire.touch_instruments() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM guardwire.list_touched(array_agg('iu' || replace(t.symbol, E'\x1f', ''))) FROM touched AS t HAVING count(*) > 0;
    RETURN NULL;
END
$$;

CREATE FUNCTION guardwire.touch_fx() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM guardwire.list_touched(array_agg('xi' || t.id::text)) FROM touched AS t HAVING count(*) > 0;
    RETURN NULL;
END
$$;

-- The newest usable rate of each pair among these rows; the pairs that changed.
CREATE FUNCTION guardwire.apply_fx(ids uuid[], arrived_at timestamptz) RETURNS TABLE (base text, quote text)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH usable AS (
        SELECT DISTINCT ON (r.base, r.quote) r.base, r.quote, r.rate, r.at
        FROM (SELECT upper(guardwire.read_text(f.base::text, 16)) AS base, upper(guardwire.read_text(f.quote::text, 16)) AS quote,
                     guardwire.read_number(f.rate) AS rate, coalesce(guardwire.read_time(f.created_at), arrived_at) AS at, k.nth
              FROM unnest(ids) WITH ORDINALITY AS k (id, nth) JOIN public.fx_rates AS f ON f.id = k.id) AS r
        WHERE r.base IS NOT NULL AND r.quote IS NOT NULL AND r.rate > 0
        ORDER BY r.base, r.quote, r.at DESC, r.nth DESC
    ), ignored AS (
        INSERT INTO guardwire.ignored_rows (source, row_key, reason)
        SELECT 'fx', f.id::text, 'rate' FROM unnest(ids) AS k (id) JOIN public.fx_rates AS f ON f.id = k.id
        WHERE guardwire.read_text(f.base::text, 16) IS NULL OR guardwire.read_text(f.quote::text, 16) IS NULL
           OR coalesce(guardwire.read_number(f.rate), 0) <= 0
    )
    INSERT INTO guardwire.fx_current AS c (base, quote, rate, as_of)
    SELECT u.base, u.quote, u.rate, u.at FROM usable AS u ORDER BY u.base, u.quote
    ON CONFLICT ON CONSTRAINT fx_current_pkey DO UPDATE SET rate = excluded.rate, as_of = excluded.as_of
        WHERE c.as_of <= excluded.as_of
    RETURNING c.base, c.quote;
END
$$;

-- What syncs and errors make of their accounts.
CREATE FUNCTION guardwire.apply_syncs(rows guardwire.log_row[], arrived_at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE guardwire.accounts AS a
    SET total_syncs = a.total_syncs + s.syncs,
        source = CASE WHEN s.last_sync_at IS NULL THEN a.source ELSE 'live' END,
        last_sync_arrived_at = CASE WHEN s.last_sync_at IS NULL THEN a.last_sync_arrived_at ELSE arrived_at END,
        sync_due_at = CASE WHEN s.last_sync_at IS NULL THEN a.sync_due_at ELSE coalesce(a.sync_due_at, arrived_at) END,
        last_sync_duration_ms = CASE WHEN s.last_sync_at IS NULL OR s.last_sync_at < a.last_sync_at
                                     THEN a.last_sync_duration_ms ELSE s.duration_ms END,
        last_sync_at = greatest(a.last_sync_at, s.last_sync_at),
        last_position_at = greatest(a.last_position_at, s.last_position_at),
        error_message = CASE WHEN s.error_at IS NULL OR s.error_at < a.error_at THEN a.error_message ELSE s.error_message END,
        error_at = greatest(a.error_at, s.error_at),
        ignored_rows = a.ignored_rows + s.ignored
    FROM (SELECT r.user_id,
                 count(*) FILTER (WHERE r.is_sync AND r.inserted AND r.ticket IS NOT NULL) AS syncs,
                 max(r.at) FILTER (WHERE r.is_sync AND NOT r.failed AND r.ticket IS NOT NULL) AS last_sync_at,
                 (array_agg(r.duration_ms ORDER BY r.at DESC, r.revision DESC, r.ordinal DESC)
                     FILTER (WHERE r.is_sync AND NOT r.failed AND r.ticket IS NOT NULL))[1] AS duration_ms,
                 max(coalesce(r.updated_at, r.at)) FILTER (WHERE NOT r.failed AND r.ticket IS NOT NULL) AS last_position_at,
                 max(r.at) FILTER (WHERE r.ticket IS NOT NULL) AS error_at,
                 (array_agg(r.error_message ORDER BY r.at DESC, r.revision DESC, r.ordinal DESC)
                     FILTER (WHERE r.ticket IS NOT NULL))[1] AS error_message,
                 count(*) FILTER (WHERE r.ticket IS NULL) AS ignored
          FROM unnest(rows) AS r
          WHERE r.kind IN ('open', 'close')
          GROUP BY r.user_id) AS s
    WHERE a.user_id = s.user_id;
END
$$;

-- Applies rows of the log to accounts that are locked; sorted by account, ticket and arrival.
CREATE FUNCTION guardwire.apply_log(rows guardwire.log_row[], arrived_at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM guardwire.apply_positions(rows);
    PERFORM guardwire.apply_syncs(rows, arrived_at);
    PERFORM guardwire.apply_market(
        (SELECT coalesce(array_agg(r ORDER BY r.user_id, r.revision, r.ordinal), '{}') FROM unnest(rows) AS r WHERE r.kind = 'guard'),
        arrived_at);
    INSERT INTO guardwire.ignored_rows (source, row_key, user_id, reason)
    SELECT 'log', r.id::text, r.user_id, 'ticket' FROM unnest(rows) AS r WHERE r.kind IN ('open', 'close') AND r.ticket IS NULL;
END
$$;

-- Applies what an operator changed in an account's limits.
CREATE FUNCTION guardwire.apply_limits(accounts uuid[], arrived_at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    account uuid;
    a guardwire.accounts;
    l public.guard_limits;
    held guardwire.market_alerts;
    m guardwire.market_alerts;
BEGIN
    FOREACH account IN ARRAY accounts LOOP
        l := guardwire.limits_of(account);
        SELECT o.* INTO a FROM guardwire.accounts AS o WHERE o.user_id = account;
        CONTINUE WHEN NOT a.ready;
        IF a.peak_since IS DISTINCT FROM l.peak_since THEN
            PERFORM guardwire.read_peak(account, l.peak_since, '{}');
        END IF;
        UPDATE guardwire.accounts AS o SET sync_due_at = arrived_at WHERE o.user_id = account AND o.source = 'live';
        PERFORM guardwire.judge_drawdown(account, 'limits-' || a.revision, arrived_at, a.revision, 0);
        FOR held IN SELECT o.* FROM guardwire.market_alerts AS o WHERE o.user_id = account LOOP
            m := held;
            m.alert_type := guardwire.market_level(m.condition_type, m.gap_pct, m.spread_pct, l);
            m.expires_at := m.detected_at + make_interval(secs => l.alert_window_seconds);
            UPDATE guardwire.market_alerts AS o SET alert_type = m.alert_type, expires_at = m.expires_at
            WHERE o.user_id = account AND o.symbol = m.symbol AND o.condition_type = m.condition_type;
            PERFORM guardwire.note_market_level(held.alert_type, m, arrived_at);
        END LOOP;
    END LOOP;
END
$$;

-- Locks accounts in one order and gives each its next revision; an account that is new appears.
CREATE FUNCTION guardwire.lock_accounts(wanted uuid[]) RETURNS TABLE (user_id uuid, revision bigint, ready boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    INSERT INTO guardwire.accounts AS a (user_id, revision, ready)
    SELECT w.user_id, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, b.done OR b.listed
    FROM (SELECT DISTINCT u.user_id FROM unnest(wanted) AS u (user_id) WHERE u.user_id IS NOT NULL) AS w, guardwire.backfill AS b
    ORDER BY w.user_id
    ON CONFLICT ON CONSTRAINT accounts_pkey DO UPDATE SET revision = greatest(a.revision + 1, excluded.revision)
    RETURNING a.user_id, a.revision, a.ready;
END
$$;

-- Applies what a list of tokens names, in their order, as one commit.
CREATE FUNCTION guardwire.apply_tokens(tokens text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    arrived_at timestamptz := clock_timestamp();
    log_ids uuid[]; log_ordinals integer[]; log_inserted boolean[];
    equity_ids uuid[]; equity_ordinals integer[]; equity_inserted boolean[];
    limit_users uuid[]; symbols text[]; rates uuid[]; concerned uuid[];
    users uuid[]; revisions bigint[]; readies boolean[];
    rows guardwire.log_row[];
BEGIN
    SELECT array_agg(k.key::uuid) FILTER (WHERE k.source = 'l'), array_agg(k.ordinal) FILTER (WHERE k.source = 'l'),
           array_agg(k.inserted) FILTER (WHERE k.source = 'l'),
           array_agg(k.key::uuid) FILTER (WHERE k.source = 'e'), array_agg(k.ordinal) FILTER (WHERE k.source = 'e'),
           array_agg(k.inserted) FILTER (WHERE k.source = 'e'),
           array_agg(k.key::uuid) FILTER (WHERE k.source = 'g'), array_agg(k.key) FILTER (WHERE k.source = 'i'),
           array_agg(k.key::uuid ORDER BY k.ordinal) FILTER (WHERE k.source = 'x')
    INTO log_ids, log_ordinals, log_inserted, equity_ids, equity_ordinals, equity_inserted, limit_users, symbols, rates
    FROM (SELECT left(t.token, 1) AS source, substr(t.token, 3) AS key, max(t.nth)::integer AS ordinal,
                 bool_or(substr(t.token, 2, 1) = 'i') AS inserted
          FROM unnest(tokens) WITH ORDINALITY AS t (token, nth)
          GROUP BY 1, 2) AS k;

    IF rates IS NOT NULL THEN
        SELECT array_agg(DISTINCT p.user_id) INTO concerned
        FROM guardwire.apply_fx(rates, arrived_at) AS f
        JOIN guardwire.positions AS p ON p.is_open AND p.quote_currency IN (f.base, f.quote)
        JOIN guardwire.accounts AS a ON a.user_id = p.user_id AND a.currency IN (f.base, f.quote) AND a.currency <> p.quote_currency;
    END IF;
    IF symbols IS NOT NULL THEN
        SELECT concerned || array_agg(DISTINCT p.user_id) INTO concerned
        FROM guardwire.positions AS p WHERE p.is_open AND upper(p.symbol) = ANY (symbols);
    END IF;

    SELECT array_agg(a.user_id), array_agg(a.revision), array_agg(a.ready) INTO users, revisions, readies
    FROM guardwire.lock_accounts(concerned || limit_users
        || (SELECT array_agg(guardwire.read_user(l.user_id)) FROM unnest(log_ids) AS k (id) JOIN public.reconciliation_logs AS l ON l.id = k.id)
        || (SELECT array_agg(guardwire.read_user(e.user_id)) FROM unnest(equity_ids) AS k (id) JOIN public.equity_snapshots AS e ON e.id = k.id)
    ) AS a;

    IF symbols IS NOT NULL THEN
        PERFORM guardwire.apply_instruments(symbols);
    END IF;
    IF log_ids IS NOT NULL THEN
        SELECT array_agg(ROW(l.id, l.user_id, l.ticket, l.kind, l.failed, l.is_sync, coalesce(l.at, arrived_at), l.updated_at,
                             l.duration_ms, l.matched, l.symbol, l.direction, l.volume, l.entry_price, l.current_price, l.take_profit,
                             l.stop_loss, l.close_reason, l.closed_price, l.pnl_gbp, l.divergence_reason, l.error_message,
                             u.revision, k.ordinal, k.inserted)::guardwire.log_row
                         ORDER BY l.user_id, l.ticket, k.ordinal)
        INTO rows
        FROM unnest(log_ids, log_ordinals, log_inserted) AS k (id, ordinal, inserted)
        JOIN guardwire.log_rows() AS l ON l.id = k.id
        LEFT JOIN unnest(users, revisions) AS u (user_id, revision) ON u.user_id = l.user_id;
        PERFORM guardwire.record_arrivals(rows);
        SELECT array_agg(r ORDER BY r.user_id, r.ticket, r.ordinal) INTO rows
        FROM unnest(rows) AS r JOIN unnest(users, readies) AS u (user_id, ready) ON u.user_id = r.user_id AND u.ready;
        IF rows IS NOT NULL THEN
            PERFORM guardwire.apply_log(rows, arrived_at);
        END IF;
    END IF;
    IF limit_users IS NOT NULL THEN
        PERFORM guardwire.apply_limits(limit_users, arrived_at);
    END IF;
    IF equity_ids IS NOT NULL THEN
        PERFORM guardwire.ignore_equity_of_nobody(equity_ids);
        PERFORM guardwire.record_equity_arrivals(equity_ids, equity_ordinals, equity_inserted, users, revisions);
        PERFORM guardwire.apply_equity(equity_ids, equity_ordinals, equity_inserted);
    END IF;
    PERFORM guardwire.notify_nodes(users, revisions);
END
$$;

-- Writes down in which order rows arrived, and which can be of nobody.
CREATE FUNCTION guardwire.record_arrivals(rows guardwire.log_row[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO guardwire.ignored_rows (source, row_key, reason)
    SELECT 'log', r.id::text, 'user' FROM unnest(rows) AS r WHERE r.user_id IS NULL;
    INSERT INTO guardwire.arrivals (user_id, revision, ordinal, log_id, inserted)
    SELECT r.user_id, r.revision, r.ordinal, r.id, r.inserted FROM unnest(rows) AS r WHERE r.user_id IS NOT NULL;
END
$$;

CREATE FUNCTION guardwire.ignore_equity_of_nobody(ids uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO guardwire.ignored_rows (source, row_key, reason)
    SELECT 'equity', e.id::text, 'user' FROM unnest(ids) AS k (id) JOIN guardwire.equity_rows() AS e ON e.id = k.id
    WHERE e.user_id IS NULL;
END
$$;

-- What one lot of these symbols is has changed.
CREATE FUNCTION guardwire.apply_instruments(symbols text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE guardwire.positions AS p
    SET contract_size = coalesce(i.contract_size, 1), contract_size_assumed = i.symbol IS NULL,
        quote_currency = coalesce(i.quote_currency, a.currency, 'USD'),
        pnl = guardwire.pnl(p.direction, p.volume, p.entry_price, p.current_price, coalesce(i.contract_size, 1))
    FROM unnest(symbols) AS s (symbol) LEFT JOIN public.instruments AS i ON i.symbol = s.symbol, guardwire.accounts AS a
    WHERE upper(p.symbol) = s.symbol AND p.is_open AND a.user_id = p.user_id;
END
$$;

-- Hints for the nodes: in chunks that fit, and none while the queue is half full, for a full queue would fail writers.
CREATE FUNCTION guardwire.notify_nodes(users uuid[], revisions bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    chunk text;
BEGIN
    IF users IS NULL OR NOT (SELECT c.notify FROM guardwire.configuration AS c) OR pg_notification_queue_usage() >= 0.5 THEN
        RETURN;
    END IF;
    FOR chunk IN
        SELECT string_agg(u.user_id::text || '=' || u.revision::text, ',')
        FROM unnest(users, revisions) WITH ORDINALITY AS u (user_id, revision, nth)
        GROUP BY (u.nth - 1) / 100
    LOOP
        PERFORM pg_notify('guardwire', chunk);
    END LOOP;
END
$$;

-- At commit: applies the whole list at the first firing; the others of the transaction find it empty.
CREATE FUNCTION guardwire.capture_commit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    listed text := current_setting('guardwire.touched', true);
    found_tokens text[];
BEGIN
    IF listed IS NULL OR listed = '' THEN
        RETURN NULL;
    END IF;
    PERFORM set_config('guardwire.touched', '', true);
    found_tokens := string_to_array(listed, E'\x1f');
    IF found_tokens[1] = '+' THEN
        WITH spilled AS (DELETE FROM guardwire.capture_spill AS s WHERE s.xid = pg_current_xact_id() RETURNING s.nth, s.tokens)
        SELECT array_agg(t.token ORDER BY s.nth, t.nth) || found_tokens[2:] INTO found_tokens
        FROM spilled AS s, unnest(s.tokens) WITH ORDINALITY AS t (token, nth) WHERE t.token <> '+';
    END IF;
    BEGIN
        PERFORM guardwire.apply_tokens(found_tokens);
    EXCEPTION WHEN OTHERS THEN
        INSERT INTO guardwire.capture_notes (source, row_key, inserted, sqlstate, message)
        SELECT left(t.token, 1), substr(t.token, 3), substr(t.token, 2, 1) = 'i', SQLSTATE, left(SQLERRM, 500)
        FROM unnest(found_tokens) WITH ORDINALITY AS t (token, nth) ORDER BY t.nth;
    END;
    RETURN NULL;
END
$$;

-- Every source has a trigger that lists, for each kind of change, and one that waits for the commit.
DO $$
DECLARE
    source record;
BEGIN
    FOR source IN VALUES ('reconciliation_logs', 'touch_log', 'INSERT OR UPDATE'), ('equity_snapshots', 'touch_equity', 'INSERT OR UPDATE'),
                         ('guard_limits', 'touch_limits', 'INSERT OR UPDATE OR DELETE'),
                         ('instruments', 'touch_instruments', 'INSERT OR UPDATE OR DELETE'), ('fx_rates', 'touch_fx', 'INSERT OR UPDATE')
    LOOP
        EXECUTE format('CREATE TRIGGER guardwire_insert AFTER INSERT ON public.%I REFERENCING NEW TABLE AS touched'
                       ' FOR EACH STATEMENT EXECUTE FUNCTION guardwire.%I()', source.column1, source.column2);
        EXECUTE format('CREATE TRIGGER guardwire_update AFTER UPDATE ON public.%I REFERENCING NEW TABLE AS touched'
                       ' FOR EACH STATEMENT EXECUTE FUNCTION guardwire.%I()', source.column1, source.column2);
        IF source.column3 LIKE '%DELETE%' THEN
            EXECUTE format('CREATE TRIGGER guardwire_delete AFTER DELETE ON public.%I REFERENCING OLD TABLE AS touched'
                           ' FOR EACH STATEMENT EXECUTE FUNCTION guardwire.%I()', source.column1, source.column2);
        END IF;
        EXECUTE format('CREATE CONSTRAINT TRIGGER guardwire_commit AFTER %s ON public.%I DEFERRABLE INITIALLY DEFERRED'
                       ' FOR EACH ROW EXECUTE FUNCTION guardwire.capture_commit()', source.column3, source.column1);
    END LOOP;
END
$$;
