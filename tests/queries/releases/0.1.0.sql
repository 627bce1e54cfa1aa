--
-- PostgreSQL database dump
--



SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: guardwire; Type: SCHEMA; Schema: -; Owner: -
--

CREATE SCHEMA guardwire;


--
-- Name: SCHEMA guardwire; Type: COMMENT; Schema: -; Owner: -
--

COMMENT ON SCHEMA guardwire IS 'Current account state that Guardwire derives from the platform''s tables; written by its triggers alone';


--
-- Name: equity_row; Type: TYPE; Schema: guardwire; Owner: -
--

CREATE TYPE guardwire.equity_row AS (
	id uuid,
	user_id uuid,
	equity numeric,
	balance numeric,
	currency text,
	cash_flow numeric,
	at timestamp with time zone
);


--
-- Name: TYPE equity_row; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON TYPE guardwire.equity_row IS 'A row of equity_snapshots as read';


--
-- Name: equity_state; Type: TYPE; Schema: guardwire; Owner: -
--

CREATE TYPE guardwire.equity_state AS (
	equity numeric,
	balance numeric,
	currency text,
	at timestamp with time zone,
	flow numeric,
	peak numeric
);


--
-- Name: TYPE equity_state; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON TYPE guardwire.equity_state IS 'What an account''s equity on record comes to: its latest row, all cash flows, and the highest equity less the flows up to it';


--
-- Name: fx_row; Type: TYPE; Schema: guardwire; Owner: -
--

CREATE TYPE guardwire.fx_row AS (
	id uuid,
	base text,
	quote text,
	rate numeric,
	at timestamp with time zone
);


--
-- Name: TYPE fx_row; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON TYPE guardwire.fx_row IS 'A row of fx_rates as read; the rate is positive or null';


--
-- Name: log_row; Type: TYPE; Schema: guardwire; Owner: -
--

CREATE TYPE guardwire.log_row AS (
	id uuid,
	user_id uuid,
	ticket bigint,
	kind text,
	failed boolean,
	is_sync boolean,
	at timestamp with time zone,
	updated_at timestamp with time zone,
	duration_ms double precision,
	matched smallint,
	symbol text,
	direction text,
	volume numeric,
	entry_price numeric,
	current_price numeric,
	take_profit numeric,
	stop_loss numeric,
	close_reason text,
	closed_price numeric,
	pnl_gbp numeric,
	divergence_reason text,
	error_message text,
	fingerprint bigint,
	revision bigint,
	ordinal integer,
	inserted boolean
);


--
-- Name: TYPE log_row; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON TYPE guardwire.log_row IS 'A row of reconciliation_logs as read, with its arrival';


--
-- Name: COLUMN log_row.kind; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.log_row.kind IS 'open or close (about a position), guard, or null';


--
-- Name: COLUMN log_row.at; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.log_row.at IS 'created_at; null when unusable, and then the time of arrival counts';


--
-- Name: COLUMN log_row.duration_ms; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.log_row.duration_ms IS 'updated_at - created_at; null unless positive';


--
-- Name: COLUMN log_row.fingerprint; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.log_row.fingerprint IS 'Of all that a sync row says but prices and times; as in positions';


--
-- Name: COLUMN log_row.revision; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.log_row.revision IS 'Revision that it arrived with; 0 when it was there before the capture';


--
-- Name: sync_sums; Type: TYPE; Schema: guardwire; Owner: -
--

CREATE TYPE guardwire.sync_sums AS (
	user_id uuid,
	syncs bigint,
	last_sync_at timestamp with time zone,
	duration_ms double precision,
	last_position_at timestamp with time zone,
	error_at timestamp with time zone,
	error_message text,
	ignored bigint
);


--
-- Name: TYPE sync_sums; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON TYPE guardwire.sync_sums IS 'What a batch of rows adds to an account; named as in guardwire.accounts';


SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: events; Type: TABLE; Schema: guardwire; Owner: -
--

