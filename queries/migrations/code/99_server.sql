-- The rights of guardwire_server, the role of the logins of nodes and of `guardwire apply`.
GRANT USAGE ON SCHEMA public TO guardwire_server;
GRANT SELECT ON public.reconciliation_logs, public.equity_snapshots, public.guard_limits, public.instruments,
                public.fx_rates TO guardwire_server;
GRANT INSERT, UPDATE ON public.guard_limits TO guardwire_server;
GRANT USAGE ON SCHEMA guardwire TO guardwire_server;
GRANT SELECT ON ALL TABLES IN SCHEMA guardwire TO guardwire_server;
GRANT UPDATE ON guardwire.epoch, guardwire.probe TO guardwire_server;
-- To lock rows that it deletes takes the right to update some column of them.
GRANT INSERT, DELETE, UPDATE (undone_at, transaction_id) ON guardwire.revocations TO guardwire_server;
GRANT EXECUTE ON FUNCTION
    guardwire.take_lease(text, double precision), guardwire.renew_lease(bigint, double precision),
    guardwire.release_lease(bigint), guardwire.apply(bigint, integer, boolean),
    guardwire.apply_singly(bigint, integer, boolean),
    guardwire.waiting_accounts(uuid[], pg_snapshot), guardwire.inbox_status(), guardwire.check_surroundings(),
    guardwire.housekeep(), guardwire.prune(integer),
    guardwire.list_accounts(), guardwire.copy_reference(), guardwire.backfill_next(), guardwire.unready(uuid),
    guardwire.read_history(uuid), guardwire.read_user(text), guardwire.read_ticket(jsonb), guardwire.no_account(),
    guardwire.read_columns("char"), guardwire.table_of("char"),
    guardwire.acknowledge(uuid, uuid[], integer[], text, text), guardwire.snooze(uuid, uuid, integer, integer, text, text),
    guardwire.set_arming(uuid, boolean, timestamptz, text, text), guardwire.beat(uuid[], text[], double precision[], double precision[]),
    guardwire.leave(uuid, text, text), guardwire.claim_deliveries(text, integer, double precision, bigint[]),
    guardwire.finish_delivery(bigint, text, text, integer, double precision), guardwire.delivers(),
    guardwire.release_deliveries(boolean), guardwire.put_endpoint(uuid, uuid, text, text, text, boolean),
    guardwire.delete_endpoint(uuid, uuid), guardwire.rotate_secret(uuid, uuid), guardwire.test_endpoint(uuid, uuid),
    guardwire.redeliver(uuid, uuid, bigint), guardwire.put_escalation(uuid, jsonb)
TO guardwire_server;
