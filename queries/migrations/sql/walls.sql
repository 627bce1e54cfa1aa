-- What changes in a database that was migrated before: the objects that functions of this release need and that are not
-- functions. Where the capture is new all of it is there already.

-- A writer runs either the functions before or those of this release, never some of both: transactions that have written
-- are waited for, and statements that come meanwhile wait here, before their triggers run.
LOCK TABLE public.reconciliation_logs, public.equity_snapshots, public.guard_limits, public.instruments, public.fx_rates
IN SHARE ROW EXCLUSIVE MODE;

DROP TRIGGER IF EXISTS capture ON guardwire.pending;
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = 'guardwire.pending'::regclass AND a.attname = 'token') THEN
        TRUNCATE guardwire.pending;
    END IF;
END
$$;
ALTER TABLE guardwire.pending
    ADD COLUMN IF NOT EXISTS xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    ADD COLUMN IF NOT EXISTS nth bigint GENERATED ALWAYS AS IDENTITY,
    ADD COLUMN IF NOT EXISTS token text NOT NULL,
    ADD COLUMN IF NOT EXISTS wakes boolean NOT NULL;
CREATE INDEX IF NOT EXISTS pending_by_transaction ON guardwire.pending (xid, nth);
DROP FUNCTION IF EXISTS guardwire.listed(), guardwire.set_listed(text), guardwire.take_tokens(text),
    guardwire.note_rows(text, text, text), guardwire.capture_list(text), guardwire.list_token(text);
DROP TABLE IF EXISTS guardwire.capture_spill;

ALTER TABLE guardwire.configuration
    ADD COLUMN IF NOT EXISTS told_secret bytea NOT NULL DEFAULT uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid());
-- The old name may be known to logins that should not know it.
UPDATE guardwire.configuration SET told_channel = DEFAULT, told_secret = DEFAULT;

ALTER TABLE guardwire.capture_notes
    ADD COLUMN IF NOT EXISTS user_id uuid,
    ADD COLUMN IF NOT EXISTS concerns_all boolean NOT NULL DEFAULT true;
CREATE INDEX IF NOT EXISTS capture_notes_of_all ON guardwire.capture_notes (id) WHERE concerns_all;
CREATE INDEX IF NOT EXISTS capture_notes_by_user ON guardwire.capture_notes (user_id);

CREATE UNLOGGED TABLE IF NOT EXISTS guardwire.history_readers (user_id uuid PRIMARY KEY);

COMMENT ON COLUMN guardwire.configuration.told_secret IS '32 random bytes that prove that an item comes from the capture; `guardwire rotate-channel` replaces it and told_channel';
COMMENT ON COLUMN guardwire.capture_notes.user_id IS 'Whose account the row is about; null when that is unknown, or nobody''s';
COMMENT ON COLUMN guardwire.capture_notes.concerns_all IS 'Whether any account may depend on the row: a rate, an instrument, or a row that could not be read';
