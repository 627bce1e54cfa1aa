-- `guardwire revoke --until` and `guardwire revoke --undo` write these columns.

ALTER TABLE guardwire.revocations ADD COLUMN locked_until timestamptz, ADD COLUMN undone_at timestamptz;

COMMENT ON COLUMN guardwire.revocations.locked_until IS
    'A user''s tokens issued until then are refused too; NULL where only those issued until revoked_at are';
COMMENT ON COLUMN guardwire.revocations.undone_at IS
    'The row counts no longer since then; NULL while it does. Its transaction_id is that of the undoing';
