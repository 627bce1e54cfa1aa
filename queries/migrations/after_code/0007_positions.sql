-- Corrects rows that earlier releases derived by other rules. It runs after the functions of this release are there.

-- These accounts are read again from their log: a row that lies in the future hid later rows, or a row without a price took the
-- price away.
UPDATE guardwire.accounts AS a SET ready = false
WHERE greatest(a.last_sync_at, a.last_position_at, a.error_at, a.equity_at) > clock_timestamp()
   OR EXISTS (SELECT FROM guardwire.positions AS p
              WHERE p.user_id = a.user_id
                AND (greatest(p.state_at, p.last_close_at, p.updated_at) > clock_timestamp()
                     OR (p.is_open AND coalesce(p.current_price, 0) = 0)))
   OR EXISTS (SELECT FROM guardwire.market_alerts AS m WHERE m.user_id = a.user_id AND m.detected_at > clock_timestamp())
   OR EXISTS (SELECT FROM guardwire.events AS e WHERE e.user_id = a.user_id AND e.created_at > clock_timestamp());
UPDATE guardwire.backfill SET done = false, done_at = NULL
WHERE done AND EXISTS (SELECT FROM guardwire.accounts AS a WHERE NOT a.ready);

UPDATE guardwire.fx_current SET as_of = clock_timestamp() WHERE as_of > clock_timestamp();

-- MetaTrader writes 0 where there is no price.
UPDATE guardwire.positions AS p
SET entry_price = nullif(p.entry_price, 0), current_price = nullif(p.current_price, 0), take_profit = nullif(p.take_profit, 0),
    stop_loss = nullif(p.stop_loss, 0), closed_price = nullif(p.closed_price, 0)
WHERE 0 IN (p.entry_price, p.current_price, p.take_profit, p.stop_loss, p.closed_price);

-- Symbols with decorations mean their instrument.
UPDATE guardwire.positions AS o
SET instrument = (n.p).instrument, contract_size = (n.p).contract_size, quote_currency = (n.p).quote_currency,
    contract_size_assumed = (n.p).contract_size_assumed, point_value = (n.p).point_value, pct_unit = (n.p).pct_unit,
    pnl = (n.p).pnl, pnl_pct = (n.p).pnl_pct, fingerprint = (n.p).fingerprint
FROM (SELECT guardwire.recompute_position(guardwire.set_instrument(p)) AS p FROM guardwire.positions AS p WHERE p.is_open
      OFFSET 0) AS n
WHERE o.user_id = (n.p).user_id AND o.ticket = (n.p).ticket;
SELECT guardwire.lock_accounts(ARRAY(SELECT DISTINCT p.user_id FROM guardwire.positions AS p WHERE p.is_open));
