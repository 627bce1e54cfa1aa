-- The platform's rows as the rules see them: every value is usable or null.

-- Composite types cannot be replaced; what depends on one is made again below and in the files after this one.
DROP TYPE IF EXISTS guardwire.copied_row CASCADE;
CREATE TYPE guardwire.copied_row AS (
    nth bigint, account uuid, source "char", operation "char", new_row jsonb, old_row jsonb, xid xid8, arrived_at timestamptz
);
COMMENT ON TYPE guardwire.copied_row IS 'A row of the inbox whose copies are parsed; columns as in guardwire.inbox';

-- The platform's table that guardwire.inbox.source stands for.
CREATE OR REPLACE FUNCTION guardwire.table_of(source "char") RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE source WHEN 'l' THEN 'public.reconciliation_logs' WHEN 'e' THEN 'public.equity_snapshots'
                   WHEN 'g' THEN 'public.guard_limits' WHEN 'i' THEN 'public.instruments' WHEN 'x' THEN 'public.fx_rates' END;

-- The columns that the rules read, by guardwire.inbox.source.
CREATE OR REPLACE FUNCTION guardwire.read_columns(source "char") RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE source
    WHEN 'l' THEN ARRAY['id', 'user_id', 'mt5_position_id', 'symbol', 'direction', 'volume', 'entry_price', 'current_price',
                        'take_profit', 'stop_loss', 'matched', 'divergence_reason', 'close_reason', 'closed_price', 'pnl_gbp',
                        'event_type', 'status', 'error_message', 'created_at', 'updated_at']
    WHEN 'e' THEN ARRAY['id', 'user_id', 'equity', 'balance', 'currency', 'cash_flow', 'created_at']
    WHEN 'g' THEN ARRAY['user_id', 'drawdown_warning_pct', 'drawdown_critical_pct', 'minimum_equity', 'countdown_seconds',
                        'gap_warning_pct', 'gap_critical_pct', 'spread_warning_pct', 'spread_critical_pct',
                        'alert_window_seconds', 'sync_overdue_seconds',
                        'equity_overdue_seconds', 'peak_since']
    WHEN 'i' THEN ARRAY['symbol', 'contract_size', 'quote_currency']
    WHEN 'x' THEN ARRAY['id', 'base', 'quote', 'rate', 'created_at'] END;

-- The functions up to guardwire.copy_of also run in the platform's statements, so they follow the rules of 60_inbox.sql.

-- A value as JSON; of a long one its first 600 characters as a string, which is more than any rule reads. format() needs no
-- cast to text, which may be somebody else's function.
CREATE OR REPLACE FUNCTION guardwire.copy_value(value anyelement) RETURNS json LANGUAGE plpgsql STABLE AS $$
DECLARE
    written CONSTANT pg_catalog.text := pg_catalog.format('%s', value);
BEGIN
    IF pg_catalog.octet_length(written) OPERATOR(pg_catalog.<=) 600 THEN
        RETURN pg_catalog.to_json(value);
    END IF;
    -- btrim takes eight bytes for each character.
    RETURN pg_catalog.to_json(pg_catalog."left"(pg_catalog.btrim(pg_catalog."left"(written, 100000), E' \t\r\n\f\x0B'), 600));
END
$$;

-- A row as JSON, without the columns that no rule reads and with the beginnings of long values.
CREATE OR REPLACE FUNCTION guardwire.copy_columns(source "char", original anyelement) RETURNS json LANGUAGE plpgsql STABLE AS $$
DECLARE
    fields pg_catalog.text;
    copy pg_catalog.json;
BEGIN
    SELECT pg_catalog.string_agg(pg_catalog.format('%L, guardwire.copy_value(($1).%I)', a.attname, a.attname), ', ') INTO fields
    FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_type AS t ON t.typrelid OPERATOR(pg_catalog.=) a.attrelid
    WHERE t.oid OPERATOR(pg_catalog.=) pg_catalog.pg_typeof(original) AND NOT a.attisdropped
      AND a.attname::pg_catalog.text OPERATOR(pg_catalog.=) ANY (guardwire.read_columns(source));
    EXECUTE pg_catalog.format('SELECT pg_catalog.json_build_object(%s)', fields) INTO copy USING original;
    RETURN copy;
END
$$;

