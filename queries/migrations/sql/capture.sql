-- The capture: what a transaction touches is listed while it runs, and applied once, when it commits.
--
-- Listing takes no lock. At commit all accounts concerned are locked in one statement, in one order, so that writers of
-- many accounts cannot deadlock, and a revision is given under that lock, so that revision order is commit order.
-- Whatever fails leaves a note of the rows and never fails the writer. Not supported: SERIALIZABLE writers (their commit
-- may fail for reading what others wrote) and two-phase commit (a prepared transaction cannot notify, and keeps its locks).

-- A transaction's list: one row for each row of a source that it touched. The first row wakes the capture at commit, by the
-- trigger at the end of this file. On the platform's own tables, rows that wait for a trigger would forbid it to alter or
-- truncate the table in the same transaction. A setting of the session would be quicker to write, but a writer can set it
-- too: to rows of others, or to nothing. These rows are deleted in the transaction that inserted them, so that a committed
-- row is one whose capture failed altogether: housekeeping makes a note of it.
CREATE UNLOGGED TABLE guardwire.pending (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    nth bigint GENERATED ALWAYS AS IDENTITY,
    token text NOT NULL,
    wakes boolean NOT NULL,
    log_id uuid,
    user_id uuid,
    ticket bigint,
    at timestamptz,
    updated_at timestamptz,
    current_price numeric,
    fingerprint bigint
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
        vacuum_truncate = off);
CREATE INDEX pending_by_transaction ON guardwire.pending (xid, nth);
COMMENT ON TABLE guardwire.pending IS 'The rows of the sources that each running transaction has touched; removed when its capture runs';
COMMENT ON COLUMN guardwire.pending.xid IS 'The writer''s transaction';
COMMENT ON COLUMN guardwire.pending.nth IS 'Order in which the rows were listed';
COMMENT ON COLUMN guardwire.pending.token IS 'Names the row, as guardwire.apply_tokens reads it; - when rows of the log were removed';
COMMENT ON COLUMN guardwire.pending.wakes IS 'Whether the capture runs for this row: for the first of a transaction';
COMMENT ON COLUMN guardwire.pending.log_id IS 'The first row of the log that the transaction inserted; null otherwise';
COMMENT ON COLUMN guardwire.pending.user_id IS 'Whose account';
COMMENT ON COLUMN guardwire.pending.ticket IS 'MT5 ticket';
COMMENT ON COLUMN guardwire.pending.at IS 'created_at of the row';
COMMENT ON COLUMN guardwire.pending.updated_at IS 'updated_at (else created_at) of the row';
COMMENT ON COLUMN guardwire.pending.current_price IS 'Of the row';
COMMENT ON COLUMN guardwire.pending.fingerprint IS 'As in positions; null when the row is not a plain sync';

-- The functions below run as their owner for every writer. Each has a search_path of its own, because a type, operator or
-- function that is looked up by the writer's search_path is code of the writer's choice.

-- Whether this transaction has listed rows that no capture has taken yet.
CREATE FUNCTION guardwire.has_listed() RETURNS boolean LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    RETURN EXISTS (SELECT FROM guardwire.pending AS p WHERE p.xid = pg_current_xact_id());
END
$$;

-- Whether the row that is listed next is the first of this transaction. The setting only saves most writers a look into
-- the table: a writer that forges it wakes the capture once more, or has the look done.
CREATE FUNCTION guardwire.is_first() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('guardwire.touched', true) = pg_current_xact_id()::text THEN
        RETURN NOT guardwire.has_listed();
    END IF;
    PERFORM set_config('guardwire.touched', pg_current_xact_id()::text, true);
    RETURN true;
END
$$;

-- Lists a row. Where constraints are immediate the capture runs at the end of this INSERT.
CREATE FUNCTION guardwire.list_token(listed text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- A row without a key cannot be found again.
    INSERT INTO guardwire.pending (token, wakes) VALUES (coalesce(listed, '-'), guardwire.is_first());
END
$$;

CREATE FUNCTION guardwire.touch_log() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
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

CREATE FUNCTION guardwire.touch_equity() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM guardwire.list_token(TG_ARGV[0] || NEW.id::text);
    RETURN NULL;
END
$$;

CREATE FUNCTION guardwire.touch_fx() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM guardwire.list_token('xi' || NEW.id::text);
    RETURN NULL;
END
$$;

CREATE FUNCTION guardwire.touch_limits() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
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

CREATE FUNCTION guardwire.touch_instruments() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
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

-- A table that is emptied: its rows are listed before.
CREATE FUNCTION guardwire.touch_truncated() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_TABLE_NAME = 'guard_limits' THEN
        PERFORM guardwire.list_token('gu' || l.user_id::text) FROM public.guard_limits AS l;
    ELSE
        PERFORM guardwire.list_token('iu' || i.symbol::text) FROM public.instruments AS i;
    END IF;
    RETURN NULL;
END
$$;

-- A row that was inserted may be gone before the commit: a token of no meaning keeps the commit off the quick path.
CREATE FUNCTION guardwire.touch_gone() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF guardwire.has_listed() THEN
        INSERT INTO guardwire.pending (token, wakes) VALUES ('-', false);
    END IF;
    RETURN NULL;
END
$$;

-- Takes what this transaction has listed from a row on, in order; null when an earlier run has taken it.
CREATE FUNCTION guardwire.take_listed(first bigint) RETURNS text[] LANGUAGE plpgsql AS $$
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

-- Writes down rows whose capture failed, for a node to apply, with whose account each is about as far as that can be read:
-- until the note is gone, the account (or every account) is not confirmed as fresh.
CREATE FUNCTION guardwire.note_rows(tokens text[], state text, reason text) RETURNS void LANGUAGE plpgsql AS $$
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

-- Applies the whole list.
CREATE FUNCTION guardwire.capture_list(tokens text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM guardwire.apply_tokens(tokens);
EXCEPTION WHEN OTHERS OR query_canceled OR assert_failure THEN
    PERFORM guardwire.note_rows(tokens, SQLSTATE, SQLERRM);
END
$$;

-- At commit, for the first row of the list; another run in the same transaction finds the list empty. One plain sync row is
-- applied here, with three statements by primary key; whatever is not plain is undone and goes the general way. A writer
-- waits for a lock no longer than this, whoever holds it. A session may ask for traces and plans (trace_notify,
-- debug_print_plan), which quote the channel's name and rows of others: while this runs it gets warnings alone.
CREATE FUNCTION guardwire.capture_commit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET lock_timeout = '5s'
SET client_min_messages = warning SET trace_notify = off AS $$
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

CREATE CONSTRAINT TRIGGER capture AFTER INSERT ON guardwire.pending DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (NEW.wakes) EXECUTE FUNCTION guardwire.capture_commit();
