-- Two roles with no more rights than they need; logins are made members of them (GRANT guardwire_server TO …).
--
-- guardwire_platform writes: it appends to the platform's tables and knows nothing of schema guardwire, for the triggers
-- act as their owner. guardwire_server reads, and does the housekeeping through functions: it can write no row of the
-- platform's but limits, and no derived row at all.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['guardwire_platform', 'guardwire_server'] LOOP
        -- To make a role that is there already takes the right to make roles, too.
        CONTINUE WHEN EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname = name);
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END LOOP;
END
$$;

REVOKE ALL ON SCHEMA guardwire FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA guardwire FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA guardwire FROM PUBLIC;

GRANT USAGE ON SCHEMA public TO guardwire_platform, guardwire_server;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.reconciliation_logs TO guardwire_platform;
GRANT SELECT, INSERT, UPDATE ON public.equity_snapshots, public.fx_rates TO guardwire_platform;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.guard_limits, public.instruments TO guardwire_platform;

GRANT SELECT ON public.reconciliation_logs, public.equity_snapshots, public.guard_limits, public.instruments,
                public.fx_rates TO guardwire_server;
GRANT INSERT, UPDATE ON public.guard_limits TO guardwire_server;
GRANT USAGE ON SCHEMA guardwire TO guardwire_server;
GRANT SELECT ON ALL TABLES IN SCHEMA guardwire TO guardwire_server;
GRANT UPDATE ON guardwire.epoch TO guardwire_server;
-- To lock rows that it deletes takes the right to update some column of them.
GRANT INSERT, DELETE, UPDATE (undone_at, transaction_id) ON guardwire.revocations TO guardwire_server;
GRANT EXECUTE ON FUNCTION
    guardwire.housekeep(), guardwire.apply_notes(integer), guardwire.prune(integer),
    guardwire.list_accounts(), guardwire.list_missed_accounts(), guardwire.reread_rates(), guardwire.backfill_next(), guardwire.unready(uuid), guardwire.read_history(uuid),
    guardwire.read_user(uuid), guardwire.read_user(text),
    guardwire.read_ticket(bigint), guardwire.read_ticket(integer), guardwire.read_ticket(smallint),
    guardwire.read_ticket(numeric), guardwire.read_ticket(text)
TO guardwire_server;
