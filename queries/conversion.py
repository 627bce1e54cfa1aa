"""Profit in the account's currency: SQL that every statement about positions shares.

Profit is kept exact in the quote currency and turned into the account's by the newest rate in either
direction; where there is none it stays in the quote currency and says so. Rounding is the database's:
decimal, half away from zero. A statement names guardwire.positions `p` and guardwire.accounts `account`.
"""

from __future__ import annotations

from typing import Final

#: Joins that find the rate.
RATES: Final = """
LEFT JOIN guardwire.fx_current AS direct
       ON direct.base = p.quote_currency AND direct.quote = account.currency
          AND p.quote_currency <> account.currency
LEFT JOIN guardwire.fx_current AS inverse
       ON inverse.base = account.currency AND inverse.quote = p.quote_currency
          AND p.quote_currency <> account.currency
"""

#: The currency that `PROFIT` is in.
PROFIT_CURRENCY: Final = """
CASE WHEN coalesce(direct.rate, inverse.rate) IS NULL THEN p.quote_currency ELSE account.currency END
"""

#: The profit, to the cent. The zeros keep digits that PostgreSQL's division would round away.
PROFIT: Final = """
round(CASE WHEN direct.rate IS NOT NULL THEN p.pnl * direct.rate
           WHEN inverse.rate IS NOT NULL THEN p.pnl * 1.00000000 / inverse.rate
           ELSE p.pnl END, 2)::float8
"""
