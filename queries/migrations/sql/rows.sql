-- The platform's rows as the capture understands them: every value usable or null.

CREATE TYPE guardwire.log_row AS (
    id uuid,
    user_id uuid,
    ticket bigint,
    kind text,
    failed boolean,
    is_sync boolean,
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
    revision bigint,
    ordinal integer,
    inserted boolean
);
COMMENT ON TYPE guardwire.log_row IS 'A row of reconciliation_logs as read, with its arrival';
COMMENT ON COLUMN guardwire.log_row.kind IS 'open or close (about a position), guard, or null';
COMMENT ON COLUMN guardwire.log_row.at IS 'created_at; null when unusable, and then the time of arrival counts';
COMMENT ON COLUMN guardwire.log_row.duration_ms IS 'updated_at - created_at; null unless positive';
COMMENT ON COLUMN guardwire.log_row.fingerprint IS 'Of all that a sync row says but prices and times; as in positions';
COMMENT ON COLUMN guardwire.log_row.revision IS 'Revision that it arrived with; 0 when it was there before the capture';

-- A function and not a view: the platform may still alter the types of its columns, which a view would forbid, and the
-- readings are chosen anew when it does. It is inlined where it is called, so that a condition on it uses the indexes.
CREATE FUNCTION guardwire.log_rows() RETURNS SETOF guardwire.log_row
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1000000 AS $$
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

-- A row with its arrival; without a usable time of its own it counts at that moment.
CREATE FUNCTION guardwire.arrived(
    l guardwire.log_row, arrived_at timestamptz, revision bigint, ordinal integer, inserted boolean
) RETURNS guardwire.log_row LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    l.at := coalesce(l.at, arrived_at);
    l.revision := revision;
    l.ordinal := ordinal;
    l.inserted := inserted;
    RETURN l;
END
$$;

CREATE TYPE guardwire.equity_row AS (
    id uuid,
    user_id uuid,
    equity numeric,
    balance numeric,
    currency text,
    cash_flow numeric,
    at timestamptz
);
COMMENT ON TYPE guardwire.equity_row IS 'A row of equity_snapshots as read';

CREATE FUNCTION guardwire.equity_rows() RETURNS SETOF guardwire.equity_row
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1000000 AS $$
    SELECT e.id,
           guardwire.read_user(e.user_id),
           guardwire.read_number(e.equity),
           guardwire.read_number(e.balance),
           upper(guardwire.read_text(e.currency::text, 16)),
           coalesce(guardwire.read_number(e.cash_flow), 0),
           guardwire.read_time(e.created_at)
    FROM public.equity_snapshots AS e
$$;

CREATE TYPE guardwire.fx_row AS (id uuid, base text, quote text, rate numeric, at timestamptz);
COMMENT ON TYPE guardwire.fx_row IS 'A row of fx_rates as read; the rate is positive or null';

CREATE FUNCTION guardwire.fx_rows() RETURNS SETOF guardwire.fx_row
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1000000 AS $$
    SELECT f.id,
           upper(guardwire.read_text(f.base::text, 16)),
           upper(guardwire.read_text(f.quote::text, 16)),
           CASE WHEN guardwire.read_number(f.rate) > 0 THEN guardwire.read_number(f.rate) END,
           guardwire.read_time(f.created_at)
    FROM public.fx_rates AS f
$$;
