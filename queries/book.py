"""The open book of an account: one look at its positions for every channel that shows or counts them."""

from __future__ import annotations

from typing import Final

from queries.conversion import PROFIT, PROFIT_CURRENCY, RATES

#: A subquery over `watched` and `account`: ``positions``, a record for each that is open; how many are ``matched``,
#: ``diverging`` and ``unconfirmed``; and whether all are the account's ``own``. It costs the open ones.
BOOK: Final = f"""
SELECT array_agg(record_send(ROW(
           p.ticket, p.position_id, p.symbol, p.direction, p.volume, p.entry_price, p.entry_time,
           coalesce(p.current_price, p.entry_price), p.take_profit, p.stop_loss, p.contract_size_assumed,
           p.updated_at, p.pnl_pct, {PROFIT_CURRENCY}, {PROFIT}, p.instrument, p.unconfirmed_since, p.matched,
           p.divergence_reason))) AS positions,
       count(*) FILTER (WHERE p.matched = 1) AS matched,
       count(*) FILTER (WHERE p.matched = 2) AS diverging,
       count(*) FILTER (WHERE p.unconfirmed_since IS NOT NULL) AS unconfirmed,
       coalesce(bool_and(p.user_id = watched.user_id), true) AS own
FROM guardwire.positions AS p
{RATES}
WHERE p.user_id = watched.user_id AND p.is_open
"""  # noqa: S608 - put together from constants alone
