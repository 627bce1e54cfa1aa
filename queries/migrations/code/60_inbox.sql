-- The inbox: the only part of Guardwire that runs inside the platform's transactions.
--
-- These functions run as their owner in the session of a writer, so every name is qualified: no temporary type,
-- function or operator of that session can take the place of another. They read no table, and they catch no exception: a
-- COPY of a million rows would need a million subtransactions for that.

-- Copies a row of the platform into the inbox. row_to_json takes the columns that the table has at that moment, and fails for
-- none of them; to_jsonb fails for a column of type json whose value it cannot hold. The account is read from the copy, because
-- NEW.user_id fails when the column is renamed. That reading fails for escaped characters that the database cannot hold, so
-- these are replaced; row_to_json itself escapes only control characters.
--
-- A session whose extra_float_digits is below 1 would round columns of floating point. One whose time zone is no name but an
-- offset could be 16 hours or more from UTC, which PostgreSQL writes and does not read. SET clauses of the function would cost
-- every row three times as much as asking.
CREATE OR REPLACE FUNCTION guardwire.copy_row() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    new_copy pg_catalog.json;
    old_copy pg_catalog.json;
    written_user pg_catalog.text;
    float_digits CONSTANT pg_catalog.text := pg_catalog.current_setting('extra_float_digits');
    time_zone CONSTANT pg_catalog.text := pg_catalog.current_setting('TimeZone');
    is_odd_session CONSTANT pg_catalog.bool := float_digits::pg_catalog.int4 OPERATOR(pg_catalog.<) 1
                                               OR time_zone OPERATOR(pg_catalog.~) '[0-9]';
    foreign_escape CONSTANT pg_catalog.text := E'(?<!\\\\)((?:\\\\\\\\)*)\\\\u(?!00(?:0[1-9a-f]|1[0-9a-f]))[0-9a-fA-F]{4}';
BEGIN
    IF is_odd_session THEN
        PERFORM pg_catalog.set_config('extra_float_digits', '1', true), pg_catalog.set_config('TimeZone', 'UTC', true);
    END IF;
    IF TG_OP OPERATOR(pg_catalog.<>) 'DELETE' THEN
        new_copy := pg_catalog.row_to_json(NEW);
        IF pg_catalog.strpos(new_copy::pg_catalog.text, E'\\u') OPERATOR(pg_catalog.>) 0 THEN
            new_copy := pg_catalog.regexp_replace(new_copy::pg_catalog.text, foreign_escape, E'\\1?', 'g')::pg_catalog.json;
        END IF;
    END IF;
    IF TG_OP OPERATOR(pg_catalog.<>) 'INSERT' THEN
        old_copy := pg_catalog.row_to_json(OLD);
        IF pg_catalog.strpos(old_copy::pg_catalog.text, E'\\u') OPERATOR(pg_catalog.>) 0 THEN
            old_copy := pg_catalog.regexp_replace(old_copy::pg_catalog.text, foreign_escape, E'\\1?', 'g')::pg_catalog.json;
        END IF;
    END IF;
    IF is_odd_session THEN
        PERFORM pg_catalog.set_config('extra_float_digits', float_digits, true),
                pg_catalog.set_config('TimeZone', time_zone, true);
    END IF;
    written_user := coalesce(new_copy, old_copy) OPERATOR(pg_catalog.->>) 'user_id';
    INSERT INTO guardwire.inbox (account, source, operation, new_row, old_row, xid, arrived_at)
    VALUES (coalesce(guardwire.read_user(written_user), guardwire.no_account()),
            TG_ARGV[0]::pg_catalog."char", pg_catalog.lower(pg_catalog."left"(TG_OP, 1))::pg_catalog."char", new_copy, old_copy,
            pg_catalog.pg_current_xact_id(), pg_catalog.clock_timestamp());
    -- A transaction that has notified cannot be prepared, so the applier polls where transactions may be prepared. It also
    -- polls while the queue of notifications is half full, because a full queue makes COMMIT fail.
    IF guardwire.wakes_applier() AND pg_catalog.current_setting('max_prepared_transactions') OPERATOR(pg_catalog.=) '0'
       AND pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.<) 0.5 THEN
        PERFORM pg_catalog.pg_notify('guardwire_inbox', '');
    END IF;
    RETURN NULL;
END
$$;

-- Notes that a table was emptied.
CREATE OR REPLACE FUNCTION guardwire.note_truncate() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO guardwire.inbox (account, source, operation, xid, arrived_at)
    VALUES (guardwire.no_account(), TG_ARGV[0]::pg_catalog."char", 't', pg_catalog.pg_current_xact_id(),
            pg_catalog.clock_timestamp());
    IF guardwire.wakes_applier() AND pg_catalog.current_setting('max_prepared_transactions') OPERATOR(pg_catalog.=) '0'
       AND pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.<) 0.5 THEN
        PERFORM pg_catalog.pg_notify('guardwire_inbox', '');
    END IF;
    RETURN NULL;
END
$$;

-- guardwire.configuration.notify as a constant, because reading a table would cost each row of the platform a tenth.
-- guardwire.configure replaces this function.
DO $$
BEGIN
    EXECUTE format('CREATE OR REPLACE FUNCTION guardwire.wakes_applier() RETURNS boolean LANGUAGE sql IMMUTABLE RETURN %L::boolean',
                   (SELECT c.notify FROM guardwire.configuration AS c));
END
$$;

CREATE OR REPLACE FUNCTION guardwire.configure() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('CREATE OR REPLACE FUNCTION guardwire.wakes_applier() RETURNS boolean LANGUAGE sql IMMUTABLE RETURN %L::boolean',
                   NEW.notify);
    RETURN NULL;
END
$$;
