-- Tokens and users whose access ended early. Written by `guardwire revoke` and the admin endpoint, read by every node.

CREATE TABLE guardwire.revocations (
    revocation_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id uuid,
    token_id text,
    revoked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    reason text NOT NULL DEFAULT '',
    -- Orders rows for readers. Neither an id nor a time could: a transaction that began early and committed late
    -- would leave a row behind a watermark of those, and a stolen token in use.
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
    CONSTRAINT a_revocation_names_a_user_or_a_token CHECK (num_nonnulls(user_id, token_id) = 1),
    CONSTRAINT a_revocation_ends_after_it_begins CHECK (expires_at > revoked_at),
    CONSTRAINT a_token_id_is_1_to_256_characters CHECK (length(token_id) BETWEEN 1 AND 256)
);
COMMENT ON TABLE guardwire.revocations IS
    'A user''s tokens issued until revoked_at, or one token, are refused until expires_at, when they have expired anyway';

CREATE INDEX revocations_by_transaction ON guardwire.revocations (transaction_id);
CREATE INDEX revocations_by_end ON guardwire.revocations (expires_at);
