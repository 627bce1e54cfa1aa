-- Columns about the clock that stamps an account's rows. Times of the platform and times of this database are never
-- compared with each other: `guardwire.effective_time` turns the first into the second.

ALTER TABLE guardwire.accounts
    ADD COLUMN clock_stepped_at timestamptz,
    ADD COLUMN clock_doubted_at timestamptz,
    ADD COLUMN clock_offset_seconds integer,
    ADD COLUMN recent_offsets bigint[],
    ADD COLUMN last_loop_at timestamptz,
    ADD COLUMN older_syncs bigint[],
    ADD COLUMN older_equity bigint[];
CREATE INDEX accounts_doubted ON guardwire.accounts (user_id) WHERE clock_doubted_at IS NOT NULL;
COMMENT ON COLUMN guardwire.accounts.clock_stepped_at IS 'Since this arrival the platform''s clock is known to have gone back; rows count at their arrival';
COMMENT ON COLUMN guardwire.accounts.clock_doubted_at IS 'Arrival of the first row that was ignored as older and that a clock which went back would explain; null when nothing is in doubt';
COMMENT ON COLUMN guardwire.accounts.clock_offset_seconds IS 'Arrival less created_at of recent syncs, their median; null within a minute of 0';
COMMENT ON COLUMN guardwire.accounts.recent_offsets IS 'Arrival less created_at of the last 5 syncs, in microseconds; null while each of them agrees with clock_offset_seconds';
COMMENT ON COLUMN guardwire.accounts.last_loop_at IS 'Time of the latest sync without a ticket';
COMMENT ON COLUMN guardwire.accounts.older_syncs IS 'As in positions.older_rows, of syncs without a ticket';
COMMENT ON COLUMN guardwire.accounts.older_equity IS 'As in positions.older_rows, of equity rows';
COMMENT ON COLUMN guardwire.accounts.last_sync_arrived_at IS 'When the last sign of life arrived: a sync that did not fail and was not older, or equity of an account without positions';

ALTER TABLE guardwire.positions
    ADD COLUMN older_rows bigint[],
    ADD COLUMN unconfirmed_since timestamptz,
    ADD COLUMN instrument text;
COMMENT ON COLUMN guardwire.positions.older_rows IS 'Arrival less created_at, in microseconds, of the last consecutive rows that were ignored as older and agree within 5 s';
COMMENT ON COLUMN guardwire.positions.unconfirmed_since IS 'Time of the last row of a position that the platform no longer mentions while it syncs others; else null';

COMMENT ON COLUMN guardwire.positions.instrument IS 'Symbol of guardwire.contracts that the position''s symbol means; null where it is in none, and its contract size is assumed';

ALTER TABLE guardwire.fx_current
    ADD COLUMN older_rates bigint[],
    ADD COLUMN clock_stepped_at timestamptz;
COMMENT ON COLUMN guardwire.fx_current.older_rates IS 'As positions.older_rows';
COMMENT ON COLUMN guardwire.fx_current.clock_stepped_at IS 'As accounts.clock_stepped_at, of the clock that stamps the pair''s rates';
COMMENT ON COLUMN guardwire.fx_current.as_of IS 'Time at which the rate counts';

ALTER TABLE guardwire.market_alerts ADD COLUMN window_from timestamptz;
COMMENT ON COLUMN guardwire.market_alerts.window_from IS 'When its window began: detected_at, but later where the platform''s clock is known to be behind; null in rows of older releases';

ALTER TABLE guardwire.events
    ADD COLUMN notice text,
    ADD COLUMN detail text;
COMMENT ON COLUMN guardwire.events.notice IS 'What Guardwire itself found, of an event that is not a row of the platform alone: clock_offset, position_unconfirmed, …; else null';
COMMENT ON COLUMN guardwire.events.detail IS 'A sentence about the notice, for people';

CREATE INDEX accounts_clock_off ON guardwire.accounts (clock_offset_seconds) WHERE clock_offset_seconds IS NOT NULL;
