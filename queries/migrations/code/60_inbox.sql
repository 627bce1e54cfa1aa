-- The inbox: the only part of Guardwire that runs inside the platform's transactions.
--
-- These functions run as their owner in the session of whoever writes, so every name is qualified: no temporary type,
-- function or operator of that session can take the place of another. They read no table, and they catch no exception: a
-- COPY of a million rows would need a million subtransactions for that.

-- Copies a row of the platform into the inbox. to_jsonb takes whatever columns the table has at that moment.
CREATE OR REPLACE FUNCTION guardwire.copy_row() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    new_copy pg_catalog.jsonb;
    old_copy pg_catalog.jsonb;
BEGIN
    IF TG_OP OPERATOR(pg_catalog.<>) 'DELETE' THEN
        new_copy := pg_catalog.to_jsonb(NEW);
    END IF;
    IF TG_OP OPERATOR(pg_catalog.<>) 'INSERT' THEN
        old_copy := pg_catalog.to_jsonb(OLD);
    END IF;
    INSERT INTO guardwire.inbox (account, source, operation, new_row, old_row, xid, arrived_at)
    VALUES (coalesce(guardwire.read_user(coalesce(new_copy, old_copy) OPERATOR(pg_catalog.->>) 'user_id'), guardwire.no_account()),
            TG_ARGV[0]::pg_catalog."char", pg_catalog.lower(pg_catalog."left"(TG_OP, 1))::pg_catalog."char", new_copy, old_copy,
            pg_catalog.pg_current_xact_id(), pg_catalog.clock_timestamp());
    -- A transaction that has notified cannot be prepared, so the applier polls where transactions may be prepared.
    IF guardwire.wakes_applier() AND pg_catalog.current_setting('max_prepared_transactions') OPERATOR(pg_catalog.=) '0' THEN
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
    IF guardwire.wakes_applier() AND pg_catalog.current_setting('max_prepared_transactions') OPERATOR(pg_catalog.=) '0' THEN
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
