-- The rights of guardwire_server, the role of the logins of nodes and of `guardwire apply`.
GRANT USAGE ON SCHEMA public TO guardwire_server;
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
