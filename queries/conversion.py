"""Profit in the account's currency: SQL that every statement about positions shares.

Profit is kept exact in the quote currency and turned into the account's by the newest rate in either
direction; where there is none it stays in the quote currency and says so. Rounding is the database's:
decimal, half away from zero. A statement names guardwire.positions `p` and guardwire.accounts `account`.
"""

from __future__ import annotations

from typing import Final

#: Joins that find the rate; the limits keep them look-ups, made only where currencies differ.
RATES: Final = """
LEFT JOIN LATERAL (
    SELECT fx.rate, fx.as_of FROM guardwire.fx_current AS fx
    WHERE p.quote_currency <> account.currency AND fx.base = p.quote_currency AND fx.quote = account.currency
    LIMIT 1) AS direct ON true
LEFT JOIN LATERAL (
    SELECT fx.rate, fx.as_of FROM guardwire.fx_current AS fx
    WHERE p.quote_currency <> account.currency AND fx.base = account.currency AND fx.quote = p.quote_currency
    LIMIT 1) AS inverse ON true
"""

#: The currency that `PROFIT` is in.
PROFIT_CURRENCY: Final = """
CASE WHEN coalesce(direct.rate, inverse.rate) IS NULL THEN p.quote_currency ELSE account.currency END
"""

#: The profit, to the cent. The zeros keep digits that PostgreSQL's division would round away.
PROFIT: Final = """
round(CASE WHEN direct.as_of >= coalesce(inverse.as_of, direct.as_of) THEN p.pnl * direct.rate
           WHEN inverse.rate IS NOT NULL THEN p.pnl * 1.00000000 / inverse.rate
           ELSE p.pnl END, 2)
"""