CREATE TABLE guardwire.events (
    user_id uuid NOT NULL,
    event_id text NOT NULL,
    event_type text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    revision bigint NOT NULL,
    ordinal integer NOT NULL,
    symbol text,
    ticket bigint,
    matched smallint,
    pnl_gbp numeric,
    divergence_reason text
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.1', autovacuum_vacuum_cost_delay='0');


--
-- Name: TABLE events; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON TABLE guardwire.events IS 'Newest 5 events of each account';


--
-- Name: COLUMN events.user_id; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.events.user_id IS 'Whose account';


--
-- Name: COLUMN events.event_id; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.events.event_id IS 'Id of the log or equity row, or limits-<revision>';


--
-- Name: COLUMN events.event_type; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.events.event_type IS 'position_synced, position_matched, divergence_detected, position_closed, drawdown_alert or market_condition_alert';


--
-- Name: COLUMN events.created_at; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.events.created_at IS 'Time of the row';


--
-- Name: COLUMN events.revision; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.events.revision IS 'Revision that the row arrived with; 0 in a backfill';


--
-- Name: COLUMN events.ordinal; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.events.ordinal IS 'Order of the row within its transaction';


--
-- Name: COLUMN events.symbol; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.events.symbol IS 'At most 64 characters';


--
-- Name: COLUMN events.ticket; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.events.ticket IS 'MT5 ticket';


--
-- Name: COLUMN events.matched; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.events.matched IS '0 not matched, 1 matched, 2 divergence';


--
-- Name: COLUMN events.pnl_gbp; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.events.pnl_gbp IS 'As the platform recorded it';


--
-- Name: COLUMN events.divergence_reason; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.events.divergence_reason IS 'At most 500 characters';


--
-- Name: add_events(guardwire.events[]); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.add_events(added guardwire.events[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
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


--
-- Name: add_sums(guardwire.sync_sums, guardwire.sync_sums); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.add_sums(before guardwire.sync_sums, batch guardwire.sync_sums) RETURNS guardwire.sync_sums
    LANGUAGE plpgsql IMMUTABLE
    AS $$
BEGIN
    IF batch.last_sync_at >= coalesce(before.last_sync_at, batch.last_sync_at) THEN
        before.duration_ms := batch.duration_ms;
    END IF;
    IF batch.error_at >= coalesce(before.error_at, batch.error_at) THEN
        before.error_message := batch.error_message;
    END IF;
    before.syncs := coalesce(before.syncs, 0) + batch.syncs;
    before.last_sync_at := greatest(before.last_sync_at, batch.last_sync_at);
    before.last_position_at := greatest(before.last_position_at, batch.last_position_at);
    before.error_at := greatest(before.error_at, batch.error_at);
    before.ignored := coalesce(before.ignored, 0) + batch.ignored;
    RETURN before;
END
$$;


--
-- Name: apply_equity(uuid[], integer[], boolean[]); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.apply_equity(ids uuid[], ordinals integer[], inserted boolean[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    r record;
    a guardwire.accounts;
    since timestamptz;
    moment timestamptz;
    adjusted numeric;
    -- Not those that are applied here: a note is removed after its row has been applied.
    noted uuid[] := ARRAY(SELECT n.id FROM unnest(guardwire.noted_equity()) AS n (id) WHERE n.id <> ALL (ids));
    in_turn uuid[] := ARRAY(SELECT k.id FROM unnest(ids, ordinals) AS k (id, ordinal) ORDER BY k.ordinal);
BEGIN
    FOR r IN
        SELECT e.*, k.ordinal, k.inserted, k.turn
        FROM (SELECT u.*, row_number() OVER (ORDER BY u.ordinal)::integer AS turn
              FROM unnest(ids, ordinals, inserted) AS u (id, ordinal, inserted)) AS k
        JOIN guardwire.equity_rows() AS e ON e.id = k.id
        ORDER BY e.user_id, k.ordinal
    LOOP
        SELECT o.* INTO a FROM guardwire.accounts AS o WHERE o.user_id = r.user_id;
        CONTINUE WHEN NOT FOUND OR NOT a.ready;
        IF r.equity IS NULL THEN
            UPDATE guardwire.accounts AS o SET ignored_rows = o.ignored_rows + 1 WHERE o.user_id = r.user_id;
            INSERT INTO guardwire.ignored_rows (source, row_key, user_id, reason)
            VALUES ('equity', r.id::text, r.user_id, 'equity');
            CONTINUE WHEN r.inserted;
        END IF;
        since := (guardwire.limits_of(r.user_id)).peak_since;
        moment := coalesce(r.at, to_timestamp(a.revision / 1000000.0));
        -- What reads the history must not see rows of this commit before their turn, nor those that wait as notes.
        IF NOT r.inserted THEN
            PERFORM guardwire.read_equity(r.user_id, in_turn[r.turn + 1:] || noted);
        ELSIF a.equity_at IS NULL OR moment >= a.equity_at THEN
            adjusted := CASE WHEN r.equity >= 0 AND (since IS NULL OR moment >= since)
                             THEN r.equity - a.equity_flow - r.cash_flow END;
            UPDATE guardwire.accounts AS o
            SET equity = r.equity, balance = r.balance, currency = r.currency, equity_at = moment,
                equity_flow = o.equity_flow + r.cash_flow, peak_adjusted = greatest(o.peak_adjusted, adjusted)
            WHERE o.user_id = r.user_id;
        ELSIF r.cash_flow <> 0 THEN
            PERFORM guardwire.read_equity(r.user_id, in_turn[r.turn + 1:] || noted);
        ELSIF r.equity >= 0 AND (since IS NULL OR moment >= since) THEN
            adjusted := r.equity - a.equity_flow + guardwire.flows_after(r.user_id, moment, in_turn[r.turn + 1:] || noted);
            UPDATE guardwire.accounts AS o SET peak_adjusted = greatest(o.peak_adjusted, adjusted)
            WHERE o.user_id = r.user_id;
        END IF;
        SELECT o.* INTO a FROM guardwire.accounts AS o WHERE o.user_id = r.user_id;
        PERFORM guardwire.follow_currency(r.user_id);
        PERFORM guardwire.judge_drawdown(
            r.user_id, r.id::text, least(a.equity_at, to_timestamp(a.revision / 1000000.0)), a.revision, r.ordinal);
    END LOOP;
END
$$;


--
-- Name: apply_fx(uuid[], timestamp with time zone); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.apply_fx(ids uuid[], arrived_at timestamp with time zone) RETURNS uuid[]
    LANGUAGE plpgsql
    AS $$
DECLARE
    concerned uuid[];
BEGIN
    INSERT INTO guardwire.ignored_rows (source, row_key, reason)
    SELECT 'fx', f.id::text, 'rate' FROM guardwire.fx_rows() AS f
    WHERE f.id = ANY (ids) AND (f.base IS NULL OR f.quote IS NULL OR f.rate IS NULL);
    WITH moved AS (
        INSERT INTO guardwire.fx_current AS c (base, quote, rate, as_of)
        SELECT DISTINCT ON (f.base, f.quote) f.base, f.quote, f.rate, coalesce(f.at, arrived_at)
        FROM unnest(ids) WITH ORDINALITY AS k (id, nth) JOIN guardwire.fx_rows() AS f ON f.id = k.id
        WHERE f.base IS NOT NULL AND f.quote IS NOT NULL AND f.rate IS NOT NULL
        ORDER BY f.base, f.quote, coalesce(f.at, arrived_at) DESC, k.nth DESC
        ON CONFLICT ON CONSTRAINT fx_current_pkey DO UPDATE SET rate = excluded.rate, as_of = excluded.as_of
            WHERE c.as_of <= excluded.as_of
        RETURNING c.base, c.quote
    )
    SELECT array_agg(DISTINCT p.user_id) INTO concerned
    FROM moved AS m
    JOIN guardwire.positions AS p ON p.is_open AND p.quote_currency IN (m.base, m.quote)
    JOIN guardwire.accounts AS a ON a.user_id = p.user_id AND a.currency IN (m.base, m.quote) AND a.currency <> p.quote_currency;
    RETURN concerned;
END
$$;


--
-- Name: apply_history(uuid, guardwire.log_row[], guardwire.sync_sums, timestamp with time zone); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.apply_history(account uuid, chunk guardwire.log_row[], before guardwire.sync_sums, no_time timestamp with time zone) RETURNS guardwire.sync_sums
    LANGUAGE plpgsql
    AS $$
DECLARE
    batch guardwire.sync_sums;
BEGIN
    IF coalesce(cardinality(chunk), 0) = 0 THEN
        RETURN before;
    END IF;
    PERFORM guardwire.apply_positions(ARRAY(SELECT r FROM unnest(chunk) AS r ORDER BY r.ticket, r.revision, r.ordinal));
    PERFORM guardwire.apply_market(chunk, no_time);
    FOR batch IN SELECT s.* FROM guardwire.sync_sums(chunk) AS s LOOP
        before := guardwire.add_sums(before, batch);
    END LOOP;
    RETURN before;
END
$$;


--
-- Name: apply_instruments(text[]); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.apply_instruments(symbols text[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM guardwire.put_positions('{}', ARRAY(
        SELECT guardwire.reckoned(guardwire.with_instrument(p))
        FROM guardwire.positions AS p JOIN guardwire.accounts AS a ON a.user_id = p.user_id AND a.ready
        WHERE p.is_open AND upper(p.symbol) = ANY (symbols)));
END
$$;


--
-- Name: apply_limits(uuid[], timestamp with time zone); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.apply_limits(accounts uuid[], arrived_at timestamp with time zone) RETURNS void
    LANGUAGE plpgsql
    AS $$
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
            PERFORM guardwire.read_equity(account, guardwire.noted_equity());
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


--
-- Name: positions; Type: TABLE; Schema: guardwire; Owner: -
--

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
    entry_time timestamp with time zone NOT NULL,
    state_at timestamp with time zone NOT NULL,
    state_revision bigint NOT NULL,
    state_ordinal integer NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    last_close_at timestamp with time zone,
    close_reason text,
    closed_price numeric,
    closed_at timestamp with time zone,
    divergence_reason text,
    quote_currency text NOT NULL,
    contract_size numeric NOT NULL,
    contract_size_assumed boolean NOT NULL,
    point_value numeric,
    pct_unit numeric,
    fingerprint bigint,
    pnl numeric,
    pnl_pct numeric
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.1', autovacuum_vacuum_cost_delay='0');


--
-- Name: TABLE positions; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON TABLE guardwire.positions IS 'One row per ticket ever seen: its present state, or how it was when it closed';


--
-- Name: COLUMN positions.user_id; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.positions.user_id IS 'Whose account';


--
-- Name: COLUMN positions.ticket; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.positions.ticket IS 'MT5 ticket, 1 … 2^63-1';


--
-- Name: COLUMN positions.position_id; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.positions.position_id IS 'Id of the ticket''s first log row; never changes';


--
-- Name: COLUMN positions.is_open; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.positions.is_open IS 'An open row later than every close, in time and in arrival, exists';


--
-- Name: COLUMN positions.matched; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.positions.matched IS '0 not matched, 1 matched, 2 divergence';


--
-- Name: COLUMN positions.symbol; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.positions.symbol IS 'At most 64 characters';


--
-- Name: COLUMN positions.direction; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.positions.direction IS 'buy or sell; null when unknown';


--
-- Name: COLUMN positions.volume; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.positions.volume IS 'Lots; null when unusable';


--
-- Name: COLUMN positions.entry_price; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.positions.entry_price IS 'Null when unusable';


--
-- Name: COLUMN positions.current_price; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.positions.current_price IS 'Null until one is known';


--
-- Name: COLUMN positions.take_profit; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.positions.take_profit IS 'As the broker sees it';


--
-- Name: COLUMN positions.stop_loss; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.positions.stop_loss IS 'As the broker sees it';


--
-- Name: COLUMN positions.entry_time; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.positions.entry_time IS 'Least time of the ticket''s rows';


--
-- Name: COLUMN positions.state_at; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.positions.state_at IS 'Time of the row that is the state';


--
-- Name: COLUMN positions.state_revision; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.positions.state_revision IS 'Revision that the row that is the state arrived with; 0 in a backfill';


--
-- Name: COLUMN positions.state_ordinal; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.positions.state_ordinal IS 'Order of that row within its transaction';


--
-- Name: COLUMN positions.updated_at; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.positions.updated_at IS 'updated_at (else created_at) of the row that is the state, or that closed it';


--
-- Name: COLUMN positions.last_close_at; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.positions.last_close_at IS 'Greatest time of a close of this ticket; only a row later than it reopens';


--
-- Name: COLUMN positions.close_reason; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.positions.close_reason IS 'Of the latest close; null while open';


--
-- Name: COLUMN positions.closed_price; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.positions.closed_price IS 'Of the latest close; null while open';


--
-- Name: COLUMN positions.closed_at; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.positions.closed_at IS 'Time of the latest close; null while open';


--
-- Name: COLUMN positions.divergence_reason; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.positions.divergence_reason IS 'Of the row that is the state';


--
-- Name: COLUMN positions.quote_currency; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.positions.quote_currency IS 'Currency of pnl';


--
-- Name: COLUMN positions.contract_size; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.positions.contract_size IS 'Units in one lot that pnl was computed with';


--
-- Name: COLUMN positions.contract_size_assumed; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.positions.contract_size_assumed IS 'The symbol is not in instruments';


--
-- Name: COLUMN positions.point_value; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.positions.point_value IS 'Profit for a rise of 1 in the price: volume x contract_size, negative for a sell; null when unknown';


--
-- Name: COLUMN positions.pct_unit; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.positions.pct_unit IS 'Price change that is 1 % in the position''s favour; null when unknown';


--
-- Name: COLUMN positions.fingerprint; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.positions.fingerprint IS 'Of all that a sync row says but prices and times; null where a row like it may not be applied by the quick path';


--
-- Name: COLUMN positions.pnl; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.positions.pnl IS 'Floating profit in quote_currency, exact; null when unknown';


--
-- Name: COLUMN positions.pnl_pct; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.positions.pnl_pct IS 'Price change since entry in the position''s favour, %, 2 decimals; null when unknown';


--
-- Name: apply_log(guardwire.log_row[], uuid[], boolean[], timestamp with time zone); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.apply_log(rows guardwire.log_row[], users uuid[], readies boolean[], arrived_at timestamp with time zone) RETURNS guardwire.positions[]
    LANGUAGE plpgsql
    AS $$
DECLARE
    -- A sync also ends a silence, and an error.
    plain boolean := true = ALL (readies) AND NOT EXISTS (
        SELECT FROM guardwire.accounts AS a
        WHERE a.user_id = ANY (users) AND (a.source <> 'live' OR a.error_message IS NOT NULL));
    moved guardwire.positions[];
BEGIN
    INSERT INTO guardwire.ignored_rows (source, row_key, user_id, reason)
    SELECT 'log', r.id::text, r.user_id, CASE WHEN r.user_id IS NULL THEN 'user' ELSE 'ticket' END
    FROM unnest(rows) AS r
    WHERE r.user_id IS NULL OR (r.kind IN ('open', 'close') AND r.ticket IS NULL);
    INSERT INTO guardwire.arrivals (user_id, revision, ordinal, log_id, inserted)
    SELECT r.user_id, r.revision, r.ordinal, r.id, r.inserted FROM unnest(rows) AS r WHERE r.user_id IS NOT NULL;
    IF false = ANY (readies) OR EXISTS (SELECT FROM unnest(rows) AS r WHERE r.user_id IS NULL) THEN
        SELECT array_agg(r ORDER BY r.user_id, r.ticket, r.ordinal) INTO rows
        FROM unnest(rows) AS r JOIN unnest(users, readies) AS u (user_id, ready) ON u.user_id = r.user_id AND u.ready;
    END IF;
    IF rows IS NOT NULL THEN
        moved := guardwire.apply_positions(rows);
        PERFORM guardwire.apply_syncs(rows, arrived_at);
        PERFORM guardwire.apply_market(rows, arrived_at);
    END IF;
    RETURN CASE WHEN plain THEN moved END;
END
$$;


--
-- Name: apply_market(guardwire.log_row[], timestamp with time zone); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.apply_market(rows guardwire.log_row[], now_at timestamp with time zone) RETURNS void
    LANGUAGE plpgsql
    AS $$
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


--
-- Name: capture_notes; Type: TABLE; Schema: guardwire; Owner: -
--

CREATE TABLE guardwire.capture_notes (
    id bigint NOT NULL,
    noted_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    source text NOT NULL,
    row_key text NOT NULL,
    inserted boolean NOT NULL,
    sqlstate text NOT NULL,
    message text NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    given_up_at timestamp with time zone,
    user_id uuid,
    concerns_all boolean DEFAULT true NOT NULL
);


--
-- Name: TABLE capture_notes; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON TABLE guardwire.capture_notes IS 'Rows whose capture failed; a node applies them at its next sweep';


--
-- Name: COLUMN capture_notes.id; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.capture_notes.id IS 'Order of the notes';


--
-- Name: COLUMN capture_notes.noted_at; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.capture_notes.noted_at IS 'When the capture failed';


--
-- Name: COLUMN capture_notes.xid; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.capture_notes.xid IS 'The writer''s transaction';


--
-- Name: COLUMN capture_notes.source; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.capture_notes.source IS 'log, equity, limits, instrument or fx';


--
-- Name: COLUMN capture_notes.row_key; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.capture_notes.row_key IS 'Primary key of the row';


--
-- Name: COLUMN capture_notes.inserted; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.capture_notes.inserted IS 'False when the row was updated in place';


--
-- Name: COLUMN capture_notes.sqlstate; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.capture_notes.sqlstate IS 'Of the last failure';


--
-- Name: COLUMN capture_notes.message; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.capture_notes.message IS 'Of the last failure';


--
-- Name: COLUMN capture_notes.attempts; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.capture_notes.attempts IS 'How often a node tried';


--
-- Name: COLUMN capture_notes.given_up_at; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.capture_notes.given_up_at IS 'When the row was found to be poison; it is kept and not tried again';


--
-- Name: COLUMN capture_notes.user_id; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.capture_notes.user_id IS 'Whose account the row is about; null when that is unknown, or nobody''s';


--
-- Name: COLUMN capture_notes.concerns_all; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.capture_notes.concerns_all IS 'Whether any account may depend on the row: a rate, an instrument, or a row that could not be read';


--
-- Name: apply_note(guardwire.capture_notes); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.apply_note(n guardwire.capture_notes) RETURNS integer
    LANGUAGE plpgsql
    AS $$
DECLARE
    state text;
    reason text;
BEGIN
    BEGIN
        PERFORM guardwire.apply_tokens(ARRAY[guardwire.note_token(n)]);
        DELETE FROM guardwire.capture_notes AS o WHERE o.id = n.id;
        RETURN 1;
    EXCEPTION WHEN OTHERS THEN
        state := SQLSTATE;
        reason := SQLERRM;
    END;
    -- What was locked, lost a race or found no room may be luckier; anything else is the row's fault.
    UPDATE guardwire.capture_notes AS o
    SET attempts = o.attempts + 1, sqlstate = state, message = left(reason, 500),
        given_up_at = CASE WHEN left(state, 2) NOT IN ('40', '53', '55', '57') AND o.attempts >= 4 THEN clock_timestamp() END
    WHERE o.id = n.id;
    RETURN 0;
END
$$;


--
-- Name: apply_notes(integer); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.apply_notes(most integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'warning'
    SET trace_notify TO 'off'
    SET lock_timeout TO '5s'
    AS $$
DECLARE
    notes guardwire.capture_notes[];
    n guardwire.capture_notes;
    applied integer := 0;
BEGIN
    -- One node at a time, for their order matters. Writers that leave notes are not in the way of this mode; the vacuum of
    -- this table is, and then the next turn comes soon enough.
    BEGIN
        LOCK TABLE guardwire.capture_notes IN SHARE UPDATE EXCLUSIVE MODE NOWAIT;
    EXCEPTION WHEN lock_not_available THEN
        RETURN 0;
    END;
    notes := ARRAY(SELECT o FROM guardwire.capture_notes AS o WHERE o.given_up_at IS NULL ORDER BY o.id LIMIT most);
    BEGIN
        PERFORM guardwire.apply_tokens(ARRAY(SELECT guardwire.note_token(o) FROM unnest(notes) AS o ORDER BY o.id));
        DELETE FROM guardwire.capture_notes AS o USING unnest(notes) AS done WHERE o.id = done.id;
        RETURN cardinality(notes);
    EXCEPTION WHEN OTHERS THEN
        applied := 0;
    END;
    -- In the one order that writers take locks in; who holds one for long is waited for at the next turn.
    BEGIN
        PERFORM guardwire.lock_accounts(guardwire.noted_users(notes));
    EXCEPTION WHEN lock_not_available OR serialization_failure OR deadlock_detected THEN
        RETURN 0;
    END;
    FOREACH n IN ARRAY notes LOOP
        applied := applied + guardwire.apply_note(n);
    END LOOP;
    RETURN applied;
END
$$;


--
-- Name: apply_positions(guardwire.log_row[]); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.apply_positions(rows guardwire.log_row[]) RETURNS guardwire.positions[]
    LANGUAGE plpgsql
    AS $$
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


--
-- Name: apply_syncs(guardwire.log_row[], timestamp with time zone); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.apply_syncs(rows guardwire.log_row[], arrived_at timestamp with time zone) RETURNS void
    LANGUAGE plpgsql
    AS $$
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
    FROM guardwire.sync_sums(rows) AS s
    WHERE a.user_id = s.user_id;
END
$$;


--
-- Name: apply_tokens(text[]); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.apply_tokens(tokens text[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'warning'
    SET trace_notify TO 'off'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
DECLARE
    arrived_at timestamptz := clock_timestamp();
    log_ids uuid[]; log_ordinals integer[]; log_inserted boolean[];
    equity_ids uuid[]; equity_ordinals integer[]; equity_inserted boolean[];
    limit_users uuid[]; symbols text[]; rates uuid[]; converted uuid[];
    users uuid[]; revisions bigint[]; readies boolean[];
    moved guardwire.positions[];
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

    PERFORM guardwire.lock_reference(symbols IS NOT NULL OR rates IS NOT NULL);
    IF rates IS NOT NULL THEN
        converted := guardwire.apply_fx(rates, arrived_at);
    END IF;
    SELECT array_agg(a.user_id), array_agg(a.revision), array_agg(a.ready) INTO users, revisions, readies
    FROM guardwire.lock_accounts(
        limit_users || converted || guardwire.holders_of(symbols)
        || (SELECT array_agg(guardwire.read_user(l.user_id)) FROM unnest(log_ids) AS k (id) JOIN public.reconciliation_logs AS l ON l.id = k.id)
        || (SELECT array_agg(guardwire.read_user(e.user_id)) FROM unnest(equity_ids) AS k (id) JOIN public.equity_snapshots AS e ON e.id = k.id)
    ) AS a;

    IF symbols IS NOT NULL THEN
        PERFORM guardwire.apply_instruments(symbols);
    END IF;
    IF log_ids IS NOT NULL THEN
        moved := guardwire.apply_log(
            (SELECT array_agg(guardwire.arrived(l, to_timestamp(u.revision / 1000000.0), u.revision, k.ordinal, k.inserted)
                              ORDER BY l.user_id, l.ticket, k.ordinal)
             FROM unnest(log_ids, log_ordinals, log_inserted) AS k (id, ordinal, inserted)
             JOIN guardwire.log_rows() AS l ON l.id = k.id
             LEFT JOIN unnest(users, revisions) AS u (user_id, revision) ON u.user_id = l.user_id),
            users, readies, arrived_at);
    END IF;
    IF limit_users IS NOT NULL THEN
        PERFORM guardwire.apply_limits(limit_users, arrived_at);
    END IF;
    IF equity_ids IS NOT NULL THEN
        PERFORM guardwire.ignore_equity_of_nobody(equity_ids);
        PERFORM guardwire.record_equity_arrivals(equity_ids, equity_ordinals, equity_inserted, users, revisions);
        PERFORM guardwire.apply_equity(equity_ids, equity_ordinals, equity_inserted);
    END IF;
    IF moved IS NULL OR limit_users IS NOT NULL OR symbols IS NOT NULL OR rates IS NOT NULL OR equity_ids IS NOT NULL THEN
        PERFORM guardwire.notify_nodes(users, revisions);
    ELSE
        PERFORM guardwire.tell_nodes(moved);
    END IF;
END
$$;


--
-- Name: arrived(guardwire.log_row, timestamp with time zone, bigint, integer, boolean); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.arrived(l guardwire.log_row, arrived_at timestamp with time zone, revision bigint, ordinal integer, inserted boolean) RETURNS guardwire.log_row
    LANGUAGE plpgsql IMMUTABLE
    AS $$
BEGIN
    l.at := coalesce(l.at, arrived_at);
    l.revision := revision;
    l.ordinal := ordinal;
    l.inserted := inserted;
    RETURN l;
END
$$;


--
-- Name: arrived_since(uuid, bigint); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.arrived_since(account uuid, since bigint) RETURNS guardwire.log_row[]
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    AS $$
BEGIN
    RETURN (
        SELECT array_agg(guardwire.arrived(l, to_timestamp(a.revision / 1000000.0), a.revision, a.ordinal, a.inserted)
                         ORDER BY l.user_id, l.ticket, a.revision, a.ordinal)
        FROM (SELECT s.log_id, max(s.revision) AS revision, (array_agg(s.ordinal ORDER BY s.revision DESC))[1] AS ordinal,
                     bool_or(s.inserted) AS inserted
              FROM guardwire.arrivals AS s
              WHERE s.user_id = account AND s.source = 'l' AND s.revision > since
              GROUP BY s.log_id) AS a
        JOIN guardwire.log_rows() AS l ON l.id = a.log_id);
END
$$;


--
-- Name: backfill_next(); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.backfill_next() RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'warning'
    SET trace_notify TO 'off'
    AS $$
DECLARE
    account uuid;
BEGIN
    SELECT a.user_id INTO account FROM guardwire.accounts AS a WHERE NOT a.ready ORDER BY random() LIMIT 1;
    IF account IS NULL THEN
        UPDATE guardwire.backfill SET done = true, done_at = clock_timestamp() WHERE listed AND NOT done;
    ELSE
        PERFORM guardwire.read_history(account);
    END IF;
    RETURN account;
END
$$;


--
-- Name: capture_commit(); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.capture_commit() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET lock_timeout TO '5s'
    SET client_min_messages TO 'warning'
    SET trace_notify TO 'off'
    AS $$
DECLARE
    tokens text[];
    arrived_at timestamptz;
    a record;
    p record;
BEGIN
    -- No writer may use the sequence: when this row has the session's last number it is the whole list.
    IF NEW.fingerprint IS NULL OR NEW.log_id IS NULL OR NEW.nth <> currval('guardwire.pending_nth_seq') THEN
        tokens := guardwire.take_listed(NEW.nth);
        IF tokens IS NOT NULL THEN
            PERFORM set_config('guardwire.touched', '', true);
            PERFORM guardwire.capture_list(tokens);
        END IF;
        RETURN NULL;
    END IF;
    DELETE FROM guardwire.pending AS o WHERE o.xid = NEW.xid AND o.nth = NEW.nth;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    PERFORM set_config('guardwire.touched', '', true);
    arrived_at := clock_timestamp();
    UPDATE guardwire.accounts AS o
    SET revision = greatest(o.revision + 1, (extract(epoch FROM arrived_at) * 1000000)::bigint),
        base_revision = o.revision,
        total_syncs = o.total_syncs + 1,
        last_sync_at = NEW.at,
        last_sync_arrived_at = arrived_at,
        last_sync_duration_ms = CASE WHEN NEW.updated_at > NEW.at THEN extract(epoch FROM NEW.updated_at - NEW.at) * 1000 END,
        last_position_at = greatest(o.last_position_at, NEW.updated_at),
        error_at = greatest(o.error_at, NEW.at)
    WHERE o.user_id = NEW.user_id AND o.ready AND o.source = 'live' AND o.last_sync_at <= NEW.at AND o.error_message IS NULL
    RETURNING o.revision, o.base_revision, o.total_syncs, o.last_sync_duration_ms, o.last_position_at, o.currency, o.balance
    INTO STRICT a;
    UPDATE guardwire.positions AS o
    SET current_price = NEW.current_price,
        pnl = (NEW.current_price - o.entry_price) * o.point_value,
        pnl_pct = round((NEW.current_price - o.entry_price) / o.pct_unit, 2),
        state_at = NEW.at,
        state_revision = a.revision,
        state_ordinal = 1,
        updated_at = NEW.updated_at
    WHERE o.user_id = NEW.user_id AND o.ticket = NEW.ticket AND o.state_at <= NEW.at AND o.fingerprint = NEW.fingerprint
    RETURNING o.matched, o.pnl, o.pnl_pct, o.quote_currency INTO STRICT p;
    INSERT INTO guardwire.arrivals (user_id, revision, ordinal, log_id) VALUES (NEW.user_id, a.revision, 1, NEW.log_id);
    IF guardwire.notifies() AND pg_notification_queue_usage() < 0.5 THEN
        PERFORM pg_notify(c.told_channel, item.told || '#' || guardwire.told_mac(c.told_secret, item.told))
        FROM guardwire.configuration AS c, LATERAL (SELECT concat(
            NEW.user_id, ' ', a.base_revision, ' ', a.revision, ' ', a.total_syncs, ' ', guardwire.unix_us(NEW.at), ' ',
            a.last_sync_duration_ms::numeric, ' ', guardwire.unix_us(a.last_position_at), ' ', a.balance, '|',
            NEW.ticket, ' ', p.matched, ' ', NEW.current_price, ' ',
            CASE WHEN p.quote_currency <> a.currency THEN guardwire.converted(p.pnl, p.quote_currency, a.currency) ELSE round(p.pnl, 2) END,
            ' ', p.pnl_pct, ' ', guardwire.unix_us(NEW.updated_at)) AS told OFFSET 0) AS item
        WHERE c.singleton;
    END IF;
    RETURN NULL;
EXCEPTION WHEN no_data_found THEN
    PERFORM set_config('guardwire.touched', '', true);
    PERFORM guardwire.capture_list(guardwire.take_listed(NEW.nth));
    RETURN NULL;
WHEN OTHERS OR query_canceled OR assert_failure THEN
    PERFORM set_config('guardwire.touched', '', true);
    PERFORM guardwire.note_rows(guardwire.take_listed(NEW.nth), SQLSTATE, SQLERRM);
    RETURN NULL;
END
$$;


--
-- Name: capture_list(text[]); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.capture_list(tokens text[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM guardwire.apply_tokens(tokens);
EXCEPTION WHEN OTHERS OR query_canceled OR assert_failure THEN
    PERFORM guardwire.note_rows(tokens, SQLSTATE, SQLERRM);
END
$$;


--
-- Name: clear_breach(uuid, text, timestamp with time zone, text, text); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.clear_breach(account uuid, of_kind text, at timestamp with time zone, of_symbol text, of_condition text) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    UPDATE guardwire.breaches AS b SET cleared_at = greatest(at, b.raised_at)
    WHERE b.user_id = account AND b.kind = of_kind AND b.cleared_at IS NULL
      AND b.symbol IS NOT DISTINCT FROM of_symbol AND b.condition_type IS NOT DISTINCT FROM of_condition;
END
$$;


--
-- Name: configure(); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.configure() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    EXECUTE format('CREATE OR REPLACE FUNCTION guardwire.notifies() RETURNS boolean LANGUAGE sql IMMUTABLE AS %L',
                   'SELECT ' || NEW.notify::text);
    RETURN NULL;
END
$$;


--
-- Name: converted(numeric, text, text); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.converted(pnl numeric, quote_currency text, account_currency text) RETURNS numeric
    LANGUAGE plpgsql STABLE
    AS $$
DECLARE
    found_rate numeric;
BEGIN
    SELECT fx.rate INTO found_rate FROM guardwire.fx_current AS fx WHERE fx.base = quote_currency AND fx.quote = account_currency;
    IF FOUND THEN
        RETURN round(pnl * found_rate, 2);
    END IF;
    SELECT fx.rate INTO found_rate FROM guardwire.fx_current AS fx WHERE fx.base = account_currency AND fx.quote = quote_currency;
    RETURN CASE WHEN FOUND THEN round(pnl * 1.00000000 / found_rate, 2) ELSE round(pnl, 2) END;
END
$$;


--
-- Name: end_alerts(uuid[], timestamp with time zone); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.end_alerts(due uuid[], now_at timestamp with time zone) RETURNS integer
    LANGUAGE plpgsql
    AS $$
DECLARE
    users uuid[];
    revisions bigint[];
    ended integer;
BEGIN
    SELECT array_agg(a.user_id), array_agg(a.revision) INTO users, revisions
    FROM guardwire.lock_accounts(ARRAY(
        SELECT m.user_id FROM guardwire.market_alerts AS m WHERE m.user_id = ANY (due) AND m.expires_at <= now_at)) AS a;
    PERFORM guardwire.clear_breach(m.user_id, 'market', m.expires_at, m.symbol, m.condition_type)
    FROM guardwire.market_alerts AS m
    WHERE m.user_id = ANY (users) AND m.expires_at <= now_at AND m.alert_type = 'critical';
    DELETE FROM guardwire.market_alerts AS m WHERE m.user_id = ANY (users) AND m.expires_at <= now_at;
    GET DIAGNOSTICS ended = ROW_COUNT;
    PERFORM guardwire.notify_nodes(users, revisions);
    RETURN ended;
END
$$;


--
-- Name: equity_of(uuid, uuid[]); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.equity_of(account uuid, pending uuid[]) RETURNS TABLE(id uuid, equity numeric, balance numeric, currency text, cash_flow numeric, at timestamp with time zone, nth bigint)
    LANGUAGE sql STABLE
    AS $$
    SELECT e.id, e.equity, e.balance, e.currency, e.cash_flow, moment.at,
           row_number() OVER (ORDER BY moment.at, coalesce(a.revision, 0), coalesce(a.ordinal, 0), e.id)
    FROM guardwire.equity_rows() AS e
    LEFT JOIN (SELECT DISTINCT ON (s.log_id) s.log_id, s.revision, s.ordinal FROM guardwire.arrivals AS s
               WHERE s.user_id = account AND s.source = 'e'
               ORDER BY s.log_id, s.revision DESC) AS a ON a.log_id = e.id
    CROSS JOIN LATERAL (SELECT coalesce(e.at, to_timestamp(coalesce(a.revision, 0) / 1000000.0)) AS at) AS moment
    WHERE e.user_id = account AND e.equity IS NOT NULL AND NOT e.id = ANY (pending)
$$;


--
-- Name: equity_rows(); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.equity_rows() RETURNS SETOF guardwire.equity_row
    LANGUAGE sql STABLE ROWS 1e+06 PARALLEL SAFE
    AS $$
    SELECT e.id,
           guardwire.read_user(e.user_id),
           guardwire.read_number(e.equity),
           guardwire.read_number(e.balance),
           upper(guardwire.read_text(e.currency::text, 16)),
           coalesce(guardwire.read_number(e.cash_flow), 0),
           guardwire.read_time(e.created_at)
    FROM public.equity_snapshots AS e
$$;


--
-- Name: equity_state(uuid, uuid[]); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.equity_state(account uuid, pending uuid[]) RETURNS guardwire.equity_state
    LANGUAGE plpgsql STABLE
    AS $$
DECLARE
    since timestamptz := (guardwire.limits_of(account)).peak_since;
    found_state guardwire.equity_state;
BEGIN
    SELECT (array_agg(e.equity ORDER BY e.nth DESC))[1], (array_agg(e.balance ORDER BY e.nth DESC))[1],
           (array_agg(e.currency ORDER BY e.nth DESC))[1], max(e.at), sum(e.cash_flow),
           max(e.equity - e.upto) FILTER (WHERE e.equity >= 0 AND (since IS NULL OR e.at >= since))
    INTO found_state
    FROM (SELECT o.*, sum(o.cash_flow) OVER (ORDER BY o.nth) AS upto FROM guardwire.equity_of(account, pending) AS o) AS e;
    RETURN found_state;
END
$$;


--
-- Name: finish_history(uuid, guardwire.sync_sums, guardwire.equity_state, timestamp with time zone); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.finish_history(account uuid, sums guardwire.sync_sums, equity guardwire.equity_state, now_at timestamp with time zone) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    limits public.guard_limits := guardwire.limits_of(account);
    given bigint;
BEGIN
    UPDATE guardwire.accounts AS a
    SET ready = true, total_syncs = greatest(a.total_syncs, sums.syncs), last_sync_at = sums.last_sync_at,
        last_sync_arrived_at = NULL, last_sync_duration_ms = sums.duration_ms, last_position_at = sums.last_position_at,
        error_at = sums.error_at, error_message = sums.error_message, ignored_rows = greatest(a.ignored_rows, sums.ignored),
        source = CASE WHEN sums.last_sync_at > now_at - make_interval(secs => limits.sync_overdue_seconds) THEN 'live' ELSE 'silent' END,
        sync_due_at = CASE WHEN sums.last_sync_at > now_at - make_interval(secs => limits.sync_overdue_seconds) THEN now_at END,
        equity = equity.equity, balance = equity.balance, currency = equity.currency, equity_at = equity.at,
        equity_flow = coalesce(equity.flow, 0), peak_adjusted = equity.peak, peak_since = limits.peak_since
    WHERE a.user_id = account
    RETURNING a.revision INTO given;
    -- Instruments and the account's currency as they are now: nobody told this account's positions while it was not ready.
    PERFORM guardwire.put_positions('{}', ARRAY(
        SELECT guardwire.reckoned(guardwire.with_instrument(p)) FROM guardwire.positions AS p WHERE p.user_id = account AND p.is_open));
    PERFORM guardwire.judge_drawdown(account, 'history-' || given, least(equity.at, now_at), given, 0);
    PERFORM guardwire.settle_breaches(account, 'history-' || given, now_at);
    PERFORM guardwire.notify_nodes(ARRAY[account], ARRAY[given]);
END
$$;


--
-- Name: flows_after(uuid, timestamp with time zone, uuid[]); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.flows_after(account uuid, moment timestamp with time zone, pending uuid[]) RETURNS numeric
    LANGUAGE plpgsql STABLE
    AS $$
BEGIN
    RETURN (
        SELECT coalesce(sum(guardwire.read_number(e.cash_flow)), 0)
        FROM public.equity_snapshots AS e
        WHERE e.user_id = account AND e.cash_flow <> 0 AND guardwire.read_number(e.equity) IS NOT NULL
          AND NOT e.id = ANY (pending)
          AND coalesce(guardwire.read_time(e.created_at),
                       (SELECT to_timestamp(max(s.revision) / 1000000.0) FROM guardwire.arrivals AS s
                        WHERE s.user_id = account AND s.source = 'e' AND s.log_id = e.id)) > moment);
END
$$;


--
-- Name: follow_currency(uuid); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.follow_currency(account uuid) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    UPDATE guardwire.positions AS p SET quote_currency = coalesce(a.currency, 'USD')
    FROM guardwire.accounts AS a
    WHERE a.user_id = account AND p.user_id = account AND p.is_open AND p.contract_size_assumed
      AND p.quote_currency <> coalesce(a.currency, 'USD');
END
$$;


--
-- Name: fx_rows(); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.fx_rows() RETURNS SETOF guardwire.fx_row
    LANGUAGE sql STABLE ROWS 1e+06 PARALLEL SAFE
    AS $$
    SELECT f.id,
           upper(guardwire.read_text(f.base::text, 16)),
           upper(guardwire.read_text(f.quote::text, 16)),
           CASE WHEN guardwire.read_number(f.rate) > 0 THEN guardwire.read_number(f.rate) END,
           guardwire.read_time(f.created_at)
    FROM public.fx_rates AS f
$$;


--
-- Name: has_listed(); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.has_listed() RETURNS boolean
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    AS $$
BEGIN
    RETURN EXISTS (SELECT FROM guardwire.pending AS p WHERE p.xid = pg_current_xact_id());
END
$$;


--
-- Name: history_of(uuid, timestamp with time zone); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.history_of(account uuid, no_time timestamp with time zone) RETURNS SETOF guardwire.log_row
    LANGUAGE sql STABLE
    AS $$
    SELECT r.*
    FROM (SELECT h AS of_log, a.revision,
                 coalesce(a.ordinal, row_number() OVER (ORDER BY coalesce(h.at, no_time), h.kind = 'close', h.id))::integer AS ordinal
          FROM guardwire.log_rows_of(account) AS h
          LEFT JOIN (SELECT DISTINCT ON (s.log_id) s.log_id, s.revision, s.ordinal FROM guardwire.arrivals AS s
                     WHERE s.user_id = account AND s.source = 'l'
                     ORDER BY s.log_id, s.revision DESC) AS a ON a.log_id = h.id
          WHERE h.id::text NOT IN (SELECT n.row_key FROM guardwire.capture_notes AS n WHERE n.source = 'l')) AS found
    CROSS JOIN LATERAL guardwire.arrived(
        found.of_log, coalesce(to_timestamp(found.revision / 1000000.0), no_time), coalesce(found.revision, 0), found.ordinal, true) AS r
    ORDER BY coalesce(found.revision, 0), found.ordinal
$$;


--
-- Name: holders_of(text[]); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.holders_of(symbols text[]) RETURNS uuid[]
    LANGUAGE plpgsql
    AS $$
BEGIN
    RETURN (SELECT array_agg(DISTINCT p.user_id) FROM guardwire.positions AS p WHERE p.is_open AND upper(p.symbol) = ANY (symbols));
END
$$;


--
-- Name: housekeep(); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.housekeep() RETURNS TABLE(alerts_ended integer, fell_silent integer, notes_due boolean)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'warning'
    SET trace_notify TO 'off'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'
    AS $$
DECLARE
    due uuid[];
    -- No index is used with what changes within a statement, so the clock is read here.
    now_at timestamptz := clock_timestamp();
BEGIN
    alerts_ended := 0;
    fell_silent := 0;
    PERFORM guardwire.note_left_rows();
    IF EXISTS (SELECT FROM guardwire.market_alerts AS m WHERE m.expires_at <= now_at)
       OR EXISTS (SELECT FROM guardwire.accounts AS a WHERE a.sync_due_at <= now_at) THEN
        due := guardwire.lock_due(now_at, 1000);
        alerts_ended := guardwire.end_alerts(due, now_at);
        fell_silent := guardwire.note_silence(due, now_at);
    END IF;
    notes_due := EXISTS (SELECT FROM guardwire.capture_notes AS n WHERE n.given_up_at IS NULL);
    -- Once a minute is enough for what is kept for days.
    IF extract(epoch FROM clock_timestamp())::bigint % 60 < 3 THEN
        PERFORM guardwire.prune(5000);
    END IF;
    RETURN NEXT;
END
$$;


--
-- Name: ignore_equity_of_nobody(uuid[]); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.ignore_equity_of_nobody(ids uuid[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO guardwire.ignored_rows (source, row_key, reason)
    SELECT 'equity', e.id::text, 'user' FROM unnest(ids) AS k (id) JOIN guardwire.equity_rows() AS e ON e.id = k.id
    WHERE e.user_id IS NULL;
END
$$;


--
-- Name: is_first(); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.is_first() RETURNS boolean
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF current_setting('guardwire.touched', true) = pg_current_xact_id()::text THEN
        RETURN NOT guardwire.has_listed();
    END IF;
    PERFORM set_config('guardwire.touched', pg_current_xact_id()::text, true);
    RETURN true;
END
$$;


--
-- Name: judge_drawdown(uuid, text, timestamp with time zone, bigint, integer); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.judge_drawdown(account uuid, cause text, at timestamp with time zone, changed_at bigint, nth integer) RETURNS void
    LANGUAGE plpgsql
    AS $$
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


--
-- Name: guard_limits; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.guard_limits (
    user_id uuid NOT NULL,
    drawdown_warning_pct numeric DEFAULT 15 NOT NULL,
    drawdown_critical_pct numeric DEFAULT 20 NOT NULL,
    minimum_equity numeric DEFAULT 100 NOT NULL,
    countdown_seconds integer DEFAULT 60 NOT NULL,
    gap_warning_pct numeric DEFAULT 5 NOT NULL,
    gap_critical_pct numeric DEFAULT 10 NOT NULL,
    spread_warning_pct numeric DEFAULT 0.5 NOT NULL,
    spread_critical_pct numeric DEFAULT 1 NOT NULL,
    alert_window_seconds integer DEFAULT 3600 NOT NULL,
    sync_overdue_seconds integer DEFAULT 60 NOT NULL,
    peak_since timestamp with time zone,
    CONSTRAINT alert_window_is_within_a_month CHECK (((alert_window_seconds >= 1) AND (alert_window_seconds <= 2678400))),
    CONSTRAINT countdown_is_within_a_day CHECK (((countdown_seconds >= 0) AND (countdown_seconds <= 86400))),
    CONSTRAINT drawdown_levels_rise CHECK (((drawdown_warning_pct >= (0)::numeric) AND (drawdown_warning_pct <= drawdown_critical_pct) AND (drawdown_critical_pct <= (100)::numeric))),
    CONSTRAINT gap_levels_rise CHECK (((gap_warning_pct >= (0)::numeric) AND (gap_warning_pct <= gap_critical_pct) AND (gap_critical_pct < '1000000'::numeric))),
    CONSTRAINT minimum_equity_is_an_amount CHECK (((minimum_equity >= (0)::numeric) AND (minimum_equity < '1000000000000000'::numeric))),
    CONSTRAINT peak_since_is_finite CHECK (((peak_since IS NULL) OR isfinite(peak_since))),
    CONSTRAINT spread_levels_rise CHECK (((spread_warning_pct >= (0)::numeric) AND (spread_warning_pct <= spread_critical_pct) AND (spread_critical_pct < '1000000'::numeric))),
    CONSTRAINT sync_overdue_is_within_a_month CHECK (((sync_overdue_seconds >= 1) AND (sync_overdue_seconds <= 2678400)))
);


--
-- Name: TABLE guard_limits; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.guard_limits IS 'When guards warn and when they act, per account; an account without a row has the defaults';


--
-- Name: COLUMN guard_limits.user_id; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.guard_limits.user_id IS 'Whose account';


--
-- Name: COLUMN guard_limits.drawdown_warning_pct; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.guard_limits.drawdown_warning_pct IS 'Drawdown from which the level is warning, % of the peak';


--
-- Name: COLUMN guard_limits.drawdown_critical_pct; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.guard_limits.drawdown_critical_pct IS 'Drawdown from which everything should be closed, % of the peak';


--
-- Name: COLUMN guard_limits.minimum_equity; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.guard_limits.minimum_equity IS 'Equity below which the level is critical, in the account''s currency';


--
-- Name: COLUMN guard_limits.countdown_seconds; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.guard_limits.countdown_seconds IS 'From the breach to liquidation_at';


--
-- Name: COLUMN guard_limits.gap_warning_pct; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.guard_limits.gap_warning_pct IS 'Price gap from which an alert is a warning, %';


--
-- Name: COLUMN guard_limits.gap_critical_pct; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.guard_limits.gap_critical_pct IS 'Price gap from which an alert is critical, %';


--
-- Name: COLUMN guard_limits.spread_warning_pct; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.guard_limits.spread_warning_pct IS 'Spread above which an alert is a warning, % of the mid price';


--
-- Name: COLUMN guard_limits.spread_critical_pct; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.guard_limits.spread_critical_pct IS 'Spread from which an alert is critical, % of the mid price';


--
-- Name: COLUMN guard_limits.alert_window_seconds; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.guard_limits.alert_window_seconds IS 'How long a market alert lives';


--
-- Name: COLUMN guard_limits.sync_overdue_seconds; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.guard_limits.sync_overdue_seconds IS 'Without a sync for so long the source is silent';


--
-- Name: COLUMN guard_limits.peak_since; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.guard_limits.peak_since IS 'Equity read before this moment does not count for the peak';


--
-- Name: limits_of(uuid); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.limits_of(account uuid) RETURNS public.guard_limits
    LANGUAGE plpgsql STABLE
    AS $$
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


--
-- Name: list_accounts(); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.list_accounts() RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'warning'
    SET trace_notify TO 'off'
    AS $$
DECLARE
    added integer;
BEGIN
    -- Whoever comes second finds it done.
    IF (SELECT b.listed FROM guardwire.backfill AS b FOR UPDATE) THEN
        RETURN 0;
    END IF;
    PERFORM guardwire.list_log_users();
    INSERT INTO guardwire.accounts (user_id, revision, ready)
    SELECT found.user_id, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, false
    FROM (SELECT l.user_id FROM guardwire.log_users AS l WHERE l.user_id IS NOT NULL
          UNION SELECT e.user_id FROM guardwire.equity_rows() AS e WHERE e.user_id IS NOT NULL) AS found
    ORDER BY found.user_id
    ON CONFLICT ON CONSTRAINT accounts_pkey DO NOTHING;
    GET DIAGNOSTICS added = ROW_COUNT;
    UPDATE guardwire.backfill SET listed = true;
    RETURN added;
END
$$;


--
-- Name: list_log_users(); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.list_log_users() RETURNS void
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
    AS $$
BEGIN
    WITH RECURSIVE users (written) AS (
        (SELECT l.user_id FROM public.reconciliation_logs AS l WHERE l.user_id IS NOT NULL ORDER BY l.user_id LIMIT 1)
        UNION ALL
        SELECT (SELECT l.user_id FROM public.reconciliation_logs AS l WHERE l.user_id > u.written ORDER BY l.user_id LIMIT 1)
        FROM users AS u WHERE u.written IS NOT NULL
    )
    INSERT INTO guardwire.log_users (written, user_id)
    SELECT u.written::text, guardwire.read_user(u.written) FROM users AS u WHERE u.written IS NOT NULL
    ON CONFLICT (written) DO NOTHING;
END
$$;


--
-- Name: list_missed_accounts(); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.list_missed_accounts() RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'warning'
    SET trace_notify TO 'off'
    AS $$
DECLARE
    added integer;
BEGIN
    PERFORM guardwire.list_log_users();
    INSERT INTO guardwire.accounts (user_id, revision, ready)
    SELECT found.user_id, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, false
    FROM (SELECT l.user_id FROM guardwire.log_users AS l WHERE l.user_id IS NOT NULL
          UNION SELECT e.user_id FROM guardwire.equity_rows() AS e WHERE e.user_id IS NOT NULL) AS found
    ORDER BY found.user_id
    ON CONFLICT ON CONSTRAINT accounts_pkey DO NOTHING;
    GET DIAGNOSTICS added = ROW_COUNT;
    RETURN added;
END
$$;


--
-- Name: list_token(text); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.list_token(listed text) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    -- A row without a key cannot be found again.
    INSERT INTO guardwire.pending (token, wakes) VALUES (coalesce(listed, '-'), guardwire.is_first());
END
$$;


--
-- Name: listed_rows(text[]); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.listed_rows(tokens text[]) RETURNS TABLE(source text, row_key text, inserted boolean, nth bigint)
    LANGUAGE sql IMMUTABLE
    AS $$
    SELECT left(t.token, 1), substr(t.token, 3), substr(t.token, 2, 1) = 'i', max(t.nth)
    FROM unnest(tokens) WITH ORDINALITY AS t (token, nth)
    WHERE t.token <> '-'
    GROUP BY t.token
$$;


--
-- Name: lock_accounts(uuid[]); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.lock_accounts(wanted uuid[]) RETURNS TABLE(user_id uuid, revision bigint, ready boolean)
    LANGUAGE plpgsql
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    INSERT INTO guardwire.accounts AS a (user_id, revision, ready)
    SELECT w.user_id, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, b.done OR b.listed
    FROM (SELECT DISTINCT u.user_id FROM unnest(wanted) AS u (user_id) WHERE u.user_id IS NOT NULL) AS w, guardwire.backfill AS b
    ORDER BY w.user_id
    ON CONFLICT ON CONSTRAINT accounts_pkey DO UPDATE
        SET revision = greatest(a.revision + 1, excluded.revision), base_revision = a.revision
    RETURNING a.user_id, a.revision, a.ready;
END
$$;


--
-- Name: lock_due(timestamp with time zone, integer); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.lock_due(now_at timestamp with time zone, most integer) RETURNS uuid[]
    LANGUAGE plpgsql
    AS $$
BEGIN
    RETURN (
        SELECT array_agg(locked.user_id)
        FROM (SELECT a.user_id FROM guardwire.accounts AS a
              WHERE a.ready AND a.user_id = ANY (ARRAY(
                  SELECT m.user_id FROM guardwire.market_alerts AS m WHERE m.expires_at <= now_at
                  UNION
                  (SELECT o.user_id FROM guardwire.accounts AS o WHERE o.sync_due_at <= now_at ORDER BY o.sync_due_at LIMIT most)
                  LIMIT most))
              ORDER BY a.user_id
              FOR UPDATE SKIP LOCKED) AS locked);
END
$$;


--
-- Name: lock_reference(boolean); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.lock_reference(changes boolean) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF changes THEN
        LOCK TABLE guardwire.reference IN EXCLUSIVE MODE;
        UPDATE guardwire.reference SET changes = reference.changes + 1;
        RETURN;
    END IF;
    LOCK TABLE guardwire.reference IN ROW SHARE MODE;
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        -- Such a writer sees what was there when it began: it fails here where that is no longer so, and leaves a note.
        PERFORM FROM guardwire.reference FOR SHARE;
    END IF;
END
$$;


--
-- Name: log_rows(); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.log_rows() RETURNS SETOF guardwire.log_row
    LANGUAGE sql STABLE ROWS 1e+06 PARALLEL SAFE
    AS $$
    SELECT l.id,
           guardwire.read_user(l.user_id),
           guardwire.read_ticket(l.mt5_position_id),
           CASE guardwire.read_word(l.event_type::text)
               WHEN 'sync' THEN CASE WHEN guardwire.read_word(l.close_reason::text) IS NULL THEN 'open' ELSE 'close' END
               WHEN 'close' THEN 'close'
               WHEN 'position_closed' THEN 'close'
               WHEN 'divergence' THEN CASE WHEN guardwire.read_word(l.close_reason::text) IS NULL THEN 'open' ELSE 'close' END
               WHEN 'warning' THEN CASE WHEN guardwire.read_word(l.close_reason::text) IS NULL THEN 'open' ELSE 'close' END
               WHEN 'unmatched_position' THEN CASE WHEN guardwire.read_word(l.close_reason::text) IS NULL THEN 'open' ELSE 'close' END
               WHEN 'guard_trigger' THEN 'guard'
           END,
           coalesce(guardwire.read_word(l.status::text) = 'failed', false),
           coalesce(guardwire.read_word(l.event_type::text) = 'sync', false),
           guardwire.read_time(l.created_at),
           guardwire.read_time(l.updated_at),
           CASE WHEN guardwire.read_time(l.updated_at) > guardwire.read_time(l.created_at)
                THEN (extract(epoch FROM guardwire.read_time(l.updated_at) - guardwire.read_time(l.created_at)) * 1000)::float8
           END,
           coalesce(guardwire.read_matched(l.matched),
                    CASE WHEN guardwire.read_word(l.event_type::text) IN ('divergence', 'warning', 'unmatched_position')
                         THEN 2::smallint ELSE 0::smallint END),
           guardwire.read_text(l.symbol::text, 64),
           CASE guardwire.read_word(l.direction::text)
               WHEN 'buy' THEN 'buy' WHEN '0' THEN 'buy' WHEN 'sell' THEN 'sell' WHEN '1' THEN 'sell' END,
           CASE WHEN guardwire.read_number(l.volume) >= 0 THEN guardwire.read_number(l.volume) END,
           guardwire.read_number(l.entry_price),
           guardwire.read_number(l.current_price),
           guardwire.read_number(l.take_profit),
           guardwire.read_number(l.stop_loss),
           guardwire.read_text(l.close_reason::text, 500),
           guardwire.read_number(l.closed_price),
           guardwire.read_number(l.pnl_gbp),
           guardwire.read_text(l.divergence_reason::text, 500),
           guardwire.read_text(l.error_message::text, 500),
           -- Of the values as written, so that the quick path compares without reading them; see touch_log.
           CASE WHEN guardwire.read_word(l.event_type::text) = 'sync' AND guardwire.read_word(l.close_reason::text) IS NULL
                THEN hash_record_extended(ROW(l.symbol, l.direction, l.volume, l.entry_price, l.take_profit, l.stop_loss,
                                              l.matched, l.divergence_reason), 0)
           END,
           NULL::bigint, NULL::integer, NULL::boolean
    FROM public.reconciliation_logs AS l
$$;


--
-- Name: log_rows_of(uuid); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.log_rows_of(account uuid) RETURNS SETOF guardwire.log_row
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    AS $$
BEGIN
    IF guardwire.log_users_are_uuids() THEN
        RETURN QUERY SELECT l.* FROM guardwire.log_rows() AS l WHERE l.user_id = account;
    ELSE
        RETURN QUERY
        SELECT l.* FROM guardwire.log_rows() AS l
        WHERE l.id IN (SELECT o.id FROM public.reconciliation_logs AS o
                       WHERE o.user_id::text IN (SELECT u.written FROM guardwire.log_users AS u WHERE u.user_id = account))
          AND l.user_id = account;
    END IF;
END
$$;


--
-- Name: log_users_are_uuids(); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.log_users_are_uuids() RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
    SELECT a.atttypid = 'uuid'::regtype
    FROM pg_attribute AS a WHERE a.attrelid = 'public.reconciliation_logs'::regclass AND a.attname = 'user_id'
$$;


--
-- Name: market_level(text, numeric, numeric, public.guard_limits); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.market_level(condition_type text, gap numeric, spread numeric, l public.guard_limits) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$
    SELECT CASE condition_type
        WHEN 'price_gap' THEN CASE WHEN gap IS NULL THEN 'warning' WHEN gap >= l.gap_critical_pct THEN 'critical'
                                   WHEN gap >= l.gap_warning_pct THEN 'warning' ELSE 'normal' END
        WHEN 'bid_ask_spread' THEN CASE WHEN spread IS NULL THEN 'warning' WHEN spread >= l.spread_critical_pct THEN 'critical'
                                        WHEN spread > l.spread_warning_pct THEN 'warning' ELSE 'normal' END
        ELSE 'warning' END
$$;


--
-- Name: note_left_rows(); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.note_left_rows() RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    tokens text[];
BEGIN
    WITH taken AS (
        DELETE FROM guardwire.pending AS p WHERE p.xid = ANY (ARRAY(SELECT DISTINCT o.xid FROM guardwire.pending AS o LIMIT 1000))
        RETURNING p.xid, p.nth, p.token
    )
    SELECT array_agg(t.token ORDER BY t.nth) INTO tokens FROM taken AS t;
    IF tokens IS NOT NULL THEN
        PERFORM guardwire.note_rows(tokens, '57000', 'the capture was cut short');
    END IF;
END
$$;


--
-- Name: market_alerts; Type: TABLE; Schema: guardwire; Owner: -
--

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
    detected_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    revision bigint NOT NULL,
    ordinal integer NOT NULL,
    log_id uuid NOT NULL
)
WITH (fillfactor='70');


--
-- Name: TABLE market_alerts; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON TABLE guardwire.market_alerts IS 'Latest market condition per account, symbol and kind, until its window has passed; normal ones are remembered, not shown';


--
-- Name: COLUMN market_alerts.user_id; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.market_alerts.user_id IS 'Whose account';


--
-- Name: COLUMN market_alerts.symbol; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.market_alerts.symbol IS 'At most 64 characters; * when the row had none';


--
-- Name: COLUMN market_alerts.condition_type; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.market_alerts.condition_type IS 'price_gap, bid_ask_spread, low_liquidity or other';


--
-- Name: COLUMN market_alerts.alert_type; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.market_alerts.alert_type IS 'normal, warning or critical';


--
-- Name: COLUMN market_alerts.gap_pct; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.market_alerts.gap_pct IS 'price_gap: |open - close| / close, %, 2 decimals';


--
-- Name: COLUMN market_alerts.spread_pct; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.market_alerts.spread_pct IS 'bid_ask_spread: (ask - bid) / mid, %, 2 decimals';


--
-- Name: COLUMN market_alerts.open_price; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.market_alerts.open_price IS 'price_gap: price after the gap';


--
-- Name: COLUMN market_alerts.close_price; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.market_alerts.close_price IS 'price_gap: price before the gap';


--
-- Name: COLUMN market_alerts.bid; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.market_alerts.bid IS 'bid_ask_spread';


--
-- Name: COLUMN market_alerts.ask; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.market_alerts.ask IS 'bid_ask_spread';


--
-- Name: COLUMN market_alerts.detected_at; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.market_alerts.detected_at IS 'Time of the row';


--
-- Name: COLUMN market_alerts.expires_at; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.market_alerts.expires_at IS 'End of its window; a housekeeping statement removes it then';


--
-- Name: COLUMN market_alerts.revision; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.market_alerts.revision IS 'Revision that the row arrived with; 0 in a backfill';


--
-- Name: COLUMN market_alerts.ordinal; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.market_alerts.ordinal IS 'Order of the row within its transaction';


--
-- Name: COLUMN market_alerts.log_id; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.market_alerts.log_id IS 'The log row';


--
-- Name: note_market_level(text, guardwire.market_alerts, timestamp with time zone); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.note_market_level(before text, m guardwire.market_alerts, at timestamp with time zone) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF m.alert_type = 'critical' AND before IS DISTINCT FROM 'critical' THEN
        PERFORM guardwire.raise_breach(m.user_id, m.log_id::text, 'market', at, coalesce(m.gap_pct, m.spread_pct),
                                       m.symbol, m.condition_type);
    ELSIF m.alert_type <> 'critical' AND before = 'critical' THEN
        PERFORM guardwire.clear_breach(m.user_id, 'market', at, m.symbol, m.condition_type);
    END IF;
END
$$;


--
-- Name: note_rows(text[], text, text); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.note_rows(tokens text[], state text, reason text) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    BEGIN
        INSERT INTO guardwire.capture_notes (source, row_key, inserted, sqlstate, message, user_id, concerns_all)
        SELECT n.source, n.row_key, n.inserted, state, left(reason, 500), w.user_id, w.user_id IS NULL AND NOT w.of_nobody
        FROM guardwire.listed_rows(tokens) AS n LEFT JOIN guardwire.users_of(tokens) AS w USING (source, row_key)
        ORDER BY n.nth;
    EXCEPTION WHEN OTHERS OR query_canceled THEN
        -- The tables cannot be read any more, perhaps.
        INSERT INTO guardwire.capture_notes (source, row_key, inserted, sqlstate, message)
        SELECT n.source, n.row_key, n.inserted, state, left(reason, 500) FROM guardwire.listed_rows(tokens) AS n ORDER BY n.nth;
    END;
EXCEPTION WHEN OTHERS OR query_canceled THEN
    -- Not even that can be written (a full disk): the commit still is the platform's.
    RAISE WARNING 'guardwire could not note rows: SQLSTATE %', SQLSTATE;
END
$$;


--
-- Name: note_silence(uuid[], timestamp with time zone); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.note_silence(due uuid[], now_at timestamp with time zone) RETURNS integer
    LANGUAGE plpgsql
    AS $$
DECLARE
    overdue uuid[];
    users uuid[];
    revisions bigint[];
BEGIN
    WITH looked AS (
        SELECT a.user_id, coalesce(a.last_sync_arrived_at, a.last_sync_at)
                          + make_interval(secs => coalesce(l.sync_overdue_seconds, 60)) AS overdue_at
        FROM guardwire.accounts AS a LEFT JOIN public.guard_limits AS l USING (user_id)
        WHERE a.user_id = ANY (due) AND a.sync_due_at <= now_at
    ), later AS (
        UPDATE guardwire.accounts AS a SET sync_due_at = looked.overdue_at
        FROM looked WHERE a.user_id = looked.user_id AND looked.overdue_at > now_at
    )
    SELECT array_agg(looked.user_id) INTO overdue FROM looked WHERE coalesce(looked.overdue_at, '-infinity') <= now_at;
    IF overdue IS NULL THEN
        RETURN 0;
    END IF;
    SELECT array_agg(a.user_id), array_agg(a.revision) INTO users, revisions FROM guardwire.lock_accounts(overdue) AS a;
    UPDATE guardwire.accounts AS a SET source = 'silent', sync_due_at = NULL WHERE a.user_id = ANY (users);
    PERFORM guardwire.notify_nodes(users, revisions);
    RETURN cardinality(users);
END
$$;


--
-- Name: note_token(guardwire.capture_notes); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.note_token(n guardwire.capture_notes) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$
    SELECT n.source || CASE WHEN n.inserted THEN 'i' ELSE 'u' END || n.row_key
$$;


--
-- Name: noted_equity(); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.noted_equity() RETURNS uuid[]
    LANGUAGE plpgsql STABLE
    AS $$
BEGIN
    RETURN ARRAY(SELECT guardwire.read_user(n.row_key) FROM guardwire.capture_notes AS n WHERE n.source = 'e');
END
$$;


--
-- Name: noted_users(guardwire.capture_notes[]); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.noted_users(notes guardwire.capture_notes[]) RETURNS uuid[]
    LANGUAGE sql STABLE
    AS $$
    SELECT array_agg(noted.user_id)
    FROM (SELECT guardwire.read_user(l.user_id) AS user_id
          FROM unnest(notes) AS n JOIN public.reconciliation_logs AS l ON l.id = guardwire.read_user(n.row_key) WHERE n.source = 'l'
          UNION
          SELECT guardwire.read_user(e.user_id)
          FROM unnest(notes) AS n JOIN public.equity_snapshots AS e ON e.id = guardwire.read_user(n.row_key) WHERE n.source = 'e'
          UNION
          SELECT guardwire.read_user(n.row_key) FROM unnest(notes) AS n WHERE n.source = 'g') AS noted
$$;


--
-- Name: notifies(); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.notifies() RETURNS boolean
    LANGUAGE sql IMMUTABLE
    AS $$SELECT true$$;


--
-- Name: notify_nodes(uuid[], bigint[]); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.notify_nodes(users uuid[], revisions bigint[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    chunk text;
BEGIN
    IF users IS NULL OR NOT guardwire.notifies() OR pg_notification_queue_usage() >= 0.5 THEN
        RETURN;
    END IF;
    FOR chunk IN
        SELECT string_agg(u.user_id::text || '=' || u.revision::text, ',')
        FROM unnest(users, revisions) WITH ORDINALITY AS u (user_id, revision, nth)
        GROUP BY (u.nth - 1) / 130
    LOOP
        PERFORM pg_notify('guardwire', chunk);
    END LOOP;
END
$$;


--
-- Name: pct_unit(text, numeric); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.pct_unit(direction text, entry_price numeric) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT CASE WHEN entry_price > 0 THEN CASE direction WHEN 'buy' THEN entry_price * 0.01 WHEN 'sell' THEN entry_price * -0.01 END END
$$;


--
-- Name: pnl(numeric, numeric, numeric); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.pnl(entry_price numeric, current_price numeric, point_value numeric) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT CASE WHEN abs((coalesce(current_price, entry_price) - entry_price) * point_value) < 1e13
                THEN (coalesce(current_price, entry_price) - entry_price) * point_value END
$$;


--
-- Name: pnl_pct(numeric, numeric, numeric); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.pnl_pct(entry_price numeric, current_price numeric, pct_unit numeric) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT CASE WHEN abs(coalesce(current_price, entry_price) - entry_price) < abs(pct_unit) * 1e13
                THEN round((coalesce(current_price, entry_price) - entry_price) / pct_unit, 2) END
$$;


--
-- Name: point_value(text, numeric, numeric); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.point_value(direction text, volume numeric, contract_size numeric) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT CASE direction WHEN 'buy' THEN volume * contract_size WHEN 'sell' THEN -volume * contract_size END
$$;


--
-- Name: prune(integer); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.prune(most integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'warning'
    SET trace_notify TO 'off'
    SET jit TO 'off'
    AS $$
DECLARE
    kept_since timestamptz := clock_timestamp() - make_interval(hours => (SELECT c.arrival_hours FROM guardwire.configuration AS c));
    forgotten integer;
    more integer;
BEGIN
    -- While an account waits for its history, what arrived is its queue.
    IF EXISTS (SELECT FROM guardwire.accounts AS o WHERE NOT o.ready) THEN
        RETURN 0;
    END IF;
    DELETE FROM guardwire.arrivals AS a WHERE a.ctid = ANY (ARRAY(
        SELECT o.ctid FROM guardwire.arrivals AS o
        WHERE o.revision < (extract(epoch FROM kept_since) * 1000000)::bigint
          -- An equity row without a usable time counts at its arrival for ever.
          AND (o.source = 'l' OR EXISTS (SELECT FROM guardwire.equity_rows() AS e WHERE e.id = o.log_id AND e.at IS NOT NULL))
        LIMIT most));
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    DELETE FROM guardwire.ignored_rows AS i WHERE i.ctid = ANY (ARRAY(
        SELECT o.ctid FROM guardwire.ignored_rows AS o WHERE o.noted_at < kept_since LIMIT most));
    GET DIAGNOSTICS more = ROW_COUNT;
    RETURN forgotten + more;
END
$$;


--
-- Name: put_positions(guardwire.positions[], guardwire.positions[]); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.put_positions(opened guardwire.positions[], changed guardwire.positions[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
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


--
-- Name: raise_breach(uuid, text, text, timestamp with time zone, numeric, text, text); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.raise_breach(account uuid, id text, kind text, at timestamp with time zone, observed numeric, symbol text, condition_type text) RETURNS void
    LANGUAGE plpgsql
    AS $$
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


--
-- Name: read_equity(uuid, uuid[]); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.read_equity(account uuid, pending uuid[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    found_state guardwire.equity_state := guardwire.equity_state(account, pending);
BEGIN
    UPDATE guardwire.accounts AS a
    SET equity = found_state.equity, balance = found_state.balance, currency = found_state.currency, equity_at = found_state.at,
        equity_flow = coalesce(found_state.flow, 0), peak_adjusted = found_state.peak,
        peak_since = (guardwire.limits_of(account)).peak_since
    WHERE a.user_id = account;
END
$$;


--
-- Name: read_history(uuid); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.read_history(account uuid) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'warning'
    SET trace_notify TO 'off'
    SET jit TO 'off'
    AS $$
DECLARE
    no_time timestamptz := clock_timestamp();
    upto bigint;
    equity_upto bigint;
    equity guardwire.equity_state;
    sums guardwire.sync_sums;
    rows guardwire.log_row[] := '{}';
    r guardwire.log_row;
    seen bigint := 0;
BEGIN
    -- One reader of an account at a time; writers are not in its way.
    INSERT INTO guardwire.history_readers (user_id) VALUES (account);
    DELETE FROM guardwire.history_readers AS h WHERE h.user_id = account;
    IF (SELECT a.ready FROM guardwire.accounts AS a WHERE a.user_id = account) IS NOT FALSE THEN
        RETURN NULL;
    END IF;
    DELETE FROM guardwire.positions AS p WHERE p.user_id = account;
    -- What equity caused is not in the log: it stays.
    DELETE FROM guardwire.events AS e WHERE e.user_id = account AND e.event_type <> 'drawdown_alert';
    DELETE FROM guardwire.market_alerts AS m WHERE m.user_id = account;

    SELECT coalesce(max(s.revision), 0) INTO equity_upto FROM guardwire.arrivals AS s WHERE s.user_id = account AND s.source = 'e';
    equity := guardwire.equity_state(account, guardwire.noted_equity());
    SELECT coalesce(max(s.revision), 0) INTO upto FROM guardwire.arrivals AS s WHERE s.user_id = account AND s.source = 'l';
    FOR r IN SELECT h.* FROM guardwire.history_of(account, no_time) AS h LOOP
        CONTINUE WHEN r.revision > upto;
        rows := rows || r;
        seen := seen + 1;
        IF cardinality(rows) >= 2000 THEN
            sums := guardwire.apply_history(account, rows, sums, no_time);
            rows := '{}';
        END IF;
    END LOOP;
    sums := guardwire.apply_history(account, rows, sums, no_time);

    PERFORM guardwire.lock_reference(false);
    PERFORM guardwire.lock_accounts(ARRAY[account]);
    rows := guardwire.arrived_since(account, upto);
    sums := guardwire.apply_history(account, rows, sums, no_time);
    IF EXISTS (SELECT FROM guardwire.arrivals AS s WHERE s.user_id = account AND s.source = 'e' AND s.revision > equity_upto) THEN
        equity := guardwire.equity_state(account, guardwire.noted_equity());
    END IF;
    PERFORM guardwire.finish_history(account, sums, equity, no_time);
    RETURN seen + coalesce(cardinality(rows), 0);
END
$$;


--
-- Name: read_matched(boolean); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.read_matched(value boolean) RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ((value)::integer)::smallint;


--
-- Name: read_matched(smallint); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.read_matched(value smallint) RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (value IS NULL) THEN NULL::smallint WHEN (value = ANY (ARRAY[1, 2])) THEN value ELSE (0)::smallint END;


--
-- Name: read_matched(integer); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.read_matched(value integer) RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (value IS NULL) THEN NULL::smallint WHEN (value = ANY (ARRAY[1, 2])) THEN (value)::smallint ELSE (0)::smallint END;


--
-- Name: read_matched(bigint); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.read_matched(value bigint) RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (value IS NULL) THEN NULL::smallint WHEN (value = ANY (ARRAY[(1)::bigint, (2)::bigint])) THEN (value)::smallint ELSE (0)::smallint END;


--
-- Name: read_matched(text); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.read_matched(value text) RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (value IS NULL) THEN NULL::smallint WHEN (btrim(value) = '1'::text) THEN (1)::smallint WHEN (btrim(value) = '2'::text) THEN (2)::smallint ELSE (0)::smallint END;


--
-- Name: read_number(real); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.read_number(value real) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (abs(value) < ('1000000000000000'::numeric)::double precision) THEN round((value)::numeric, 15) ELSE NULL::numeric END;


--
-- Name: read_number(double precision); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.read_number(value double precision) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (abs(value) < ('1000000000000000'::numeric)::double precision) THEN round((value)::numeric, 15) ELSE NULL::numeric END;


--
-- Name: read_number(numeric); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.read_number(value numeric) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (abs(value) < '1000000000000000'::numeric) THEN round(value, 15) ELSE NULL::numeric END;


--
-- Name: read_number(bigint); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.read_number(value bigint) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN guardwire.read_number((value)::numeric);


--
-- Name: read_text(text, integer); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.read_text(value text, characters integer) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN NULLIF("left"(btrim(value, ' 	
'::text), characters), ''::text);


--
-- Name: read_ticket(smallint); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.read_ticket(value smallint) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (value > 0) THEN (value)::bigint ELSE NULL::bigint END;


--
-- Name: read_ticket(integer); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.read_ticket(value integer) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (value > 0) THEN (value)::bigint ELSE NULL::bigint END;


--
-- Name: read_ticket(bigint); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.read_ticket(value bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (value > 0) THEN value ELSE NULL::bigint END;


--
-- Name: read_ticket(numeric); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.read_ticket(value numeric) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN ((value >= (1)::numeric) AND (value <= ('9223372036854775807'::bigint)::numeric) AND (value = trunc(value))) THEN (value)::bigint ELSE NULL::bigint END;


--
-- Name: read_ticket(text); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.read_ticket(value text) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (value ~ '^\s*[0-9]{1,30}\s*$'::text) THEN guardwire.read_ticket((value)::numeric) ELSE NULL::bigint END;


--
-- Name: read_time(timestamp with time zone); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.read_time(value timestamp with time zone) RETURNS timestamp with time zone
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN ((value >= '1970-01-01 00:00:00+00'::timestamp with time zone) AND (value < '10000-01-01 00:00:00+00'::timestamp with time zone)) THEN value ELSE NULL::timestamp with time zone END;


--
-- Name: read_time(timestamp without time zone); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.read_time(value timestamp without time zone) RETURNS timestamp with time zone
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN guardwire.read_time((value AT TIME ZONE 'UTC'::text));


--
-- Name: read_user(text); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.read_user(value text) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (value ~ '^([0-9A-Fa-f]{4}(-?[0-9A-Fa-f]{4}){7}|\{[0-9A-Fa-f]{4}(-?[0-9A-Fa-f]{4}){7}\})$'::text) THEN (value)::uuid ELSE NULL::uuid END;


--
-- Name: read_user(uuid); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.read_user(value uuid) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN value;


--
-- Name: read_word(text); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.read_word(value text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN NULLIF(lower(btrim("left"(value, 80), ' 	
'::text)), ''::text);


--
-- Name: rebuild(uuid); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.rebuild(account uuid) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'warning'
    SET trace_notify TO 'off'
    AS $$
BEGIN
    PERFORM guardwire.unready(account);
    RETURN guardwire.read_history(account);
END
$$;


--
-- Name: reckoned(guardwire.positions); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.reckoned(p guardwire.positions) RETURNS guardwire.positions
    LANGUAGE plpgsql IMMUTABLE
    AS $$
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


--
-- Name: record_equity_arrivals(uuid[], integer[], boolean[], uuid[], bigint[]); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.record_equity_arrivals(ids uuid[], ordinals integer[], inserted boolean[], users uuid[], revisions bigint[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO guardwire.arrivals (user_id, revision, ordinal, log_id, source, inserted)
    SELECT u.user_id, u.revision, k.ordinal, k.id, 'e', k.inserted
    FROM unnest(ids, ordinals, inserted) AS k (id, ordinal, inserted)
    JOIN guardwire.equity_rows() AS e ON e.id = k.id
    JOIN unnest(users, revisions) AS u (user_id, revision) ON u.user_id = e.user_id;
END
$$;


--
-- Name: reread_rates(); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.reread_rates() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'warning'
    SET trace_notify TO 'off'
    AS $$
DECLARE
    newest text[] := ARRAY(
        SELECT 'xi' || f.id::text
        FROM (SELECT DISTINCT ON (r.base, r.quote) r.id, r.base, r.quote, r.rate, r.at FROM guardwire.fx_rows() AS r
              WHERE r.base IS NOT NULL AND r.quote IS NOT NULL AND r.rate IS NOT NULL AND r.at IS NOT NULL
              ORDER BY r.base, r.quote, r.at DESC) AS f
        LEFT JOIN guardwire.fx_current AS c ON c.base = f.base AND c.quote = f.quote
        -- Of rates of one time the one that arrived last is current; that is not on record.
        WHERE c.as_of IS NULL OR c.as_of < f.at
           OR NOT EXISTS (SELECT FROM guardwire.fx_rows() AS o
                          WHERE o.base = c.base AND o.quote = c.quote AND o.rate = c.rate AND (o.at = c.as_of OR o.at IS NULL)));
BEGIN
    IF cardinality(newest) > 0 THEN
        -- One that was altered to be newer than any row would stand against them all.
        DELETE FROM guardwire.fx_current AS c
        WHERE NOT EXISTS (SELECT FROM guardwire.fx_rows() AS o WHERE o.base = c.base AND o.quote = c.quote
                            AND (o.at >= c.as_of OR o.at IS NULL))
          AND EXISTS (SELECT FROM guardwire.fx_rows() AS o WHERE o.base = c.base AND o.quote = c.quote AND o.rate IS NOT NULL);
        PERFORM guardwire.apply_tokens(newest);
    END IF;
END
$$;


--
-- Name: settle_breaches(uuid, text, timestamp with time zone); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.settle_breaches(account uuid, cause text, now_at timestamp with time zone) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    a guardwire.accounts;
    countdown interval := make_interval(secs => (guardwire.limits_of(account)).countdown_seconds);
    begun timestamptz;
BEGIN
    DELETE FROM guardwire.breaches AS b USING guardwire.breaches AS o
    WHERE b.user_id = account AND b.cleared_at IS NULL AND o.user_id = account AND o.cleared_at IS NULL AND b.kind = o.kind
      AND b.symbol IS NOT DISTINCT FROM o.symbol AND b.condition_type IS NOT DISTINCT FROM o.condition_type
      AND (o.raised_at, o.breach_id) < (b.raised_at, b.breach_id);
    SELECT o.* INTO a FROM guardwire.accounts AS o WHERE o.user_id = account;
    IF a.drawdown_level = 'critical' THEN
        SELECT b.raised_at INTO begun FROM guardwire.breaches AS b
        WHERE b.user_id = account AND b.kind = 'drawdown' AND b.cleared_at IS NULL;
        IF NOT FOUND THEN
            begun := least(a.liquidation_at - countdown, a.equity_at, now_at);
            PERFORM guardwire.raise_breach(account, cause, 'drawdown', begun, a.drawdown_pct, NULL, NULL);
        END IF;
        -- A countdown is never begun anew.
        UPDATE guardwire.accounts AS o SET liquidation_at = least(o.liquidation_at, begun + countdown) WHERE o.user_id = account;
    ELSE
        UPDATE guardwire.accounts AS o SET liquidation_at = NULL WHERE o.user_id = account AND o.liquidation_at IS NOT NULL;
        PERFORM guardwire.clear_breach(account, 'drawdown', least(a.equity_at, now_at), NULL, NULL);
    END IF;
    UPDATE guardwire.breaches AS b SET cleared_at = greatest(now_at, b.raised_at)
    WHERE b.user_id = account AND b.kind = 'market' AND b.cleared_at IS NULL
      AND NOT EXISTS (SELECT FROM guardwire.market_alerts AS m
                      WHERE m.user_id = account AND m.symbol = b.symbol AND m.condition_type = b.condition_type
                        AND m.alert_type = 'critical');
    PERFORM guardwire.raise_breach(account, m.log_id::text, 'market', m.detected_at, coalesce(m.gap_pct, m.spread_pct),
                                   m.symbol, m.condition_type)
    FROM guardwire.market_alerts AS m
    WHERE m.user_id = account AND m.alert_type = 'critical'
      AND NOT EXISTS (SELECT FROM guardwire.breaches AS b
                      WHERE b.user_id = account AND b.kind = 'market' AND b.cleared_at IS NULL
                        AND b.symbol = m.symbol AND b.condition_type = m.condition_type);
END
$$;


--
-- Name: sync_sums(guardwire.log_row[]); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.sync_sums(rows guardwire.log_row[]) RETURNS SETOF guardwire.sync_sums
    LANGUAGE sql STABLE
    AS $$
    SELECT r.user_id,
           count(*) FILTER (WHERE r.is_sync AND r.inserted AND r.ticket IS NOT NULL),
           max(r.at) FILTER (WHERE r.is_sync AND NOT r.failed AND r.ticket IS NOT NULL),
           (array_agg(r.duration_ms ORDER BY r.at DESC, r.revision DESC, r.ordinal DESC)
               FILTER (WHERE r.is_sync AND NOT r.failed AND r.ticket IS NOT NULL))[1],
           max(coalesce(r.updated_at, r.at)) FILTER (WHERE NOT r.failed AND r.ticket IS NOT NULL),
           max(r.at) FILTER (WHERE r.ticket IS NOT NULL),
           (array_agg(r.error_message ORDER BY r.at DESC, r.revision DESC, r.ordinal DESC) FILTER (WHERE r.ticket IS NOT NULL))[1],
           count(*) FILTER (WHERE r.ticket IS NULL)
    FROM unnest(rows) AS r
    WHERE r.kind IN ('open', 'close')
    GROUP BY r.user_id
$$;


--
-- Name: take_listed(bigint); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.take_listed(first bigint) RETURNS text[]
    LANGUAGE plpgsql
    AS $$
DECLARE
    tokens text[];
BEGIN
    WITH taken AS (
        DELETE FROM guardwire.pending AS p WHERE p.xid = pg_current_xact_id() AND p.nth >= first RETURNING p.nth, p.token
    )
    SELECT array_agg(t.token ORDER BY t.nth) INTO tokens FROM taken AS t;
    RETURN tokens;
END
$$;


--
-- Name: tell_nodes(guardwire.positions[]); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.tell_nodes(moved guardwire.positions[]) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    settings guardwire.configuration;
    told record;
    chunk text := '';
BEGIN
    IF NOT guardwire.notifies() OR pg_notification_queue_usage() >= 0.5 THEN
        RETURN;
    END IF;
    SELECT c.* INTO settings FROM guardwire.configuration AS c WHERE c.singleton;
    FOR told IN
        SELECT a.user_id, a.revision,
               concat(a.user_id, ' ', a.base_revision, ' ', a.revision, ' ', a.total_syncs, ' ', guardwire.unix_us(a.last_sync_at),
                      ' ', a.last_sync_duration_ms::numeric, ' ', guardwire.unix_us(a.last_position_at), ' ', a.balance,
                      string_agg(guardwire.told_position(p, a.currency), '')) AS item
        FROM unnest(moved) AS p JOIN guardwire.accounts AS a ON a.user_id = p.user_id
        GROUP BY a.user_id
    LOOP
        told.item := told.item || '#' || guardwire.told_mac(settings.told_secret, told.item);
        IF length(told.item) > 7900 THEN
            PERFORM guardwire.notify_nodes(ARRAY[told.user_id], ARRAY[told.revision]);
        ELSIF length(chunk) + length(told.item) < 7900 THEN
            chunk := chunk || CASE WHEN chunk = '' THEN '' ELSE ';' END || told.item;
        ELSE
            PERFORM pg_notify(settings.told_channel, chunk);
            chunk := told.item;
        END IF;
    END LOOP;
    IF chunk <> '' THEN
        PERFORM pg_notify(settings.told_channel, chunk);
    END IF;
END
$$;


--
-- Name: told_mac(bytea, text); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.told_mac(secret bytea, item text) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN "left"(encode(sha256((secret || sha256((secret || convert_to(item, 'UTF8'::name))))), 'hex'::text), 32);


--
-- Name: unix_us(timestamp with time zone); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.unix_us(at timestamp with time zone) RETURNS bigint
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN ((EXTRACT(epoch FROM at) * (1000000)::numeric))::bigint;


--
-- Name: told_position(guardwire.positions, text); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.told_position(p guardwire.positions, account_currency text) RETURNS text
    LANGUAGE sql STABLE
    RETURN concat('|', (p).ticket, ' ', (p).matched, ' ', (p).current_price, ' ', CASE WHEN ((p).quote_currency <> account_currency) THEN guardwire.converted((p).pnl, (p).quote_currency, account_currency) ELSE round((p).pnl, 2) END, ' ', (p).pnl_pct, ' ', guardwire.unix_us((p).updated_at));


--
-- Name: touch_equity(); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.touch_equity() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    PERFORM guardwire.list_token(TG_ARGV[0] || NEW.id::text);
    RETURN NULL;
END
$$;


--
-- Name: touch_fx(); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.touch_fx() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    PERFORM guardwire.list_token('xi' || NEW.id::text);
    RETURN NULL;
END
$$;


--
-- Name: touch_gone(); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.touch_gone() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    IF guardwire.has_listed() THEN
        INSERT INTO guardwire.pending (token, wakes) VALUES ('-', false);
    END IF;
    RETURN NULL;
END
$$;


--
-- Name: touch_instruments(); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.touch_instruments() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM guardwire.list_token('iu' || OLD.symbol::text);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM guardwire.list_token('iu' || NEW.symbol::text);
    END IF;
    RETURN NULL;
END
$$;


--
-- Name: touch_limits(); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.touch_limits() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM guardwire.list_token('gu' || OLD.user_id::text);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM guardwire.list_token('gu' || NEW.user_id::text);
    END IF;
    RETURN NULL;
END
$$;


--
-- Name: touch_log(); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.touch_log() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    IF TG_ARGV[0] <> 'li' THEN
        PERFORM guardwire.list_token(TG_ARGV[0] || NEW.id::text);
        RETURN NULL;
    END IF;
    IF NOT guardwire.is_first() THEN
        INSERT INTO guardwire.pending (token, wakes) VALUES (coalesce('li' || NEW.id::text, '-'), false);
        RETURN NULL;
    END IF;
    -- The most frequent commit by far is one sync row: it is read here, once, while it is at hand. It is plain when it
    -- says nothing but prices and times that its position's last row did not say; its fingerprint tells.
    BEGIN
        INSERT INTO guardwire.pending (token, wakes, log_id, user_id, ticket, at, updated_at, current_price, fingerprint)
        VALUES (coalesce('li' || NEW.id::text, '-'), true, NEW.id, guardwire.read_user(NEW.user_id), guardwire.read_ticket(NEW.mt5_position_id),
                guardwire.read_time(NEW.created_at),
                coalesce(guardwire.read_time(NEW.updated_at), guardwire.read_time(NEW.created_at)),
                guardwire.read_number(NEW.current_price),
                CASE WHEN NEW.event_type::text = 'sync' AND NEW.close_reason IS NULL AND NEW.error_message IS NULL
                          AND (NEW.status IS NULL
                               -- Only what begins so can be read as failed.
                               OR strpos(E'fF \t\r\n\f\x0B', left(NEW.status::text, 1)) = 0)
                          AND NEW.current_price > 0 AND NEW.current_price < 1000000
                     THEN hash_record_extended(
                              ROW(NEW.symbol, NEW.direction, NEW.volume, NEW.entry_price, NEW.take_profit, NEW.stop_loss,
                                  NEW.matched, NEW.divergence_reason), 0)
                END);
    EXCEPTION WHEN OTHERS THEN
        -- The platform may have altered its table beyond recognition: that is for the commit to note.
        INSERT INTO guardwire.pending (token, wakes) VALUES (coalesce('li' || NEW.id::text, '-'), true);
    END;
    RETURN NULL;
END
$$;


--
-- Name: touch_truncated(); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.touch_truncated() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    IF TG_TABLE_NAME = 'guard_limits' THEN
        PERFORM guardwire.list_token('gu' || l.user_id::text) FROM public.guard_limits AS l;
    ELSE
        PERFORM guardwire.list_token('iu' || i.symbol::text) FROM public.instruments AS i;
    END IF;
    RETURN NULL;
END
$$;


--
-- Name: unready(uuid); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.unready(account uuid) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET client_min_messages TO 'warning'
    SET trace_notify TO 'off'
    AS $$
DECLARE
    users uuid[];
    revisions bigint[];
BEGIN
    IF NOT guardwire.log_users_are_uuids() THEN
        PERFORM guardwire.list_log_users();
    END IF;
    SELECT array_agg(a.user_id), array_agg(a.revision) INTO users, revisions FROM guardwire.lock_accounts(ARRAY[account]) AS a;
    UPDATE guardwire.accounts AS a SET ready = false WHERE a.user_id = account;
    PERFORM guardwire.notify_nodes(users, revisions);
END
$$;


--
-- Name: users_of(text[]); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.users_of(tokens text[]) RETURNS TABLE(source text, row_key text, user_id uuid, of_nobody boolean)
    LANGUAGE plpgsql STABLE
    SET enable_seqscan TO 'off'
    AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT DISTINCT n.source, n.row_key, found.user_id, found.user_id IS NULL
    FROM guardwire.listed_rows(tokens) AS n
    CROSS JOIN LATERAL (
        SELECT guardwire.read_user(l.user_id) AS user_id FROM public.reconciliation_logs AS l
        WHERE n.source = 'l' AND l.id = guardwire.read_user(n.row_key)
        UNION ALL
        SELECT guardwire.read_user(e.user_id) FROM public.equity_snapshots AS e
        WHERE n.source = 'e' AND e.id = guardwire.read_user(n.row_key)
        UNION ALL
        SELECT guardwire.read_user(n.row_key) WHERE n.source = 'g') AS found;
END
$$;


--
-- Name: with_instrument(guardwire.positions); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.with_instrument(p guardwire.positions) RETURNS guardwire.positions
    LANGUAGE plpgsql STABLE
    AS $$
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


--
-- Name: with_state(guardwire.positions, guardwire.log_row, boolean); Type: FUNCTION; Schema: guardwire; Owner: -
--

CREATE FUNCTION guardwire.with_state(p guardwire.positions, r guardwire.log_row, look_up boolean) RETURNS guardwire.positions
    LANGUAGE plpgsql STABLE
    AS $$
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


--
-- Name: accounts; Type: TABLE; Schema: guardwire; Owner: -
--

CREATE TABLE guardwire.accounts (
    user_id uuid NOT NULL,
    revision bigint NOT NULL,
    base_revision bigint,
    ready boolean DEFAULT true NOT NULL,
    source text DEFAULT 'silent'::text NOT NULL,
    last_sync_at timestamp with time zone,
    last_sync_arrived_at timestamp with time zone,
    last_sync_duration_ms double precision,
    total_syncs bigint DEFAULT 0 NOT NULL,
    sync_due_at timestamp with time zone,
    last_position_at timestamp with time zone,
    error_message text,
    error_at timestamp with time zone,
    currency text,
    balance numeric,
    equity numeric,
    equity_at timestamp with time zone,
    equity_flow numeric DEFAULT 0 NOT NULL,
    peak_adjusted numeric,
    peak_since timestamp with time zone,
    peak_equity numeric,
    drawdown_pct numeric,
    drawdown_level text,
    liquidation_at timestamp with time zone,
    ignored_rows bigint DEFAULT 0 NOT NULL
)
WITH (fillfactor='40', autovacuum_vacuum_scale_factor='0.1', autovacuum_vacuum_cost_delay='0');


--
-- Name: TABLE accounts; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON TABLE guardwire.accounts IS 'One row per account: its revision, totals, equity and drawdown; locking it orders the account''s commits';


--
-- Name: COLUMN accounts.user_id; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.accounts.user_id IS 'Whose account';


--
-- Name: COLUMN accounts.revision; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.accounts.revision IS 'Grows with every commit that concerns the account: greatest(last + 1, microseconds of the clock)';


--
-- Name: COLUMN accounts.base_revision; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.accounts.base_revision IS 'Revision before the latest commit that told nodes what it changed';


--
-- Name: COLUMN accounts.ready; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.accounts.ready IS 'False until the account''s history is read; until then its rows only queue in arrivals';


--
-- Name: COLUMN accounts.source; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.accounts.source IS 'live while syncs arrive, silent when they are overdue';


--
-- Name: COLUMN accounts.last_sync_at; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.accounts.last_sync_at IS 'Greatest time of a sync that did not fail';


--
-- Name: COLUMN accounts.last_sync_arrived_at; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.accounts.last_sync_arrived_at IS 'When the last sync that did not fail was committed; null for syncs older than the capture';


--
-- Name: COLUMN accounts.last_sync_duration_ms; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.accounts.last_sync_duration_ms IS 'updated_at - created_at of the latest sync; null unless positive';


--
-- Name: COLUMN accounts.total_syncs; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.accounts.total_syncs IS 'Sync rows ever inserted';


--
-- Name: COLUMN accounts.sync_due_at; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.accounts.sync_due_at IS 'When to look whether syncs are overdue; set once and moved lazily, null while silent';


--
-- Name: COLUMN accounts.last_position_at; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.accounts.last_position_at IS 'Greatest updated_at (else created_at) of a row about a position';


--
-- Name: COLUMN accounts.error_message; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.accounts.error_message IS 'Of the latest row about a position; null when it carries none';


--
-- Name: COLUMN accounts.error_at; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.accounts.error_at IS 'Time of the row that error_message was taken from';


--
-- Name: COLUMN accounts.currency; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.accounts.currency IS 'Of the latest equity row';


--
-- Name: COLUMN accounts.balance; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.accounts.balance IS 'Of the latest equity row';


--
-- Name: COLUMN accounts.equity; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.accounts.equity IS 'Of the latest equity row';


--
-- Name: COLUMN accounts.equity_at; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.accounts.equity_at IS 'Time of the latest equity row';


--
-- Name: COLUMN accounts.equity_flow; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.accounts.equity_flow IS 'Sum of all cash flows on record';


--
-- Name: COLUMN accounts.peak_adjusted; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.accounts.peak_adjusted IS 'Highest equity less the cash flows up to it';


--
-- Name: COLUMN accounts.peak_since; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.accounts.peak_since IS 'guard_limits.peak_since that peak_adjusted was computed with';


--
-- Name: COLUMN accounts.peak_equity; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.accounts.peak_equity IS 'peak_adjusted + equity_flow: the peak in today''s money';


--
-- Name: COLUMN accounts.drawdown_pct; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.accounts.drawdown_pct IS '(peak - equity) / peak, 0-100 %, 2 decimals; null without equity';


--
-- Name: COLUMN accounts.drawdown_level; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.accounts.drawdown_level IS 'normal, warning or critical; null without equity';


--
-- Name: COLUMN accounts.liquidation_at; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.accounts.liquidation_at IS 'End of the countdown of a critical drawdown; null otherwise';


--
-- Name: COLUMN accounts.ignored_rows; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.accounts.ignored_rows IS 'Rows of this user that could not be used';


--
-- Name: arrivals; Type: TABLE; Schema: guardwire; Owner: -
--

CREATE TABLE guardwire.arrivals (
    user_id uuid NOT NULL,
    revision bigint NOT NULL,
    ordinal integer NOT NULL,
    log_id uuid NOT NULL,
    source "char" DEFAULT 'l'::"char" NOT NULL,
    inserted boolean DEFAULT true NOT NULL
)
WITH (autovacuum_vacuum_insert_scale_factor='0.5');


--
-- Name: TABLE arrivals; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON TABLE guardwire.arrivals IS 'Order in which rows were committed, account by account; kept for configuration.arrival_hours';


--
-- Name: COLUMN arrivals.user_id; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.arrivals.user_id IS 'Whose account';


--
-- Name: COLUMN arrivals.revision; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.arrivals.revision IS 'Revision of the commit';


--
-- Name: COLUMN arrivals.ordinal; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.arrivals.ordinal IS 'Order within the transaction';


--
-- Name: COLUMN arrivals.log_id; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.arrivals.log_id IS 'Id of the row';


--
-- Name: COLUMN arrivals.source; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.arrivals.source IS 'l: reconciliation_logs, e: equity_snapshots';


--
-- Name: COLUMN arrivals.inserted; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.arrivals.inserted IS 'False when the row was updated in place';


--
-- Name: backfill; Type: TABLE; Schema: guardwire; Owner: -
--

CREATE TABLE guardwire.backfill (
    singleton boolean DEFAULT true NOT NULL,
    listed boolean DEFAULT false NOT NULL,
    done boolean DEFAULT false NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    done_at timestamp with time zone,
    CONSTRAINT backfill_singleton_check CHECK (singleton)
);


--
-- Name: TABLE backfill; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON TABLE guardwire.backfill IS 'One row: whether the history that was there before the capture has been read';


--
-- Name: COLUMN backfill.singleton; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.backfill.singleton IS 'Keeps the table at one row';


--
-- Name: COLUMN backfill.listed; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.backfill.listed IS 'Every account with history has a row in accounts; one that appears later has none and is ready at once';


--
-- Name: COLUMN backfill.done; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.backfill.done IS 'Every account is ready';


--
-- Name: COLUMN backfill.started_at; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.backfill.started_at IS 'When the capture was installed';


--
-- Name: COLUMN backfill.done_at; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.backfill.done_at IS 'When every account was ready';


--
-- Name: breaches; Type: TABLE; Schema: guardwire; Owner: -
--

CREATE TABLE guardwire.breaches (
    user_id uuid NOT NULL,
    breach_id text NOT NULL,
    kind text NOT NULL,
    symbol text,
    condition_type text,
    raised_at timestamp with time zone NOT NULL,
    cleared_at timestamp with time zone,
    observed_pct numeric
)
WITH (fillfactor='70');


--
-- Name: TABLE breaches; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON TABLE guardwire.breaches IS 'Whatever became critical: newest 20 and all younger than an hour, at most 200 per account';


--
-- Name: COLUMN breaches.user_id; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.breaches.user_id IS 'Whose account';


--
-- Name: COLUMN breaches.breach_id; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.breaches.breach_id IS 'Id of the log or equity row, or limits-<revision>';


--
-- Name: COLUMN breaches.kind; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.breaches.kind IS 'drawdown or market';


--
-- Name: COLUMN breaches.symbol; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.breaches.symbol IS 'market: symbol, or *';


--
-- Name: COLUMN breaches.condition_type; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.breaches.condition_type IS 'market: as in market_alerts';


--
-- Name: COLUMN breaches.raised_at; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.breaches.raised_at IS 'When it became critical';


--
-- Name: COLUMN breaches.cleared_at; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.breaches.cleared_at IS 'When it no longer was; null while it is';


--
-- Name: COLUMN breaches.observed_pct; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.breaches.observed_pct IS 'Drawdown, gap or spread when it became critical, %';


--
-- Name: capture_notes_id_seq; Type: SEQUENCE; Schema: guardwire; Owner: -
--

ALTER TABLE guardwire.capture_notes ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME guardwire.capture_notes_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: configuration; Type: TABLE; Schema: guardwire; Owner: -
--

CREATE TABLE guardwire.configuration (
    singleton boolean DEFAULT true NOT NULL,
    notify boolean DEFAULT true NOT NULL,
    told_channel text DEFAULT ('guardwire_'::text || replace((gen_random_uuid())::text, '-'::text, ''::text)) NOT NULL,
    arrival_hours integer DEFAULT 48 NOT NULL,
    told_secret bytea DEFAULT (uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())) NOT NULL,
    CONSTRAINT configuration_arrival_hours_check CHECK (((arrival_hours >= 1) AND (arrival_hours <= 87600))),
    CONSTRAINT configuration_singleton_check CHECK (singleton)
);


--
-- Name: TABLE configuration; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON TABLE guardwire.configuration IS 'One row: settings that every writer and node shares';


--
-- Name: COLUMN configuration.singleton; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.configuration.singleton IS 'Keeps the table at one row';


--
-- Name: COLUMN configuration.notify; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.configuration.notify IS 'Whether a commit sends NOTIFY; without it nodes find changes by their sweep alone';


--
-- Name: COLUMN configuration.told_channel; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.configuration.told_channel IS 'Notify channel on which commits tell what they changed: a secret, because a login that knows the name can listen';


--
-- Name: COLUMN configuration.arrival_hours; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.configuration.arrival_hours IS 'How long arrivals and ignored rows are kept';


--
-- Name: COLUMN configuration.told_secret; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.configuration.told_secret IS '32 random bytes that prove that an item comes from the capture; `guardwire rotate-channel` replaces it and told_channel';


--
-- Name: epoch; Type: TABLE; Schema: guardwire; Owner: -
--

CREATE TABLE guardwire.epoch (
    singleton boolean DEFAULT true NOT NULL,
    epoch bigint NOT NULL,
    system_identifier text,
    timeline text,
    CONSTRAINT epoch_singleton_check CHECK (singleton)
);


--
-- Name: TABLE epoch; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON TABLE guardwire.epoch IS 'One row: names the history that revisions belong to; raised when a restored or promoted database may have lost commits';


--
-- Name: COLUMN epoch.singleton; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.epoch.singleton IS 'Keeps the table at one row';


--
-- Name: COLUMN epoch.epoch; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.epoch.epoch IS 'greatest(last + 1, unix milliseconds)';


--
-- Name: COLUMN epoch.system_identifier; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.epoch.system_identifier IS 'pg_control_system() when the epoch was raised';


--
-- Name: COLUMN epoch.timeline; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.epoch.timeline IS 'pg_control_checkpoint() when the epoch was raised';


--
-- Name: fx_current; Type: TABLE; Schema: guardwire; Owner: -
--

CREATE TABLE guardwire.fx_current (
    base text NOT NULL,
    quote text NOT NULL,
    rate numeric NOT NULL,
    as_of timestamp with time zone NOT NULL
)
WITH (fillfactor='50');


--
-- Name: TABLE fx_current; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON TABLE guardwire.fx_current IS 'Newest usable rate of each pair';


--
-- Name: COLUMN fx_current.base; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.fx_current.base IS 'ISO code, upper case';


--
-- Name: COLUMN fx_current.quote; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.fx_current.quote IS 'ISO code, upper case';


--
-- Name: COLUMN fx_current.rate; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.fx_current.rate IS 'Units of quote for one of base';


--
-- Name: COLUMN fx_current.as_of; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.fx_current.as_of IS 'created_at of the rate';


--
-- Name: history_readers; Type: TABLE; Schema: guardwire; Owner: -
--

CREATE UNLOGGED TABLE guardwire.history_readers (
    user_id uuid NOT NULL
);


--
-- Name: TABLE history_readers; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON TABLE guardwire.history_readers IS 'Accounts whose history is being read; no row is ever committed';


--
-- Name: COLUMN history_readers.user_id; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.history_readers.user_id IS 'The account';


--
-- Name: ignored_rows; Type: TABLE; Schema: guardwire; Owner: -
--

CREATE TABLE guardwire.ignored_rows (
    noted_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    source text NOT NULL,
    row_key text NOT NULL,
    user_id uuid,
    reason text NOT NULL
);


--
-- Name: TABLE ignored_rows; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON TABLE guardwire.ignored_rows IS 'Rows that could not be used: no usable user, ticket, equity or rate';


--
-- Name: COLUMN ignored_rows.noted_at; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.ignored_rows.noted_at IS 'When the row arrived';


--
-- Name: COLUMN ignored_rows.source; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.ignored_rows.source IS 'log, equity or fx';


--
-- Name: COLUMN ignored_rows.row_key; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.ignored_rows.row_key IS 'Primary key of the row';


--
-- Name: COLUMN ignored_rows.user_id; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.ignored_rows.user_id IS 'Whose account; null when that is what could not be used';


--
-- Name: COLUMN ignored_rows.reason; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.ignored_rows.reason IS 'user, ticket, equity or rate';


--
-- Name: log_users; Type: TABLE; Schema: guardwire; Owner: -
--

CREATE TABLE guardwire.log_users (
    written text NOT NULL,
    user_id uuid
);


--
-- Name: TABLE log_users; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON TABLE guardwire.log_users IS 'Every form of a user in reconciliation_logs.user_id, where that column is not a uuid';


--
-- Name: COLUMN log_users.written; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.log_users.written IS 'As the platform wrote it';


--
-- Name: COLUMN log_users.user_id; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.log_users.user_id IS 'The account; null when it is none';


--
-- Name: migrations; Type: TABLE; Schema: guardwire; Owner: -
--

CREATE TABLE guardwire.migrations (
    version_num character varying(32) NOT NULL
);


--
-- Name: pending; Type: TABLE; Schema: guardwire; Owner: -
--

CREATE UNLOGGED TABLE guardwire.pending (
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    nth bigint NOT NULL,
    token text NOT NULL,
    wakes boolean NOT NULL,
    log_id uuid,
    user_id uuid,
    ticket bigint,
    at timestamp with time zone,
    updated_at timestamp with time zone,
    current_price numeric,
    fingerprint bigint
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='5000', autovacuum_vacuum_cost_delay='0', vacuum_truncate=off);


--
-- Name: TABLE pending; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON TABLE guardwire.pending IS 'The rows of the sources that each running transaction has touched; removed when its capture runs';


--
-- Name: COLUMN pending.xid; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.pending.xid IS 'The writer''s transaction';


--
-- Name: COLUMN pending.nth; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.pending.nth IS 'Order in which the rows were listed';


--
-- Name: COLUMN pending.token; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.pending.token IS 'Names the row, as guardwire.apply_tokens reads it; - when rows of the log were removed';


--
-- Name: COLUMN pending.wakes; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.pending.wakes IS 'Whether the capture runs for this row: for the first of a transaction';


--
-- Name: COLUMN pending.log_id; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.pending.log_id IS 'The first row of the log that the transaction inserted; null otherwise';


--
-- Name: COLUMN pending.user_id; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.pending.user_id IS 'Whose account';


--
-- Name: COLUMN pending.ticket; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.pending.ticket IS 'MT5 ticket';


--
-- Name: COLUMN pending.at; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.pending.at IS 'created_at of the row';


--
-- Name: COLUMN pending.updated_at; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.pending.updated_at IS 'updated_at (else created_at) of the row';


--
-- Name: COLUMN pending.current_price; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.pending.current_price IS 'Of the row';


--
-- Name: COLUMN pending.fingerprint; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.pending.fingerprint IS 'As in positions; null when the row is not a plain sync';


--
-- Name: pending_nth_seq; Type: SEQUENCE; Schema: guardwire; Owner: -
--

ALTER TABLE guardwire.pending ALTER COLUMN nth ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME guardwire.pending_nth_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: reference; Type: TABLE; Schema: guardwire; Owner: -
--

CREATE TABLE guardwire.reference (
    singleton boolean DEFAULT true NOT NULL,
    changes bigint DEFAULT 0 NOT NULL,
    CONSTRAINT reference_singleton_check CHECK (singleton)
);


--
-- Name: TABLE reference; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON TABLE guardwire.reference IS 'One row: how often instruments or rates have changed';


--
-- Name: COLUMN reference.singleton; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.reference.singleton IS 'Keeps the table at one row';


--
-- Name: COLUMN reference.changes; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.reference.changes IS 'Grows with every commit that changes instruments or rates';


--
-- Name: revocations; Type: TABLE; Schema: guardwire; Owner: -
--

CREATE TABLE guardwire.revocations (
    revocation_id bigint NOT NULL,
    user_id uuid,
    token_id text,
    revoked_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    reason text DEFAULT ''::text NOT NULL,
    transaction_id xid8 DEFAULT pg_current_xact_id() NOT NULL,
    locked_until timestamp with time zone,
    undone_at timestamp with time zone,
    CONSTRAINT a_revocation_ends_after_it_begins CHECK ((expires_at > revoked_at)),
    CONSTRAINT a_revocation_names_a_user_or_a_token CHECK ((num_nonnulls(user_id, token_id) = 1)),
    CONSTRAINT a_token_id_is_1_to_256_characters CHECK (((length(token_id) >= 1) AND (length(token_id) <= 256)))
);


--
-- Name: TABLE revocations; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON TABLE guardwire.revocations IS 'A user''s tokens issued until revoked_at, or one token, are refused until expires_at, when they have expired anyway';


--
-- Name: COLUMN revocations.locked_until; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.revocations.locked_until IS 'A user''s tokens issued until then are refused too; NULL where only those issued until revoked_at are';


--
-- Name: COLUMN revocations.undone_at; Type: COMMENT; Schema: guardwire; Owner: -
--

COMMENT ON COLUMN guardwire.revocations.undone_at IS 'The row counts no longer since then; NULL while it does. Its transaction_id is that of the undoing';


--
-- Name: revocations_revocation_id_seq; Type: SEQUENCE; Schema: guardwire; Owner: -
--

ALTER TABLE guardwire.revocations ALTER COLUMN revocation_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME guardwire.revocations_revocation_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: equity_snapshots; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.equity_snapshots (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    user_id uuid,
    equity numeric,
    balance numeric,
    currency text,
    cash_flow numeric DEFAULT 0,
    created_at timestamp with time zone DEFAULT now()
);


--
-- Name: TABLE equity_snapshots; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.equity_snapshots IS 'Equity of each account over time; the platform appends';


--
-- Name: COLUMN equity_snapshots.user_id; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.equity_snapshots.user_id IS 'Whose account';


--
-- Name: COLUMN equity_snapshots.equity; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.equity_snapshots.equity IS 'Balance and floating profit, in currency; a row without a finite value is ignored and counted';


--
-- Name: COLUMN equity_snapshots.balance; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.equity_snapshots.balance IS 'Money without floating profit, in currency';


--
-- Name: COLUMN equity_snapshots.currency; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.equity_snapshots.currency IS 'ISO code of the account''s currency';


--
-- Name: COLUMN equity_snapshots.cash_flow; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.equity_snapshots.cash_flow IS 'Deposit (+) or withdrawal (-) since the row before, contained in equity; it shifts the peak';


--
-- Name: COLUMN equity_snapshots.created_at; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.equity_snapshots.created_at IS 'When the equity was read';


--
-- Name: fx_rates; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.fx_rates (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    base text,
    quote text,
    rate numeric,
    created_at timestamp with time zone DEFAULT now()
);


--
-- Name: TABLE fx_rates; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.fx_rates IS 'Exchange rates over time; the platform appends';


--
-- Name: COLUMN fx_rates.base; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.fx_rates.base IS 'ISO code';


--
-- Name: COLUMN fx_rates.quote; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.fx_rates.quote IS 'ISO code';


--
-- Name: COLUMN fx_rates.rate; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.fx_rates.rate IS 'Units of quote for one of base; a row without a finite positive rate is ignored';


--
-- Name: COLUMN fx_rates.created_at; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.fx_rates.created_at IS 'When the rate was read';


--
-- Name: instruments; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.instruments (
    symbol text NOT NULL,
    contract_size numeric NOT NULL,
    pip_size numeric,
    quote_currency text NOT NULL,
    CONSTRAINT contract_size_is_positive CHECK (((contract_size > (0)::numeric) AND (contract_size < '1000000000000'::numeric))),
    CONSTRAINT pip_size_is_positive CHECK (((pip_size > (0)::numeric) AND (pip_size < '1000000000000'::numeric))),
    CONSTRAINT quote_currency_is_upper_case CHECK (((quote_currency = upper(btrim(quote_currency))) AND ((length(quote_currency) >= 1) AND (length(quote_currency) <= 16)))),
    CONSTRAINT symbol_is_upper_case CHECK (((symbol = upper(btrim(symbol))) AND ((length(symbol) >= 1) AND (length(symbol) <= 64))))
);


--
-- Name: TABLE instruments; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON TABLE public.instruments IS 'What one lot of a symbol is; an unknown symbol counts as contract size 1 in the account''s currency';


--
-- Name: COLUMN instruments.symbol; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.instruments.symbol IS 'In upper case, as the platform writes it';


--
-- Name: COLUMN instruments.contract_size; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.instruments.contract_size IS 'Units of the base in one lot';


--
-- Name: COLUMN instruments.pip_size; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.instruments.pip_size IS 'Price of one pip, in the quote currency';


--
-- Name: COLUMN instruments.quote_currency; Type: COMMENT; Schema: public; Owner: -
--

COMMENT ON COLUMN public.instruments.quote_currency IS 'Currency that profit arises in';


--
-- Name: reconciliation_logs; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.reconciliation_logs (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
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
    created_at timestamp with time zone DEFAULT now(),
    updated_at timestamp with time zone
);


--
-- Data for Name: accounts; Type: TABLE DATA; Schema: guardwire; Owner: -
--

INSERT INTO guardwire.accounts VALUES ('11111111-1111-4111-8111-111111111111', 1796072880674764, 1796072880672950, true, 'live', '2026-11-30 12:00:02+00', '2026-11-30 21:08:00.665993+00', NULL, 6, '2026-11-30 21:08:00.649153+00', '2026-11-30 12:05:00+00', NULL, '2026-11-30 12:05:00+00', 'USD', 10000.000000000000000, 9400.000000000000000, '2026-11-30 12:06:00+00', 1000.000000000000000, 10000.000000000000000, NULL, 11000.000000000000000, 14.55, 'normal', NULL, 0);
INSERT INTO guardwire.accounts VALUES ('22222222-2222-4222-8222-222222222222', 1796072880685983, 1796072880683994, true, 'live', '2026-11-30 12:00:00+00', '2026-11-30 21:08:00.680978+00', NULL, 1, '2026-11-30 21:08:00.680978+00', '2026-11-30 12:00:00+00', NULL, '2026-11-30 12:00:00+00', 'EUR', 10000.000000000000000, 8500.000000000000000, '2026-11-30 12:02:00+00', 0.000000000000000, 10000.000000000000000, NULL, 10000.000000000000000, 15.00, 'critical', '2026-11-30 12:03:00+00', 0);


--
-- Data for Name: arrivals; Type: TABLE DATA; Schema: guardwire; Owner: -
--

INSERT INTO guardwire.arrivals VALUES ('11111111-1111-4111-8111-111111111111', 1796072880651558, 1, '4395bef2-797c-428c-822a-6a8884428144', 'l', true);
INSERT INTO guardwire.arrivals VALUES ('11111111-1111-4111-8111-111111111111', 1796072880660072, 1, '12ec69b0-a65b-481b-83d3-19d870c76485', 'l', true);
INSERT INTO guardwire.arrivals VALUES ('11111111-1111-4111-8111-111111111111', 1796072880661880, 1, '5ba55888-3f30-4f71-bcd1-e3834843411e', 'l', true);
INSERT INTO guardwire.arrivals VALUES ('11111111-1111-4111-8111-111111111111', 1796072880663229, 1, 'e1e4c6a5-1d64-4859-9961-aef36aee1093', 'l', true);
INSERT INTO guardwire.arrivals VALUES ('11111111-1111-4111-8111-111111111111', 1796072880664766, 1, 'd49388f4-fae6-4e1e-95cb-59c7b0ce44c1', 'l', true);
INSERT INTO guardwire.arrivals VALUES ('11111111-1111-4111-8111-111111111111', 1796072880666110, 1, '915ad890-3efe-4046-8b9c-3db842ee49db', 'l', true);
INSERT INTO guardwire.arrivals VALUES ('11111111-1111-4111-8111-111111111111', 1796072880667572, 1, '6d96af21-db7f-441a-9d4d-c3eef9719954', 'l', true);
INSERT INTO guardwire.arrivals VALUES ('11111111-1111-4111-8111-111111111111', 1796072880669267, 1, '4e715b2a-017c-4e07-9205-8b645f6f7b57', 'e', true);
INSERT INTO guardwire.arrivals VALUES ('11111111-1111-4111-8111-111111111111', 1796072880672950, 1, '9f9e307e-eaac-48b6-9c6a-6258317d6638', 'e', true);
INSERT INTO guardwire.arrivals VALUES ('11111111-1111-4111-8111-111111111111', 1796072880674764, 1, 'ad83767c-1d58-4c1a-bed1-739900e51db9', 'e', true);
INSERT INTO guardwire.arrivals VALUES ('22222222-2222-4222-8222-222222222222', 1796072880677937, 1, 'f0ab4b1f-6f8c-491d-be7d-acff691aa964', 'e', true);
INSERT INTO guardwire.arrivals VALUES ('22222222-2222-4222-8222-222222222222', 1796072880679003, 1, 'b1684cdf-76df-4004-aade-2a3a747834f3', 'e', true);
INSERT INTO guardwire.arrivals VALUES ('22222222-2222-4222-8222-222222222222', 1796072880681095, 1, '1b907fc6-df0c-4469-9f46-04891a7b2556', 'l', true);
INSERT INTO guardwire.arrivals VALUES ('22222222-2222-4222-8222-222222222222', 1796072880685983, 1, '9f6e0656-f545-474f-8801-5860c056ba14', 'l', true);


--
-- Data for Name: backfill; Type: TABLE DATA; Schema: guardwire; Owner: -
--

INSERT INTO guardwire.backfill VALUES (true, true, true, '2026-11-30 21:08:00.430458+00', '2026-11-30 21:08:00.639263+00');


--
-- Data for Name: breaches; Type: TABLE DATA; Schema: guardwire; Owner: -
--

INSERT INTO guardwire.breaches VALUES ('22222222-2222-4222-8222-222222222222', 'b1684cdf-76df-4004-aade-2a3a747834f3', 'drawdown', NULL, NULL, '2026-11-30 12:02:00+00', NULL, 15.00);


--
-- Data for Name: capture_notes; Type: TABLE DATA; Schema: guardwire; Owner: -
--

INSERT INTO guardwire.capture_notes OVERRIDING SYSTEM VALUE VALUES (1, '2026-11-30 21:08:00.688777+00', '92194', 'l', '57f72a50-75e7-48d9-a552-7e7fa80657a5', true, '55P03', 'canceling statement due to lock timeout', 0, NULL, '33333333-3333-4333-8333-333333333333', false);


--
-- Data for Name: configuration; Type: TABLE DATA; Schema: guardwire; Owner: -
--

INSERT INTO guardwire.configuration VALUES (true, true, 'guardwire_457434fa4bdd42f79ecc1204157d220c', 48, '\x04b5db91bddb49c0bc13cf1c97bf308b84294dfd81e0466caec6bf21abddbd00');


--
-- Data for Name: epoch; Type: TABLE DATA; Schema: guardwire; Owner: -
--

INSERT INTO guardwire.epoch VALUES (true, 1796072880463, '7714060460660414345', '1');


--
-- Data for Name: events; Type: TABLE DATA; Schema: guardwire; Owner: -
--

INSERT INTO guardwire.events VALUES ('11111111-1111-4111-8111-111111111111', '4395bef2-797c-428c-822a-6a8884428144', 'position_matched', '2026-11-30 12:00:00+00', 1796072880651558, 1, 'XAUUSD', 1, 1, NULL, NULL);
INSERT INTO guardwire.events VALUES ('11111111-1111-4111-8111-111111111111', 'e1e4c6a5-1d64-4859-9961-aef36aee1093', 'position_matched', '2026-11-30 12:00:00+00', 1796072880663229, 1, 'EURUSD', 2, 1, NULL, NULL);
INSERT INTO guardwire.events VALUES ('11111111-1111-4111-8111-111111111111', 'd49388f4-fae6-4e1e-95cb-59c7b0ce44c1', 'divergence_detected', '2026-11-30 12:00:00+00', 1796072880664766, 1, 'GBPJPY', 3, 2, NULL, NULL);
INSERT INTO guardwire.events VALUES ('11111111-1111-4111-8111-111111111111', '915ad890-3efe-4046-8b9c-3db842ee49db', 'position_matched', '2026-11-30 12:00:00+00', 1796072880666110, 1, 'XAUUSD', 4, 1, NULL, NULL);
INSERT INTO guardwire.events VALUES ('11111111-1111-4111-8111-111111111111', '6d96af21-db7f-441a-9d4d-c3eef9719954', 'position_closed', '2026-11-30 12:05:00+00', 1796072880667572, 1, 'XAUUSD', 4, 1, NULL, NULL);
INSERT INTO guardwire.events VALUES ('22222222-2222-4222-8222-222222222222', 'b1684cdf-76df-4004-aade-2a3a747834f3', 'drawdown_alert', '2026-11-30 12:02:00+00', 1796072880679003, 1, NULL, NULL, NULL, NULL, NULL);
INSERT INTO guardwire.events VALUES ('22222222-2222-4222-8222-222222222222', '1b907fc6-df0c-4469-9f46-04891a7b2556', 'position_matched', '2026-11-30 12:00:00+00', 1796072880681095, 1, 'XAUUSD', 7, 1, NULL, NULL);
INSERT INTO guardwire.events VALUES ('22222222-2222-4222-8222-222222222222', '9f6e0656-f545-474f-8801-5860c056ba14', 'market_condition_alert', '2026-11-30 12:00:00+00', 1796072880685983, 1, 'XAUUSD', NULL, 0, NULL, 'price gap');


--
-- Data for Name: fx_current; Type: TABLE DATA; Schema: guardwire; Owner: -
--

INSERT INTO guardwire.fx_current VALUES ('EUR', 'USD', 1.080000000000000, '2026-11-30 11:00:00+00');


--
-- Data for Name: history_readers; Type: TABLE DATA; Schema: guardwire; Owner: -
--



--
-- Data for Name: ignored_rows; Type: TABLE DATA; Schema: guardwire; Owner: -
--



--
-- Data for Name: log_users; Type: TABLE DATA; Schema: guardwire; Owner: -
--



--
-- Data for Name: market_alerts; Type: TABLE DATA; Schema: guardwire; Owner: -
--



--
-- Data for Name: migrations; Type: TABLE DATA; Schema: guardwire; Owner: -
--

INSERT INTO guardwire.migrations VALUES ('0004');


--
-- Data for Name: pending; Type: TABLE DATA; Schema: guardwire; Owner: -
--



--
-- Data for Name: positions; Type: TABLE DATA; Schema: guardwire; Owner: -
--

INSERT INTO guardwire.positions VALUES ('11111111-1111-4111-8111-111111111111', 1, '4395bef2-797c-428c-822a-6a8884428144', true, 1, 'XAUUSD', 'buy', 0.100000000000000, 1950.500000000000000, 1953.000000000000000, NULL, NULL, '2026-11-30 12:00:00+00', '2026-11-30 12:00:02+00', 1796072880661880, 1, '2026-11-30 12:00:02+00', NULL, NULL, NULL, NULL, NULL, 'USD', 100, false, 10.000000000000000, 19.50500000000000000, 8357702498555810032, 25.000000000000000000000000000000, 0.13);
INSERT INTO guardwire.positions VALUES ('11111111-1111-4111-8111-111111111111', 2, 'e1e4c6a5-1d64-4859-9961-aef36aee1093', true, 1, 'EURUSD', 'buy', 0.100000000000000, 1950.500000000000000, 1.100000000000000, NULL, NULL, '2026-11-30 12:00:00+00', '2026-11-30 12:00:00+00', 1796072880663229, 1, '2026-11-30 12:00:00+00', NULL, NULL, NULL, NULL, NULL, 'USD', 100000, false, 10000.000000000000000, 19.50500000000000000, 4280318141178069716, -19494000.000000000000000000000000000000, -99.94);
INSERT INTO guardwire.positions VALUES ('11111111-1111-4111-8111-111111111111', 3, 'd49388f4-fae6-4e1e-95cb-59c7b0ce44c1', true, 2, 'GBPJPY', 'buy', 0.100000000000000, 1950.500000000000000, 190.000000000000000, NULL, NULL, '2026-11-30 12:00:00+00', '2026-11-30 12:00:00+00', 1796072880664766, 1, '2026-11-30 12:00:00+00', NULL, NULL, NULL, NULL, NULL, 'JPY', 100000, false, 10000.000000000000000, 19.50500000000000000, 8404265479731825425, -17605000.000000000000000000000000000000, -90.26);
INSERT INTO guardwire.positions VALUES ('11111111-1111-4111-8111-111111111111', 4, '915ad890-3efe-4046-8b9c-3db842ee49db', false, 1, 'XAUUSD', 'buy', 0.100000000000000, 1950.500000000000000, 1950.000000000000000, NULL, NULL, '2026-11-30 12:00:00+00', '2026-11-30 12:00:00+00', 1796072880666110, 1, '2026-11-30 12:05:00+00', '2026-11-30 12:05:00+00', 'tp', 1960.000000000000000, '2026-11-30 12:05:00+00', NULL, 'USD', 100, false, 10.000000000000000, 19.50500000000000000, NULL, -5.000000000000000000000000000000, -0.03);
INSERT INTO guardwire.positions VALUES ('22222222-2222-4222-8222-222222222222', 7, '1b907fc6-df0c-4469-9f46-04891a7b2556', true, 1, 'XAUUSD', 'buy', 0.100000000000000, 1950.500000000000000, 1955.000000000000000, NULL, NULL, '2026-11-30 12:00:00+00', '2026-11-30 12:00:00+00', 1796072880681095, 1, '2026-11-30 12:00:00+00', NULL, NULL, NULL, NULL, NULL, 'USD', 100, false, 10.000000000000000, 19.50500000000000000, 8357702498555810032, 45.000000000000000000000000000000, 0.23);


--
-- Data for Name: reference; Type: TABLE DATA; Schema: guardwire; Owner: -
--

INSERT INTO guardwire.reference VALUES (true, 2);


--
-- Data for Name: revocations; Type: TABLE DATA; Schema: guardwire; Owner: -
--

INSERT INTO guardwire.revocations OVERRIDING SYSTEM VALUE VALUES (1, '11111111-1111-4111-8111-111111111111', NULL, '2026-11-30 21:08:00.689485+00', '2036-01-01 00:00:00+00', 'left the desk', '92195', NULL, NULL);


--
-- Data for Name: equity_snapshots; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.equity_snapshots VALUES ('4e715b2a-017c-4e07-9205-8b645f6f7b57', '11111111-1111-4111-8111-111111111111', 10000, 10000, 'USD', 0, '2026-11-30 12:04:00+00');
INSERT INTO public.equity_snapshots VALUES ('9f9e307e-eaac-48b6-9c6a-6258317d6638', '11111111-1111-4111-8111-111111111111', 8400, 10000, 'USD', 0, '2026-11-30 12:00:00+00');
INSERT INTO public.equity_snapshots VALUES ('ad83767c-1d58-4c1a-bed1-739900e51db9', '11111111-1111-4111-8111-111111111111', 9400, 10000, 'USD', 1000, '2026-11-30 12:06:00+00');
INSERT INTO public.equity_snapshots VALUES ('f0ab4b1f-6f8c-491d-be7d-acff691aa964', '22222222-2222-4222-8222-222222222222', 10000, 10000, 'EUR', 0, '2026-11-30 12:01:00+00');
INSERT INTO public.equity_snapshots VALUES ('b1684cdf-76df-4004-aade-2a3a747834f3', '22222222-2222-4222-8222-222222222222', 8500, 10000, 'EUR', 0, '2026-11-30 12:02:00+00');


--
-- Data for Name: fx_rates; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.fx_rates VALUES ('91cac50c-b15f-416a-807b-11967d9170d7', 'EUR', 'USD', 1.08, '2026-11-30 11:00:00+00');


--
-- Data for Name: guard_limits; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.guard_limits VALUES ('22222222-2222-4222-8222-222222222222', 5, 10, 100, 60, 5, 10, 0.5, 1, 3600, 60, NULL);


--
-- Data for Name: instruments; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.instruments VALUES ('EURUSD', 100000, 0.0001, 'USD');
INSERT INTO public.instruments VALUES ('GBPUSD', 100000, 0.0001, 'USD');
INSERT INTO public.instruments VALUES ('AUDUSD', 100000, 0.0001, 'USD');
INSERT INTO public.instruments VALUES ('NZDUSD', 100000, 0.0001, 'USD');
INSERT INTO public.instruments VALUES ('USDJPY', 100000, 0.01, 'JPY');
INSERT INTO public.instruments VALUES ('USDCHF', 100000, 0.0001, 'CHF');
INSERT INTO public.instruments VALUES ('USDCAD', 100000, 0.0001, 'CAD');
INSERT INTO public.instruments VALUES ('EURGBP', 100000, 0.0001, 'GBP');
INSERT INTO public.instruments VALUES ('EURJPY', 100000, 0.01, 'JPY');
INSERT INTO public.instruments VALUES ('EURCHF', 100000, 0.0001, 'CHF');
INSERT INTO public.instruments VALUES ('EURAUD', 100000, 0.0001, 'AUD');
INSERT INTO public.instruments VALUES ('EURCAD', 100000, 0.0001, 'CAD');
INSERT INTO public.instruments VALUES ('EURNZD', 100000, 0.0001, 'NZD');
INSERT INTO public.instruments VALUES ('GBPJPY', 100000, 0.01, 'JPY');
INSERT INTO public.instruments VALUES ('GBPCHF', 100000, 0.0001, 'CHF');
INSERT INTO public.instruments VALUES ('GBPAUD', 100000, 0.0001, 'AUD');
INSERT INTO public.instruments VALUES ('GBPCAD', 100000, 0.0001, 'CAD');
INSERT INTO public.instruments VALUES ('GBPNZD', 100000, 0.0001, 'NZD');
INSERT INTO public.instruments VALUES ('AUDJPY', 100000, 0.01, 'JPY');
INSERT INTO public.instruments VALUES ('AUDCHF', 100000, 0.0001, 'CHF');
INSERT INTO public.instruments VALUES ('AUDCAD', 100000, 0.0001, 'CAD');
INSERT INTO public.instruments VALUES ('AUDNZD', 100000, 0.0001, 'NZD');
INSERT INTO public.instruments VALUES ('NZDJPY', 100000, 0.01, 'JPY');
INSERT INTO public.instruments VALUES ('NZDCHF', 100000, 0.0001, 'CHF');
INSERT INTO public.instruments VALUES ('NZDCAD', 100000, 0.0001, 'CAD');
INSERT INTO public.instruments VALUES ('CADJPY', 100000, 0.01, 'JPY');
INSERT INTO public.instruments VALUES ('CADCHF', 100000, 0.0001, 'CHF');
INSERT INTO public.instruments VALUES ('CHFJPY', 100000, 0.01, 'JPY');
INSERT INTO public.instruments VALUES ('USDSGD', 100000, 0.0001, 'SGD');
INSERT INTO public.instruments VALUES ('USDHKD', 100000, 0.0001, 'HKD');
INSERT INTO public.instruments VALUES ('USDNOK', 100000, 0.0001, 'NOK');
INSERT INTO public.instruments VALUES ('USDSEK', 100000, 0.0001, 'SEK');
INSERT INTO public.instruments VALUES ('USDDKK', 100000, 0.0001, 'DKK');
INSERT INTO public.instruments VALUES ('USDPLN', 100000, 0.0001, 'PLN');
INSERT INTO public.instruments VALUES ('USDZAR', 100000, 0.0001, 'ZAR');
INSERT INTO public.instruments VALUES ('USDMXN', 100000, 0.0001, 'MXN');
INSERT INTO public.instruments VALUES ('USDTRY', 100000, 0.0001, 'TRY');
INSERT INTO public.instruments VALUES ('USDCNH', 100000, 0.0001, 'CNH');
INSERT INTO public.instruments VALUES ('EURNOK', 100000, 0.0001, 'NOK');
INSERT INTO public.instruments VALUES ('EURSEK', 100000, 0.0001, 'SEK');
INSERT INTO public.instruments VALUES ('EURPLN', 100000, 0.0001, 'PLN');
INSERT INTO public.instruments VALUES ('XAUUSD', 100, 0.01, 'USD');
INSERT INTO public.instruments VALUES ('XAUEUR', 100, 0.01, 'EUR');
INSERT INTO public.instruments VALUES ('XPTUSD', 100, 0.01, 'USD');
INSERT INTO public.instruments VALUES ('XPDUSD', 100, 0.01, 'USD');
INSERT INTO public.instruments VALUES ('XTIUSD', 1000, 0.01, 'USD');
INSERT INTO public.instruments VALUES ('XBRUSD', 1000, 0.01, 'USD');
INSERT INTO public.instruments VALUES ('USOIL', 1000, 0.01, 'USD');
INSERT INTO public.instruments VALUES ('UKOIL', 1000, 0.01, 'USD');
INSERT INTO public.instruments VALUES ('US30', 1, 1, 'USD');
INSERT INTO public.instruments VALUES ('US500', 1, 0.1, 'USD');
INSERT INTO public.instruments VALUES ('NAS100', 1, 0.1, 'USD');
INSERT INTO public.instruments VALUES ('US2000', 1, 0.1, 'USD');
INSERT INTO public.instruments VALUES ('GER40', 1, 0.1, 'EUR');
INSERT INTO public.instruments VALUES ('FRA40', 1, 0.1, 'EUR');
INSERT INTO public.instruments VALUES ('EUSTX50', 1, 0.1, 'EUR');
INSERT INTO public.instruments VALUES ('UK100', 1, 0.1, 'GBP');
INSERT INTO public.instruments VALUES ('JPN225', 1, 1, 'JPY');
INSERT INTO public.instruments VALUES ('AUS200', 1, 0.1, 'AUD');
INSERT INTO public.instruments VALUES ('HK50', 1, 1, 'HKD');
INSERT INTO public.instruments VALUES ('BTCUSD', 1, 1, 'USD');
INSERT INTO public.instruments VALUES ('ETHUSD', 1, 0.1, 'USD');
INSERT INTO public.instruments VALUES ('LTCUSD', 1, 0.01, 'USD');
INSERT INTO public.instruments VALUES ('XRPUSD', 1, 0.0001, 'USD');
INSERT INTO public.instruments VALUES ('BCHUSD', 1, 0.1, 'USD');
INSERT INTO public.instruments VALUES ('SOLUSD', 1, 0.01, 'USD');
INSERT INTO public.instruments VALUES ('ADAUSD', 1, 0.0001, 'USD');
INSERT INTO public.instruments VALUES ('DOGEUSD', 1, 0.00001, 'USD');
INSERT INTO public.instruments VALUES ('BNBUSD', 1, 0.1, 'USD');
INSERT INTO public.instruments VALUES ('DOTUSD', 1, 0.001, 'USD');
INSERT INTO public.instruments VALUES ('BTCEUR', 1, 1, 'EUR');
INSERT INTO public.instruments VALUES ('ETHEUR', 1, 0.1, 'EUR');
INSERT INTO public.instruments VALUES ('XAGUSD', 101, 0.001, 'USD');


--
-- Data for Name: reconciliation_logs; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.reconciliation_logs VALUES ('4395bef2-797c-428c-822a-6a8884428144', '11111111-1111-4111-8111-111111111111', NULL, NULL, 1, 'XAUUSD', 'buy', 0.1, 1950.5, 1951, NULL, NULL, 1, NULL, NULL, NULL, NULL, NULL, NULL, 'sync', NULL, NULL, '2026-11-30 12:00:00+00', NULL);
INSERT INTO public.reconciliation_logs VALUES ('12ec69b0-a65b-481b-83d3-19d870c76485', '11111111-1111-4111-8111-111111111111', NULL, NULL, 1, 'XAUUSD', 'buy', 0.1, 1950.5, 1952, NULL, NULL, 1, NULL, NULL, NULL, NULL, NULL, NULL, 'sync', NULL, NULL, '2026-11-30 12:00:01+00', NULL);
INSERT INTO public.reconciliation_logs VALUES ('5ba55888-3f30-4f71-bcd1-e3834843411e', '11111111-1111-4111-8111-111111111111', NULL, NULL, 1, 'XAUUSD', 'buy', 0.1, 1950.5, 1953, NULL, NULL, 1, NULL, NULL, NULL, NULL, NULL, NULL, 'sync', NULL, NULL, '2026-11-30 12:00:02+00', NULL);
INSERT INTO public.reconciliation_logs VALUES ('e1e4c6a5-1d64-4859-9961-aef36aee1093', '11111111-1111-4111-8111-111111111111', NULL, NULL, 2, 'EURUSD', 'buy', 0.1, 1950.5, 1.1, NULL, NULL, 1, NULL, NULL, NULL, NULL, NULL, NULL, 'sync', NULL, NULL, '2026-11-30 12:00:00+00', NULL);
INSERT INTO public.reconciliation_logs VALUES ('d49388f4-fae6-4e1e-95cb-59c7b0ce44c1', '11111111-1111-4111-8111-111111111111', NULL, NULL, 3, 'GBPJPY', 'buy', 0.1, 1950.5, 190, NULL, NULL, 2, NULL, NULL, NULL, NULL, NULL, NULL, 'sync', NULL, NULL, '2026-11-30 12:00:00+00', NULL);
INSERT INTO public.reconciliation_logs VALUES ('915ad890-3efe-4046-8b9c-3db842ee49db', '11111111-1111-4111-8111-111111111111', NULL, NULL, 4, 'XAUUSD', 'buy', 0.1, 1950.5, 1950, NULL, NULL, 1, NULL, NULL, NULL, NULL, NULL, NULL, 'sync', NULL, NULL, '2026-11-30 12:00:00+00', NULL);
INSERT INTO public.reconciliation_logs VALUES ('6d96af21-db7f-441a-9d4d-c3eef9719954', '11111111-1111-4111-8111-111111111111', NULL, NULL, 4, 'XAUUSD', 'buy', 0.1, 1950.5, 1960, NULL, NULL, 1, NULL, NULL, 'tp', 1960, NULL, NULL, 'close', NULL, NULL, '2026-11-30 12:05:00+00', NULL);
INSERT INTO public.reconciliation_logs VALUES ('1b907fc6-df0c-4469-9f46-04891a7b2556', '22222222-2222-4222-8222-222222222222', NULL, NULL, 7, 'XAUUSD', 'buy', 0.1, 1950.5, 1955, NULL, NULL, 1, NULL, NULL, NULL, NULL, NULL, NULL, 'sync', NULL, NULL, '2026-11-30 12:00:00+00', NULL);
INSERT INTO public.reconciliation_logs VALUES ('9f6e0656-f545-474f-8801-5860c056ba14', '22222222-2222-4222-8222-222222222222', NULL, NULL, NULL, 'XAUUSD', NULL, NULL, 100, 112, NULL, NULL, NULL, 'price gap', NULL, NULL, NULL, NULL, NULL, 'guard_trigger', NULL, NULL, '2026-11-30 12:00:00+00', NULL);
INSERT INTO public.reconciliation_logs VALUES ('57f72a50-75e7-48d9-a552-7e7fa80657a5', '33333333-3333-4333-8333-333333333333', NULL, NULL, 9, 'XAUUSD', 'buy', 0.1, 1950.5, 1970, NULL, NULL, 1, NULL, NULL, NULL, NULL, NULL, NULL, 'sync', NULL, NULL, '2026-11-30 12:00:00+00', NULL);


--
-- Name: capture_notes_id_seq; Type: SEQUENCE SET; Schema: guardwire; Owner: -
--

SELECT pg_catalog.setval('guardwire.capture_notes_id_seq', 1, true);


--
-- Name: pending_nth_seq; Type: SEQUENCE SET; Schema: guardwire; Owner: -
--

SELECT pg_catalog.setval('guardwire.pending_nth_seq', 18, true);


--
-- Name: revocations_revocation_id_seq; Type: SEQUENCE SET; Schema: guardwire; Owner: -
--

SELECT pg_catalog.setval('guardwire.revocations_revocation_id_seq', 1, true);


--
-- Name: accounts accounts_pkey; Type: CONSTRAINT; Schema: guardwire; Owner: -
--

ALTER TABLE ONLY guardwire.accounts
    ADD CONSTRAINT accounts_pkey PRIMARY KEY (user_id);


--
-- Name: arrivals arrivals_pkey; Type: CONSTRAINT; Schema: guardwire; Owner: -
--

ALTER TABLE ONLY guardwire.arrivals
    ADD CONSTRAINT arrivals_pkey PRIMARY KEY (user_id, source, revision, ordinal);


--
-- Name: backfill backfill_pkey; Type: CONSTRAINT; Schema: guardwire; Owner: -
--

ALTER TABLE ONLY guardwire.backfill
    ADD CONSTRAINT backfill_pkey PRIMARY KEY (singleton);


--
-- Name: breaches breaches_pkey; Type: CONSTRAINT; Schema: guardwire; Owner: -
--

ALTER TABLE ONLY guardwire.breaches
    ADD CONSTRAINT breaches_pkey PRIMARY KEY (user_id, breach_id);


--
-- Name: capture_notes capture_notes_pkey; Type: CONSTRAINT; Schema: guardwire; Owner: -
--

ALTER TABLE ONLY guardwire.capture_notes
    ADD CONSTRAINT capture_notes_pkey PRIMARY KEY (id);


--
-- Name: configuration configuration_pkey; Type: CONSTRAINT; Schema: guardwire; Owner: -
--

ALTER TABLE ONLY guardwire.configuration
    ADD CONSTRAINT configuration_pkey PRIMARY KEY (singleton);


--
-- Name: epoch epoch_pkey; Type: CONSTRAINT; Schema: guardwire; Owner: -
--

ALTER TABLE ONLY guardwire.epoch
    ADD CONSTRAINT epoch_pkey PRIMARY KEY (singleton);


--
-- Name: events events_pkey; Type: CONSTRAINT; Schema: guardwire; Owner: -
--

ALTER TABLE ONLY guardwire.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (user_id, event_id);


--
-- Name: fx_current fx_current_pkey; Type: CONSTRAINT; Schema: guardwire; Owner: -
--

ALTER TABLE ONLY guardwire.fx_current
    ADD CONSTRAINT fx_current_pkey PRIMARY KEY (base, quote);


--
-- Name: history_readers history_readers_pkey; Type: CONSTRAINT; Schema: guardwire; Owner: -
--

ALTER TABLE ONLY guardwire.history_readers
    ADD CONSTRAINT history_readers_pkey PRIMARY KEY (user_id);


--
-- Name: log_users log_users_pkey; Type: CONSTRAINT; Schema: guardwire; Owner: -
--

ALTER TABLE ONLY guardwire.log_users
    ADD CONSTRAINT log_users_pkey PRIMARY KEY (written);


--
-- Name: market_alerts market_alerts_pkey; Type: CONSTRAINT; Schema: guardwire; Owner: -
--

ALTER TABLE ONLY guardwire.market_alerts
    ADD CONSTRAINT market_alerts_pkey PRIMARY KEY (user_id, symbol, condition_type);


--
-- Name: migrations migrations_pkc; Type: CONSTRAINT; Schema: guardwire; Owner: -
--

ALTER TABLE ONLY guardwire.migrations
    ADD CONSTRAINT migrations_pkc PRIMARY KEY (version_num);


--
-- Name: positions positions_pkey; Type: CONSTRAINT; Schema: guardwire; Owner: -
--

ALTER TABLE ONLY guardwire.positions
    ADD CONSTRAINT positions_pkey PRIMARY KEY (user_id, ticket);


--
-- Name: reference reference_pkey; Type: CONSTRAINT; Schema: guardwire; Owner: -
--

ALTER TABLE ONLY guardwire.reference
    ADD CONSTRAINT reference_pkey PRIMARY KEY (singleton);


--
-- Name: revocations revocations_pkey; Type: CONSTRAINT; Schema: guardwire; Owner: -
--

ALTER TABLE ONLY guardwire.revocations
    ADD CONSTRAINT revocations_pkey PRIMARY KEY (revocation_id);


--
-- Name: equity_snapshots equity_snapshots_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.equity_snapshots
    ADD CONSTRAINT equity_snapshots_pkey PRIMARY KEY (id);


--
-- Name: fx_rates fx_rates_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.fx_rates
    ADD CONSTRAINT fx_rates_pkey PRIMARY KEY (id);


--
-- Name: guard_limits guard_limits_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.guard_limits
    ADD CONSTRAINT guard_limits_pkey PRIMARY KEY (user_id);


--
-- Name: instruments instruments_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.instruments
    ADD CONSTRAINT instruments_pkey PRIMARY KEY (symbol);


--
-- Name: reconciliation_logs reconciliation_logs_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.reconciliation_logs
    ADD CONSTRAINT reconciliation_logs_pkey PRIMARY KEY (id);


--
-- Name: accounts_not_ready; Type: INDEX; Schema: guardwire; Owner: -
--

CREATE INDEX accounts_not_ready ON guardwire.accounts USING btree (user_id) WHERE (NOT ready);


--
-- Name: accounts_sync_due; Type: INDEX; Schema: guardwire; Owner: -
--

CREATE INDEX accounts_sync_due ON guardwire.accounts USING btree (sync_due_at) WHERE (sync_due_at IS NOT NULL);


--
-- Name: arrivals_by_age; Type: INDEX; Schema: guardwire; Owner: -
--

CREATE INDEX arrivals_by_age ON guardwire.arrivals USING brin (revision) WITH (pages_per_range='16', autosummarize='on');


--
-- Name: capture_notes_by_row; Type: INDEX; Schema: guardwire; Owner: -
--

CREATE INDEX capture_notes_by_row ON guardwire.capture_notes USING btree (source, row_key);


--
-- Name: capture_notes_by_user; Type: INDEX; Schema: guardwire; Owner: -
--

CREATE INDEX capture_notes_by_user ON guardwire.capture_notes USING btree (user_id);


--
-- Name: capture_notes_due; Type: INDEX; Schema: guardwire; Owner: -
--

CREATE INDEX capture_notes_due ON guardwire.capture_notes USING btree (id) WHERE (given_up_at IS NULL);


--
-- Name: capture_notes_of_all; Type: INDEX; Schema: guardwire; Owner: -
--

CREATE INDEX capture_notes_of_all ON guardwire.capture_notes USING btree (id) WHERE concerns_all;


--
-- Name: ignored_rows_by_age; Type: INDEX; Schema: guardwire; Owner: -
--

CREATE INDEX ignored_rows_by_age ON guardwire.ignored_rows USING btree (noted_at);


--
-- Name: log_users_by_user; Type: INDEX; Schema: guardwire; Owner: -
--

CREATE INDEX log_users_by_user ON guardwire.log_users USING btree (user_id);


--
-- Name: market_alerts_expiry; Type: INDEX; Schema: guardwire; Owner: -
--

CREATE INDEX market_alerts_expiry ON guardwire.market_alerts USING btree (expires_at);


--
-- Name: pending_by_transaction; Type: INDEX; Schema: guardwire; Owner: -
--

CREATE INDEX pending_by_transaction ON guardwire.pending USING btree (xid, nth);


--
-- Name: positions_by_id; Type: INDEX; Schema: guardwire; Owner: -
--

CREATE UNIQUE INDEX positions_by_id ON guardwire.positions USING btree (position_id);


--
-- Name: positions_open; Type: INDEX; Schema: guardwire; Owner: -
--

CREATE INDEX positions_open ON guardwire.positions USING btree (user_id) WHERE is_open;


--
-- Name: positions_open_by_quote_currency; Type: INDEX; Schema: guardwire; Owner: -
--

CREATE INDEX positions_open_by_quote_currency ON guardwire.positions USING btree (quote_currency) WHERE is_open;


--
-- Name: positions_open_by_symbol; Type: INDEX; Schema: guardwire; Owner: -
--

CREATE INDEX positions_open_by_symbol ON guardwire.positions USING btree (upper(symbol)) WHERE is_open;


--
-- Name: revocations_by_end; Type: INDEX; Schema: guardwire; Owner: -
--

CREATE INDEX revocations_by_end ON guardwire.revocations USING btree (expires_at);


--
-- Name: revocations_by_transaction; Type: INDEX; Schema: guardwire; Owner: -
--

CREATE INDEX revocations_by_transaction ON guardwire.revocations USING btree (transaction_id);


--
-- Name: equity_snapshots_cash_flow; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX equity_snapshots_cash_flow ON public.equity_snapshots USING btree (user_id, created_at) WHERE (cash_flow <> (0)::numeric);


--
-- Name: equity_snapshots_user_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX equity_snapshots_user_id ON public.equity_snapshots USING btree (user_id, created_at);


--
-- Name: reconciliation_logs_created_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX reconciliation_logs_created_at ON public.reconciliation_logs USING btree (created_at);


--
-- Name: reconciliation_logs_mt5_position_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX reconciliation_logs_mt5_position_id ON public.reconciliation_logs USING btree (mt5_position_id);


--
-- Name: reconciliation_logs_signal_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX reconciliation_logs_signal_id ON public.reconciliation_logs USING btree (signal_id);


--
-- Name: reconciliation_logs_user_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX reconciliation_logs_user_id ON public.reconciliation_logs USING btree (user_id, created_at);


--
-- Name: pending capture; Type: TRIGGER; Schema: guardwire; Owner: -
--

CREATE CONSTRAINT TRIGGER capture AFTER INSERT ON guardwire.pending DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (new.wakes) EXECUTE FUNCTION guardwire.capture_commit();


--
-- Name: configuration configure; Type: TRIGGER; Schema: guardwire; Owner: -
--

CREATE TRIGGER configure AFTER UPDATE ON guardwire.configuration FOR EACH ROW WHEN ((old.notify <> new.notify)) EXECUTE FUNCTION guardwire.configure();


--
-- Name: guard_limits guardwire_change; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER guardwire_change AFTER INSERT OR DELETE OR UPDATE ON public.guard_limits FOR EACH ROW EXECUTE FUNCTION guardwire.touch_limits();


--
-- Name: instruments guardwire_change; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER guardwire_change AFTER INSERT OR DELETE OR UPDATE ON public.instruments FOR EACH ROW EXECUTE FUNCTION guardwire.touch_instruments();


--
-- Name: reconciliation_logs guardwire_gone; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER guardwire_gone AFTER DELETE OR TRUNCATE ON public.reconciliation_logs FOR EACH STATEMENT EXECUTE FUNCTION guardwire.touch_gone();


--
-- Name: equity_snapshots guardwire_insert; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER guardwire_insert AFTER INSERT ON public.equity_snapshots FOR EACH ROW EXECUTE FUNCTION guardwire.touch_equity('ei');


--
-- Name: fx_rates guardwire_insert; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER guardwire_insert AFTER INSERT OR UPDATE ON public.fx_rates FOR EACH ROW EXECUTE FUNCTION guardwire.touch_fx();


--
-- Name: reconciliation_logs guardwire_insert; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER guardwire_insert AFTER INSERT ON public.reconciliation_logs FOR EACH ROW EXECUTE FUNCTION guardwire.touch_log('li');


--
-- Name: guard_limits guardwire_truncate; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER guardwire_truncate BEFORE TRUNCATE ON public.guard_limits FOR EACH STATEMENT EXECUTE FUNCTION guardwire.touch_truncated();


--
-- Name: instruments guardwire_truncate; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER guardwire_truncate BEFORE TRUNCATE ON public.instruments FOR EACH STATEMENT EXECUTE FUNCTION guardwire.touch_truncated();


--
-- Name: equity_snapshots guardwire_update; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER guardwire_update AFTER UPDATE ON public.equity_snapshots FOR EACH ROW EXECUTE FUNCTION guardwire.touch_equity('eu');


--
-- Name: reconciliation_logs guardwire_update; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER guardwire_update AFTER UPDATE ON public.reconciliation_logs FOR EACH ROW EXECUTE FUNCTION guardwire.touch_log('lu');


--
-- PostgreSQL database dump complete
--