-- Whether a row may be written as JSON as it is. JSON may be six times as long as a text, and a value of 1 GB would fail the
-- platform's statement, so this is asked before. A row of more than 16 kB takes 20 times as long to copy.
CREATE OR REPLACE FUNCTION guardwire.is_short(bytes integer) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN bytes <= 16000;

-- Whether a copy is short and holds no escaped character, which might be one that the database cannot hold.
CREATE OR REPLACE FUNCTION guardwire.is_plain_copy(copy json) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN copy IS NOT NULL AND guardwire.is_short(octet_length(copy::text)) AND strpos(copy::text COLLATE "C", E'\\u') = 0;

-- A row as JSON. row_to_json takes the columns that the table has at that moment, and fails for none of them; to_jsonb fails
-- for a column of type json with a value that jsonb cannot hold. An escaped character that the database cannot hold makes every
-- function fail that reads the JSON, so each is replaced by a question mark. row_to_json itself escapes only control characters:
-- the others stand in a column of type json.
CREATE OR REPLACE FUNCTION guardwire.copy_of(source "char", original anyelement) RETURNS json LANGUAGE plpgsql STABLE AS $$
DECLARE
    foreign_escape CONSTANT pg_catalog.text := E'(?<!\\\\)((?:\\\\\\\\)*)\\\\u(?!00(?:0[1-9a-f]|1[0-9a-f]))[0-9a-fA-F]{4}';
    copy pg_catalog.json;
BEGIN
    IF guardwire.is_short(pg_catalog.pg_column_size(original)) THEN
        copy := pg_catalog.row_to_json(original);
    END IF;
    IF guardwire.is_plain_copy(copy) THEN
        RETURN copy;
    END IF;
    IF copy IS NULL OR NOT guardwire.is_short(pg_catalog.octet_length(copy::pg_catalog.text)) THEN
        copy := guardwire.copy_columns(source, original);
    END IF;
    RETURN pg_catalog.regexp_replace(copy::pg_catalog.text, foreign_escape, E'\\1?', 'g');
END
$$;

-- A copy as the rules read it. jsonb holds less than json: a number of a million digits, for one. Where such a value stands in a
-- column that no rule reads, only the columns that the rules read are parsed.
CREATE OR REPLACE FUNCTION guardwire.parse_copy(source "char", copy json) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    -- Not STRICT: PostgreSQL computes calls with null arguments before it looks at the caller's rights.
    IF copy IS NULL THEN
        RETURN NULL;
    END IF;
    BEGIN
        RETURN copy::jsonb;
    EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
        RETURN (SELECT jsonb_object_agg(c.key, c.value::jsonb) FROM json_each(copy) AS c
                WHERE c.key = ANY (guardwire.read_columns(source)));
    END;
END
$$;

CREATE OR REPLACE FUNCTION guardwire.parse_copies(taken guardwire.inbox[]) RETURNS guardwire.copied_row[] LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT array_agg(ROW(t.nth, t.account, t.source, t.operation, guardwire.parse_copy(t.source, t.new_row),
                                 guardwire.parse_copy(t.source, t.old_row), t.xid, t.arrived_at)::guardwire.copied_row
                             ORDER BY t.account, t.nth)
            FROM unnest(taken) AS t);
END
$$;

-- Rows of an account that arrived but are still to be applied, each with its version before the first change that waits; null
-- where the row itself is new. They are the rows in the inbox, and those of the batch that come after a row. A caller that
-- reads the platform's table too reads both in one statement: a row may be committed between two.
CREATE OR REPLACE FUNCTION guardwire.waiting_rows(
    of_account uuid, of_source "char", batch guardwire.inbox[], after_nth bigint
) RETURNS TABLE (id uuid, old_row jsonb) LANGUAGE plpgsql STABLE AS $$
DECLARE
    scan_from bigint := guardwire.scan_from();
BEGIN
    RETURN QUERY
    SELECT DISTINCT ON (w.row_id) w.row_id, guardwire.parse_copy(of_source, w.row_before)
    FROM (SELECT guardwire.read_user(coalesce(i.new_row, i.old_row) ->> 'id') AS row_id, i.old_row AS row_before, i.nth
          FROM guardwire.inbox AS i WHERE i.account = of_account AND i.nth > scan_from AND i.source = of_source
          UNION ALL
          SELECT guardwire.read_user(coalesce(u.new_row, u.old_row) ->> 'id'), u.old_row, u.nth
          FROM unnest(batch) AS u WHERE u.account = of_account AND u.source = of_source AND u.nth > after_nth) AS w
    WHERE w.row_id IS NOT NULL
    ORDER BY w.row_id, w.nth;
