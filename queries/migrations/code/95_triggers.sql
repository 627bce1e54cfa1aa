-- The triggers on the platform's tables. Each fires for every row, because a statement's trigger misses rows that are written
-- to a partition by its own name or by logical replication; and ENABLE ALWAYS, because of the latter. `guardwire migrate`
-- makes a trigger that is missing, and enables one that is not. No trigger fires for the rows that ATTACH PARTITION brings along:
-- `guardwire rebuild` reads them.
CREATE TRIGGER guardwire_copy AFTER INSERT OR UPDATE ON public.reconciliation_logs
FOR EACH ROW EXECUTE FUNCTION guardwire.copy_row('l');

CREATE TRIGGER guardwire_copy AFTER INSERT OR UPDATE ON public.equity_snapshots
FOR EACH ROW EXECUTE FUNCTION guardwire.copy_row('e');

CREATE TRIGGER guardwire_copy AFTER INSERT OR UPDATE ON public.fx_rates
FOR EACH ROW EXECUTE FUNCTION guardwire.copy_row('x');

CREATE TRIGGER guardwire_copy AFTER INSERT OR UPDATE OR DELETE ON public.guard_limits
FOR EACH ROW EXECUTE FUNCTION guardwire.copy_row('g');

CREATE TRIGGER guardwire_truncate AFTER TRUNCATE ON public.guard_limits
FOR EACH STATEMENT EXECUTE FUNCTION guardwire.note_truncate('g');

CREATE TRIGGER guardwire_copy AFTER INSERT OR UPDATE OR DELETE ON public.instruments
FOR EACH ROW EXECUTE FUNCTION guardwire.copy_row('i');

CREATE TRIGGER guardwire_truncate AFTER TRUNCATE ON public.instruments
FOR EACH STATEMENT EXECUTE FUNCTION guardwire.note_truncate('i');

CREATE TRIGGER guardwire_configure AFTER UPDATE ON guardwire.configuration
FOR EACH ROW WHEN (OLD.notify <> NEW.notify) EXECUTE FUNCTION guardwire.configure();
