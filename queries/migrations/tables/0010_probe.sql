-- Regions: nodes at a standby find out how far it has replayed the primary.

CREATE TABLE guardwire.probe (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    at timestamptz NOT NULL
);
COMMENT ON TABLE guardwire.probe IS 'One row: nodes at a standby write it at the primary and look for it at the standby; no node without a standby writes it';
COMMENT ON COLUMN guardwire.probe.singleton IS 'Keeps the table at one row';
COMMENT ON COLUMN guardwire.probe.at IS 'Time of the primary''s clock; it never goes back';
INSERT INTO guardwire.probe (at) VALUES (clock_timestamp());
COMMENT ON COLUMN guardwire.epoch.timeline IS 'Timeline of the WAL that was written when the epoch was raised';