END
$$;

DROP TYPE IF EXISTS guardwire.log_row CASCADE;
CREATE TYPE guardwire.log_row AS (
    id uuid,
    user_id uuid,
    ticket bigint,
    kind text,
    failed boolean,
    is_sync boolean,
    created_at timestamptz,
    at timestamptz,
    updated_at timestamptz,
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
    arrived_at timestamptz,
    revision bigint,
    ordinal integer,
    inserted boolean,
    is_loop boolean,
    is_older boolean,
    window_from timestamptz
);
COMMENT ON TYPE guardwire.log_row IS 'A row of reconciliation_logs as read, and how it arrived';
COMMENT ON COLUMN guardwire.log_row.kind IS 'open or close (a row about a position), guard, or null';
COMMENT ON COLUMN guardwire.log_row.created_at IS 'As the platform wrote it; null where that is unusable';
COMMENT ON COLUMN guardwire.log_row.at IS 'Time at which the row counts (guardwire.effective_time)';
COMMENT ON COLUMN guardwire.log_row.updated_at IS 'Of the platform, but not later than the arrival; null where that is unusable';
COMMENT ON COLUMN guardwire.log_row.duration_ms IS 'updated_at - created_at; null unless positive';
COMMENT ON COLUMN guardwire.log_row.fingerprint IS 'guardwire.fingerprint of the row where a plain sync may follow it; else null';
COMMENT ON COLUMN guardwire.log_row.revision IS 'Revision that the row is applied at; 0 for history';
COMMENT ON COLUMN guardwire.log_row.ordinal IS 'Order among the rows of that revision';
COMMENT ON COLUMN guardwire.log_row.inserted IS 'False where the row was updated in place';
COMMENT ON COLUMN guardwire.log_row.is_loop IS 'A sync without a ticket: it says that the reconciliation ran, and nothing about a position';
COMMENT ON COLUMN guardwire.log_row.window_from IS 'When the window of a guard trigger begins: at, but later where the platform''s clock is known to be behind';
COMMENT ON COLUMN guardwire.log_row.is_older IS 'The row was ignored, because the position had a later row';

-- A hash of all that a row of the log says besides prices, times and ids. Two syncs of one ticket with the same fingerprint
-- differ only in these: the second is a plain sync.
CREATE OR REPLACE FUNCTION guardwire.fingerprint(log jsonb) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN hash_record_extended(ROW(
    log -> 'event_type', log -> 'status', log -> 'close_reason', log -> 'error_message', log -> 'symbol', log -> 'direction',
    log -> 'volume', log -> 'entry_price', log -> 'take_profit', log -> 'stop_loss', log -> 'matched',
    log -> 'divergence_reason'), 0);

