-- The capture: what a transaction touches is listed while it runs, and applied once, when it commits.
--
-- Listing takes no lock. At commit all accounts concerned are locked in one statement, in one order, so that writers of
-- many accounts cannot deadlock, and a revision is given under that lock, so that revision order is commit order.
-- Whatever fails leaves a note of the rows and never fails the writer. Not supported: SERIALIZABLE writers (their commit
-- may fail for reading what others wrote) and two-phase commit (a prepared transaction cannot notify, and keeps its locks).

-- What wakes the capture at commit: a transaction's first row puts one row in here, and the trigger that waits for the
-- commit is on this table. On the platform's own, rows that wait for a trigger would forbid it to alter or truncate the
-- table in the same transaction. Nobody reads the rows, so they need not survive a crash, and any node removes them.
CREATE UNLOGGED TABLE guardwire.pending (
    log_id uuid,
    user_id uuid,
    ticket bigint,
    at timestamptz,
    updated_at timestamptz,
    current_price numeric,
    fingerprint bigint
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
        vacuum_truncate = off);
COMMENT ON TABLE guardwire.pending IS 'A row for each transaction that touched a source, to be woken by at its commit; removed by housekeeping';
COMMENT ON COLUMN guardwire.pending.log_id IS 'The first row of the log that the transaction inserted; null otherwise';
COMMENT ON COLUMN guardwire.pending.user_id IS 'Whose account';
COMMENT ON COLUMN guardwire.pending.ticket IS 'MT5 ticket';
COMMENT ON COLUMN guardwire.pending.at IS 'created_at of the row';
COMMENT ON COLUMN guardwire.pending.updated_at IS 'updated_at (else created_at) of the row';
COMMENT ON COLUMN guardwire.pending.current_price IS 'Of the row';
COMMENT ON COLUMN guardwire.pending.fingerprint IS 'As in positions; null when the row is not a plain sync';

-- Tokens of a long transaction, so that listing many rows one by one does not copy the whole list each time.
CREATE TABLE guardwire.capture_spill (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    nth bigint GENERATED ALWAYS AS IDENTITY,
    tokens text NOT NULL
);
CREATE INDEX capture_spill_xid ON guardwire.capture_spill (xid);
COMMENT ON TABLE guardwire.capture_spill IS 'Rows that a transaction still running has touched, when they are many';
COMMENT ON COLUMN guardwire.capture_spill.xid IS 'The writer''s transaction';
COMMENT ON COLUMN guardwire.capture_spill.nth IS 'Order in which they were listed';
COMMENT ON COLUMN guardwire.capture_spill.tokens IS 'A part of the list';

-- The transaction's list, with a separator after it; empty when there is none. It begins with the transaction's id, so that
-- whatever a session has set itself is no list. It is a setting: undone with a savepoint and gone with the transaction.
-- These functions run as their owner for every writer, so each operator says which one it is.
CREATE FUNCTION guardwire.listed() RETURNS text LANGUAGE sql STABLE
RETURN CASE WHEN starts_with(current_setting('guardwire.touched', true), pg_current_xact_id()::text || E'\x1f')
            THEN substr(current_setting('guardwire.touched', true), length(pg_current_xact_id()::text) + 2)
            ELSE '' END;

CREATE FUNCTION guardwire.set_listed(listed text) RETURNS text LANGUAGE sql VOLATILE
RETURN set_config('guardwire.touched', pg_current_xact_id()::text || E'\x1f' || listed, true);

