-- The inbox: the only part of Guardwire that runs inside the platform's transactions.
--
-- These functions run as their owner in the session of a writer, so every name is qualified: no temporary type,
-- function or operator of that session can take the place of another. They catch no exception: a COPY of a million rows would
-- need a million subtransactions for that. They read no table, except that the copy of a long row reads the system catalog.

-- Wakes the applier when the transaction commits. A transaction that has notified cannot be prepared, so the applier polls where
-- transactions may be prepared. It also polls while the queue of notifications is half full, because a full queue makes COMMIT
-- fail.
CREATE OR REPLACE FUNCTION guardwire.wake_applier() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF guardwire.wakes_applier() AND pg_catalog.current_setting('max_prepared_transactions') OPERATOR(pg_catalog.=) '0'
       AND pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.<) 0.5 THEN
        PERFORM pg_catalog.pg_notify('guardwire_inbox', '');
    END IF;
END
$$;

-- Copies a row of the platform into the inbox. The account is read from the copy, because NEW.user_id fails when the column is
-- renamed.
--
-- A session whose extra_float_digits is below 1 would round columns of floating point. One whose time zone is no name but an
-- offset could be 16 hours or more from UTC, which PostgreSQL writes and does not read. SET clauses of the function would cost
-- every row three times as much as asking.
CREATE OR REPLACE FUNCTION guardwire.copy_row() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    new_copy pg_catalog.json;
    old_copy pg_catalog.json;
    source CONSTANT pg_catalog."char" := TG_ARGV[0]::pg_catalog."char";
    float_digits CONSTANT pg_catalog.text := pg_catalog.current_setting('extra_float_digits');
    time_zone CONSTANT pg_catalog.text := pg_catalog.current_setting('TimeZone');
    is_odd_session CONSTANT pg_catalog.bool := float_digits::pg_catalog.int4 OPERATOR(pg_catalog.<) 1
                                               OR time_zone OPERATOR(pg_catalog.~) '[0-9]';
BEGIN
    IF is_odd_session THEN
        PERFORM pg_catalog.set_config('extra_float_digits', '1', true), pg_catalog.set_config('TimeZone', 'UTC', true);
    END IF;
    IF TG_OP OPERATOR(pg_catalog.<>) 'DELETE' THEN
        IF guardwire.is_short(pg_catalog.pg_column_size(NEW)) THEN
            new_copy := pg_catalog.row_to_json(NEW);
        END IF;
        IF NOT guardwire.is_plain_copy(new_copy) THEN
            new_copy := guardwire.copy_of(source, NEW);
        END IF;
    END IF;
    IF TG_OP OPERATOR(pg_catalog.<>) 'INSERT' THEN
        IF guardwire.is_short(pg_catalog.pg_column_size(OLD)) THEN
            old_copy := pg_catalog.row_to_json(OLD);
        END IF;
        IF NOT guardwire.is_plain_copy(old_copy) THEN
            old_copy := guardwire.copy_of(source, OLD);
        END IF;
    END IF;
    IF is_odd_session THEN
        PERFORM pg_catalog.set_config('extra_float_digits', float_digits, true),
                pg_catalog.set_config('TimeZone', time_zone, true);
    END IF;
    INSERT INTO guardwire.inbox (account, source, operation, new_row, old_row, xid, arrived_at)
    VALUES (coalesce(guardwire.read_user(coalesce(new_copy, old_copy) OPERATOR(pg_catalog.->>) 'user_id'), guardwire.no_account()),
            source, pg_catalog.lower(pg_catalog."left"(TG_OP, 1) COLLATE pg_catalog."C")::pg_catalog."char", new_copy, old_copy,
            pg_catalog.pg_current_xact_id(), pg_catalog.clock_timestamp());
    PERFORM guardwire.wake_applier();
    RETURN NULL;
END
$$;

-- Notes that a table was emptied.
CREATE OR REPLACE FUNCTION guardwire.note_truncate() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO guardwire.inbox (account, source, operation, xid, arrived_at)
    VALUES (guardwire.no_account(), TG_ARGV[0]::pg_catalog."char", 't', pg_catalog.pg_current_xact_id(),
            pg_catalog.clock_timestamp());
    PERFORM guardwire.wake_applier();
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
