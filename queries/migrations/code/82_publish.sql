-- Publishing: what a batch changed, for nodes other than the applier's own.

-- Authenticates a notification: 128 bits of SHA-256 over the secret and SHA-256 over the secret and the text. The outer
-- digest prevents length extension, as the padding of HMAC does; HMAC itself would need an extension of PostgreSQL.
CREATE OR REPLACE FUNCTION guardwire.delta_mac(secret bytea, payload text) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
RETURN left(encode(sha256(secret || sha256(secret || convert_to(payload, 'UTF8'))), 'hex'), 32);

-- Sends deltas on the secret channel, `mac#delta;delta…`, in chunks that fit a notification. An account whose delta does not
-- fit by itself gets a change notice. trace_notify is off because it would print the channel's name to the client.
CREATE OR REPLACE FUNCTION guardwire.publish(changed guardwire.change[]) RETURNS void LANGUAGE plpgsql SET trace_notify = off AS $$
DECLARE
    settings guardwire.configuration;
    c guardwire.change;
    chunk text := '';
    unread guardwire.change[] := '{}';
BEGIN
    IF pg_notification_queue_usage() >= 0.5 THEN
        RETURN;
    END IF;
    SELECT o.* INTO settings FROM guardwire.configuration AS o;
    FOREACH c IN ARRAY changed LOOP
        IF c.delta IS NULL OR octet_length(c.delta) > 7900 THEN
            unread := unread || c;
            CONTINUE;
        END IF;
        IF octet_length(chunk) + octet_length(c.delta) >= 7900 THEN
            PERFORM pg_notify(settings.delta_channel, guardwire.delta_mac(settings.delta_secret, chunk) || '#' || chunk);
            chunk := '';
        END IF;
        chunk := chunk || CASE WHEN chunk = '' THEN '' ELSE ';' END || c.delta;
    END LOOP;
    IF chunk <> '' THEN
        PERFORM pg_notify(settings.delta_channel, guardwire.delta_mac(settings.delta_secret, chunk) || '#' || chunk);
    END IF;
    PERFORM guardwire.send_notices(array_agg(u.account), array_agg(u.revision)) FROM unnest(unread) AS u;
END
$$;