-- Adds a token to the list. The row that wakes the capture comes last: where constraints are immediate it is woken at once.
CREATE FUNCTION guardwire.list_token(token text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    listed text := guardwire.listed();
    taken text;
BEGIN
    IF pg_catalog.length(listed) OPERATOR(pg_catalog.<) 2000 THEN
        taken := guardwire.set_listed(listed OPERATOR(pg_catalog.||) token OPERATOR(pg_catalog.||) E'\x1f');
    ELSE
        INSERT INTO guardwire.capture_spill (tokens) VALUES (listed);
        taken := guardwire.set_listed('+' OPERATOR(pg_catalog.||) E'\x1f' OPERATOR(pg_catalog.||) token OPERATOR(pg_catalog.||) E'\x1f');
    END IF;
    IF listed OPERATOR(pg_catalog.=) '' THEN
        INSERT INTO guardwire.pending DEFAULT VALUES;
    END IF;
END
$$;

CREATE FUNCTION guardwire.touch_log() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    token text := TG_ARGV[0] OPERATOR(pg_catalog.||) NEW.id::text;
BEGIN
    IF TG_ARGV[0] OPERATOR(pg_catalog.<>) 'li' OR guardwire.listed() OPERATOR(pg_catalog.<>) '' THEN
        PERFORM guardwire.list_token(token);
        RETURN NULL;
    END IF;
    -- Listed first, because where constraints are immediate what follows wakes the capture at once.
    token := guardwire.set_listed(token OPERATOR(pg_catalog.||) E'\x1f');
    -- The most frequent commit by far is one sync row: it is read here, once, while it is at hand. It is plain when it
    -- says nothing but prices and times that its position's last row did not say; its fingerprint tells.
    BEGIN
        INSERT INTO guardwire.pending
        VALUES (NEW.id, guardwire.read_user(NEW.user_id), guardwire.read_ticket(NEW.mt5_position_id),
                guardwire.read_time(NEW.created_at),
                coalesce(guardwire.read_time(NEW.updated_at), guardwire.read_time(NEW.created_at)),
                guardwire.read_number(NEW.current_price),
                CASE WHEN NEW.event_type::text OPERATOR(pg_catalog.=) 'sync' AND NEW.close_reason IS NULL
                          AND NEW.error_message IS NULL
                          AND (NEW.status IS NULL
                               -- Only what begins so can be read as failed.
                               OR pg_catalog.strpos(E'fF \t\r\n\f\x0B', pg_catalog.left(NEW.status::text, 1)) OPERATOR(pg_catalog.=) 0)
                          AND NEW.current_price OPERATOR(pg_catalog.>) 0 AND NEW.current_price OPERATOR(pg_catalog.<) 1000000
                     THEN pg_catalog.hash_record_extended(
                              ROW(NEW.symbol, NEW.direction, NEW.volume, NEW.entry_price, NEW.take_profit, NEW.stop_loss,
                                  NEW.matched, NEW.divergence_reason), 0)
                END);
    EXCEPTION WHEN OTHERS THEN
        -- The platform may have altered its table beyond recognition: that is for the commit to note.
        INSERT INTO guardwire.pending DEFAULT VALUES;
    END;
    RETURN NULL;
END
$$;

CREATE FUNCTION guardwire.touch_equity() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM guardwire.list_token(TG_ARGV[0] OPERATOR(pg_catalog.||) NEW.id::text);
    RETURN NULL;
END
$$;

CREATE FUNCTION guardwire.touch_fx() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM guardwire.list_token('xi' OPERATOR(pg_catalog.||) NEW.id::text);
    RETURN NULL;
END
$$;

CREATE FUNCTION guardwire.touch_limits() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP OPERATOR(pg_catalog.<>) 'INSERT' THEN
        PERFORM guardwire.list_token('gu' OPERATOR(pg_catalog.||) OLD.user_id::text);
    END IF;
    IF TG_OP OPERATOR(pg_catalog.<>) 'DELETE' THEN
        PERFORM guardwire.list_token('gu' OPERATOR(pg_catalog.||) NEW.user_id::text);
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION guardwire.touch_instruments() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP OPERATOR(pg_catalog.<>) 'INSERT' THEN
        PERFORM guardwire.list_token('iu' OPERATOR(pg_catalog.||) pg_catalog.replace(OLD.symbol, E'\x1f', ''));
    END IF;
    IF TG_OP OPERATOR(pg_catalog.<>) 'DELETE' THEN
        PERFORM guardwire.list_token('iu' OPERATOR(pg_catalog.||) pg_catalog.replace(NEW.symbol, E'\x1f', ''));
    END IF;
    RETURN NULL;
END
$$;

-- A table that is emptied: its rows are listed before.
CREATE FUNCTION guardwire.touch_truncated() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_TABLE_NAME OPERATOR(pg_catalog.=) 'guard_limits' THEN
        PERFORM guardwire.list_token('gu' OPERATOR(pg_catalog.||) l.user_id::text) FROM public.guard_limits AS l;
    ELSE
        PERFORM guardwire.list_token('iu' OPERATOR(pg_catalog.||) pg_catalog.replace(i.symbol, E'\x1f', ''))
        FROM public.instruments AS i;
    END IF;
    RETURN NULL;
END
$$;

-- A row that was inserted may be gone before the commit: a token of no meaning keeps the commit off the quick path.
CREATE FUNCTION guardwire.touch_gone() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF guardwire.listed() OPERATOR(pg_catalog.<>) '' THEN
        PERFORM guardwire.list_token('-');
    END IF;
    RETURN NULL;
END
$$;

-- Takes the transaction's whole list, in order.
CREATE FUNCTION guardwire.take_tokens(listed text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    tokens text;
BEGIN
    IF left(listed, 1) = '+' THEN
        WITH spilled AS (DELETE FROM guardwire.capture_spill AS s WHERE s.xid = pg_current_xact_id() RETURNING s.nth, s.tokens)
        SELECT string_agg(s.tokens, '' ORDER BY s.nth) || listed INTO tokens FROM spilled AS s;
        RETURN array_remove(string_to_array(rtrim(tokens, E'\x1f'), E'\x1f'), '+');
    END IF;
    RETURN string_to_array(rtrim(listed, E'\x1f'), E'\x1f');
END
$$;

-- Writes down rows whose capture failed, for a node to apply.
CREATE FUNCTION guardwire.note_rows(listed text, state text, reason text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO guardwire.capture_notes (source, row_key, inserted, sqlstate, message)
    SELECT left(t.token, 1), substr(t.token, 3), substr(t.token, 2, 1) = 'i', state, left(reason, 500)
    FROM unnest(guardwire.take_tokens(listed)) WITH ORDINALITY AS t (token, nth)
    WHERE t.token <> '-'
    GROUP BY t.token
    ORDER BY max(t.nth);
EXCEPTION WHEN OTHERS OR query_canceled THEN
    -- Not even that can be written (a full disk): the commit still is the platform's.
    RAISE WARNING 'guardwire could not note rows: %', SQLERRM;
END
$$;

-- Applies the whole list.
CREATE FUNCTION guardwire.capture_list(listed text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM guardwire.apply_tokens(guardwire.take_tokens(listed));
EXCEPTION WHEN OTHERS OR query_canceled OR assert_failure THEN
    PERFORM guardwire.note_rows(listed, SQLSTATE, SQLERRM);
END
$$;

-- At commit, at the first firing; another in the same transaction finds the list empty. One plain sync row is applied
-- here, with three statements by primary key; whatever is not plain is undone and goes the general way. A writer waits for
-- a lock no longer than this, whoever holds it.
CREATE FUNCTION guardwire.capture_commit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET lock_timeout = '5s' AS $$
DECLARE
    listed text := guardwire.listed();
    taken text;
    arrived_at timestamptz;
    a record;
    p record;
BEGIN
    IF listed = '' THEN
        RETURN NULL;
    END IF;
    taken := set_config('guardwire.touched', '', true);
    IF NEW.fingerprint IS NULL OR listed <> 'li' || NEW.log_id::text || E'\x1f' THEN
        PERFORM guardwire.capture_list(listed);
        RETURN NULL;
    END IF;
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
        PERFORM pg_notify((SELECT c.told_channel FROM guardwire.configuration AS c WHERE c.singleton), concat(
            NEW.user_id, ' ', a.base_revision, ' ', a.revision, ' ', a.total_syncs, ' ', guardwire.unix_us(NEW.at), ' ',
            a.last_sync_duration_ms, ' ', guardwire.unix_us(a.last_position_at), ' ', a.balance, '|',
            NEW.ticket, ' ', p.matched, ' ', NEW.current_price, ' ',
            CASE WHEN p.quote_currency <> a.currency THEN guardwire.converted(p.pnl, p.quote_currency, a.currency) ELSE round(p.pnl, 2) END,
            ' ', p.pnl_pct, ' ', guardwire.unix_us(NEW.updated_at)));
    END IF;
    RETURN NULL;
EXCEPTION WHEN no_data_found THEN
    PERFORM set_config('guardwire.touched', '', true);
    PERFORM guardwire.capture_list(listed);
    RETURN NULL;
WHEN OTHERS OR query_canceled OR assert_failure THEN
    PERFORM set_config('guardwire.touched', '', true);
    PERFORM guardwire.note_rows(listed, SQLSTATE, SQLERRM);
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER capture AFTER INSERT ON guardwire.pending DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION guardwire.capture_commit();
