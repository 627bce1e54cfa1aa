-- Three roles with no more rights than they need. Logins are made members of the last two (GRANT guardwire_server TO …).
--
-- guardwire_inbox owns the functions that run in the platform's statements: a function of somebody else that such a statement
-- may call, a cast of a column's type to json, can insert into the inbox and nothing else. guardwire_platform writes to the
-- platform's tables and knows nothing of schema guardwire. guardwire_server reads, and changes account state only through
-- functions: of the platform's tables it writes guard_limits alone.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['guardwire_inbox', 'guardwire_platform', 'guardwire_server'] LOOP
        -- CREATE ROLE needs the right to make roles even for a role that is there already.
        CONTINUE WHEN EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname = name);
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END LOOP;
    -- Only a member may give objects to a role.
    IF NOT pg_has_role('guardwire_inbox', 'MEMBER') THEN
        EXECUTE format('GRANT guardwire_inbox TO %I', current_user);
    END IF;
END
$$;

REVOKE ALL ON SCHEMA guardwire FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA guardwire FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA guardwire FROM PUBLIC;

GRANT USAGE, CREATE ON SCHEMA guardwire TO guardwire_inbox;
ALTER FUNCTION guardwire.copy_row() OWNER TO guardwire_inbox;
ALTER FUNCTION guardwire.note_truncate() OWNER TO guardwire_inbox;
REVOKE CREATE ON SCHEMA guardwire FROM guardwire_inbox;
REVOKE ALL ON FUNCTION guardwire.copy_row(), guardwire.note_truncate() FROM PUBLIC;
GRANT INSERT ON guardwire.inbox TO guardwire_inbox;
GRANT EXECUTE ON FUNCTION
    guardwire.copy_of("char", anyelement), guardwire.copy_columns("char", anyelement), guardwire.copy_value(anyelement),
    guardwire.is_short(integer), guardwire.is_plain_copy(json), guardwire.read_columns("char"), guardwire.read_user(text), guardwire.no_account(), guardwire.wake_applier(),
    guardwire.wakes_applier()
TO guardwire_inbox;

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
    guardwire.take_lease(text, double precision), guardwire.renew_lease(bigint, double precision),
    guardwire.release_lease(bigint), guardwire.apply(bigint, integer), guardwire.apply_singly(bigint, integer),
    guardwire.waiting_accounts(uuid[], pg_snapshot), guardwire.inbox_status(), guardwire.check_surroundings(),
    guardwire.housekeep(), guardwire.prune(integer),
    guardwire.list_accounts(), guardwire.copy_reference(), guardwire.backfill_next(), guardwire.unready(uuid),
    guardwire.read_history(uuid), guardwire.read_user(text), guardwire.read_ticket(jsonb), guardwire.no_account(),
    guardwire.read_columns("char"), guardwire.table_of("char")
TO guardwire_server;
