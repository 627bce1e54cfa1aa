-- The rights of guardwire_platform, the role of the trading platform's logins.
GRANT USAGE ON SCHEMA public TO guardwire_platform;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.reconciliation_logs TO guardwire_platform;
GRANT SELECT, INSERT, UPDATE ON public.equity_snapshots, public.fx_rates TO guardwire_platform;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.guard_limits, public.instruments TO guardwire_platform;
