-- What a commit tells the nodes of itself, so that they need not read it back (queries/told.py takes it apart).

-- Microseconds since 1970.
CREATE FUNCTION guardwire.unix_us(at timestamptz) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (extract(epoch FROM at) * 1000000)::bigint;

-- Proves that an item comes from the capture: 128 bits of SHA-256 over the secret and SHA-256 over the secret and the item.
-- The outer digest keeps a shorter item from being continued (length extension), as HMAC does with its padding. It is
-- not HMAC, which would take an extension.
CREATE FUNCTION guardwire.told_mac(secret bytea, item text) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
RETURN left(encode(sha256(secret || sha256(secret || convert_to(item, 'UTF8'))), 'hex'), 32);

-- A profit in another currency, to the cent, as queries/conversion.py converts it; in its own where there is no rate.
CREATE FUNCTION guardwire.converted(pnl numeric, quote_currency text, account_currency text) RETURNS numeric
LANGUAGE plpgsql STABLE AS $$
DECLARE
    found_rate numeric;
BEGIN
    SELECT fx.rate INTO found_rate FROM guardwire.fx_current AS fx WHERE fx.base = quote_currency AND fx.quote = account_currency;
    IF FOUND THEN
        RETURN round(pnl * found_rate, 2);
    END IF;
    SELECT fx.rate INTO found_rate FROM guardwire.fx_current AS fx WHERE fx.base = account_currency AND fx.quote = quote_currency;
    RETURN CASE WHEN FOUND THEN round(pnl * 1.00000000 / found_rate, 2) ELSE round(pnl, 2) END;
END
$$;

-- What a position is worth now, as it is told.
CREATE FUNCTION guardwire.told_position(p guardwire.positions, account_currency text) RETURNS text LANGUAGE sql STABLE
RETURN concat('|', (p).ticket, ' ', (p).matched, ' ', (p).current_price, ' ',
              CASE WHEN (p).quote_currency <> account_currency
                   THEN guardwire.converted((p).pnl, (p).quote_currency, account_currency) ELSE round((p).pnl, 2) END,
              ' ', (p).pnl_pct, ' ', guardwire.unix_us((p).updated_at));

-- Tells the nodes what plain syncs made of the accounts of these positions: in chunks that fit, and none while the queue is
-- half full. An account that does not fit by itself is hinted at.
CREATE FUNCTION guardwire.tell_nodes(moved guardwire.positions[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    settings guardwire.configuration;
    told record;
    chunk text := '';
BEGIN
    IF NOT guardwire.notifies() OR pg_notification_queue_usage() >= 0.5 THEN
        RETURN;
    END IF;
    SELECT c.* INTO settings FROM guardwire.configuration AS c WHERE c.singleton;
    FOR told IN
        SELECT a.user_id, a.revision,
               concat(a.user_id, ' ', a.base_revision, ' ', a.revision, ' ', a.total_syncs, ' ', guardwire.unix_us(a.last_sync_at),
                      ' ', a.last_sync_duration_ms::numeric, ' ', guardwire.unix_us(a.last_position_at), ' ', a.balance,
                      string_agg(guardwire.told_position(p, a.currency), '')) AS item
        FROM unnest(moved) AS p JOIN guardwire.accounts AS a ON a.user_id = p.user_id
        GROUP BY a.user_id
    LOOP
        told.item := told.item || '#' || guardwire.told_mac(settings.told_secret, told.item);
        IF length(told.item) > 7900 THEN
            PERFORM guardwire.notify_nodes(ARRAY[told.user_id], ARRAY[told.revision]);
        ELSIF length(chunk) + length(told.item) < 7900 THEN
            chunk := chunk || CASE WHEN chunk = '' THEN '' ELSE ';' END || told.item;
        ELSE
            PERFORM pg_notify(settings.told_channel, chunk);
            chunk := told.item;
        END IF;
    END LOOP;
    IF chunk <> '' THEN
        PERFORM pg_notify(settings.told_channel, chunk);
    END IF;
END
$$;
