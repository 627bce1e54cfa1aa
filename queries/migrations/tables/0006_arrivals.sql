-- Deleting old arrivals looks past the rows that are deleted already and not vacuumed yet. The default lets a fifth of the table
-- become such rows: of ten million, two million, which takes seconds each time.
ALTER TABLE guardwire.arrivals SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