-- The kind of a row of the log: open or close (a row about a position), guard, or null.
CREATE OR REPLACE FUNCTION guardwire.log_kind(event_type text, close_reason text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN event_type IN ('close', 'position_closed') THEN 'close'
            WHEN event_type IN ('sync', 'divergence', 'warning', 'unmatched_position')
                THEN CASE WHEN close_reason IS NULL THEN 'open' ELSE 'close' END
            WHEN event_type = 'guard_trigger' THEN 'guard' END;

CREATE OR REPLACE FUNCTION guardwire.read_log(
    log jsonb, arrived_at timestamptz, revision bigint, ordinal integer, inserted boolean
) RETURNS guardwire.log_row LANGUAGE plpgsql STABLE AS $$
DECLARE
    r guardwire.log_row;
    event_type text := guardwire.read_word(log ->> 'event_type');
BEGIN
    r.id := guardwire.read_user(log ->> 'id');
    r.user_id := guardwire.read_user(log ->> 'user_id');
    r.ticket := guardwire.read_ticket(log -> 'mt5_position_id');
    r.close_reason := guardwire.read_text(log ->> 'close_reason', 500);
    r.kind := guardwire.log_kind(event_type, r.close_reason);
    r.failed := coalesce(guardwire.read_word(log ->> 'status') = 'failed', false);
    r.is_sync := coalesce(event_type = 'sync', false);
    r.created_at := guardwire.read_time(log ->> 'created_at');
    r.updated_at := guardwire.read_time(log ->> 'updated_at');
    r.duration_ms := CASE WHEN r.updated_at > r.created_at THEN extract(epoch FROM r.updated_at - r.created_at) * 1000 END;
    r.updated_at := CASE WHEN r.updated_at IS NOT NULL THEN least(r.updated_at, CASE revision WHEN 0 THEN statement_timestamp() ELSE arrived_at END) END;
    r.at := guardwire.effective_time(r.created_at, arrived_at, NULL);
    r.matched := coalesce(guardwire.read_matched(log -> 'matched'),
                          CASE WHEN event_type IN ('divergence', 'warning', 'unmatched_position') THEN 2 ELSE 0 END);
    r.symbol := guardwire.read_text(log ->> 'symbol', 64);
    r.direction := CASE guardwire.read_word(log ->> 'direction')
                       WHEN 'buy' THEN 'buy' WHEN '0' THEN 'buy' WHEN 'sell' THEN 'sell' WHEN '1' THEN 'sell' END;
    r.volume := guardwire.read_number(log -> 'volume');
    r.volume := CASE WHEN r.volume >= 0 THEN r.volume END;
    r.entry_price := guardwire.read_price(log -> 'entry_price');
    r.current_price := guardwire.read_price(log -> 'current_price');
    r.take_profit := guardwire.read_price(log -> 'take_profit');
    r.stop_loss := guardwire.read_price(log -> 'stop_loss');
    r.closed_price := guardwire.read_price(log -> 'closed_price');
    r.pnl_gbp := guardwire.read_number(log -> 'pnl_gbp');
    r.divergence_reason := guardwire.read_text(log ->> 'divergence_reason', 500);
    r.error_message := guardwire.read_text(log ->> 'error_message', 500);
    r.fingerprint := CASE WHEN r.is_sync AND r.kind = 'open' AND NOT r.failed AND r.error_message IS NULL
                          THEN guardwire.fingerprint(log) END;
    r.arrived_at := arrived_at;
    r.revision := revision;
    r.ordinal := ordinal;
    r.inserted := inserted;
    r.is_loop := r.is_sync AND r.kind = 'open' AND NOT r.failed AND guardwire.has_no_ticket(log -> 'mt5_position_id');
    r.is_older := false;
    r.window_from := r.at;
    RETURN r;
END
$$;

DROP TYPE IF EXISTS guardwire.equity_row CASCADE;
CREATE TYPE guardwire.equity_row AS (
    id uuid,
    user_id uuid,
    equity numeric,
    balance numeric,
    currency text,
    cash_flow numeric,
    created_at timestamptz,
    at timestamptz,
    arrived_at timestamptz,
    revision bigint,
    ordinal integer,
    inserted boolean,
    nth bigint,
    corrects boolean
);
COMMENT ON TYPE guardwire.equity_row IS 'A row of equity_snapshots as read, and how it arrived; columns as in guardwire.log_row';
COMMENT ON COLUMN guardwire.equity_row.nth IS 'As in guardwire.inbox; null for history';
COMMENT ON COLUMN guardwire.equity_row.corrects IS 'An update in place changed what the row says about money (guardwire.is_correction)';

CREATE OR REPLACE FUNCTION guardwire.read_equity(
    snapshot jsonb, arrived_at timestamptz, revision bigint, ordinal integer, inserted boolean, nth bigint, corrects boolean
) RETURNS guardwire.equity_row LANGUAGE sql STABLE
RETURN ROW(
    guardwire.read_user(snapshot ->> 'id'), guardwire.read_user(snapshot ->> 'user_id'),
    guardwire.read_number(snapshot -> 'equity'), guardwire.read_number(snapshot -> 'balance'),
    guardwire.read_code(snapshot ->> 'currency', 16), coalesce(guardwire.read_number(snapshot -> 'cash_flow'), 0),
    guardwire.read_time(snapshot ->> 'created_at'),
    guardwire.effective_time(guardwire.read_time(snapshot ->> 'created_at'), arrived_at, NULL), arrived_at, revision, ordinal, inserted, nth,
    corrects
)::guardwire.equity_row;
