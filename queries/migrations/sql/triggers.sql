-- The triggers on the platform's tables: they only list. Row by row, because a trigger on the statement would be passed by
-- when rows are written to a partition by its own name, and because one row a statement is what platforms write.
CREATE TRIGGER guardwire_insert AFTER INSERT ON public.reconciliation_logs
FOR EACH ROW EXECUTE FUNCTION guardwire.touch_log('li');
CREATE TRIGGER guardwire_update AFTER UPDATE ON public.reconciliation_logs
FOR EACH ROW EXECUTE FUNCTION guardwire.touch_log('lu');
CREATE TRIGGER guardwire_gone AFTER DELETE OR TRUNCATE ON public.reconciliation_logs
FOR EACH STATEMENT EXECUTE FUNCTION guardwire.touch_gone();

CREATE TRIGGER guardwire_insert AFTER INSERT ON public.equity_snapshots
FOR EACH ROW EXECUTE FUNCTION guardwire.touch_equity('ei');
CREATE TRIGGER guardwire_update AFTER UPDATE ON public.equity_snapshots
FOR EACH ROW EXECUTE FUNCTION guardwire.touch_equity('eu');

CREATE TRIGGER guardwire_change AFTER INSERT OR UPDATE OR DELETE ON public.guard_limits
FOR EACH ROW EXECUTE FUNCTION guardwire.touch_limits();
CREATE TRIGGER guardwire_truncate BEFORE TRUNCATE ON public.guard_limits
FOR EACH STATEMENT EXECUTE FUNCTION guardwire.touch_truncated();

CREATE TRIGGER guardwire_change AFTER INSERT OR UPDATE OR DELETE ON public.instruments
FOR EACH ROW EXECUTE FUNCTION guardwire.touch_instruments();
CREATE TRIGGER guardwire_truncate BEFORE TRUNCATE ON public.instruments
FOR EACH STATEMENT EXECUTE FUNCTION guardwire.touch_truncated();

CREATE TRIGGER guardwire_insert AFTER INSERT OR UPDATE ON public.fx_rates
FOR EACH ROW EXECUTE FUNCTION guardwire.touch_fx();
