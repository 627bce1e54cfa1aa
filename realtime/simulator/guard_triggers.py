"""Rows in which the platform reports a market condition. Pure."""

from __future__ import annotations

from datetime import datetime
from random import Random
from typing import Final

from realtime.simulator.account import Account
from realtime.simulator.market import INSTRUMENTS, WATCHED, quoted
from realtime.simulator.rows import LogRow, new_id

#: Size of a gap or a spread in percent of the price, from and to: mostly warnings, sometimes worse.
_GAP_PCT: Final = (5.2, 12.5)
_SPREAD_PCT: Final = (0.52, 1.3)


def guard_trigger(kind: str, account: Account, random: Random, now: datetime) -> LogRow:
    """A guard trigger of ``kind`` (``gap``, ``spread``, ``liquidity``, ``other``) on a symbol of the market.

    A gap is recorded as close (``entry_price``) and next open (``current_price``), a spread as bid and ask.
    """
    symbol, price, digits = _symbol(account, random, held=kind in ("liquidity", "other"))
    row = LogRow(
        id=new_id(),
        user_id=account.user_id,
        symbol=symbol,
        event_type="guard_trigger",
        status="success",
        matched=0,
        created_at=now,
        updated_at=now,
    )
    before = quoted(price, digits)
    if kind == "gap":
        percent = random.triangular(*_GAP_PCT, _GAP_PCT[0]) * random.choice((1, -1))
        after = quoted(price * (1 + percent / 100), digits)
        reason = f"price gap of {abs(percent):.1f} % at the open"
        return row._replace(entry_price=before, current_price=after, divergence_reason=reason)
    if kind == "spread":
        percent = random.triangular(*_SPREAD_PCT, _SPREAD_PCT[0])
        ask = quoted(price * (1 + percent / 100), digits)
        reason = f"bid-ask spread widened to {percent:.2f} %"
        return row._replace(entry_price=before, current_price=ask, divergence_reason=reason)
    if kind == "liquidity":
        return row._replace(divergence_reason="liquidity thin: less than 10 lots within 5 points")
    return row._replace(divergence_reason="quotes frozen for 20 s")


def _symbol(account: Account, random: Random, *, held: bool) -> tuple[str, float, int]:
    """A symbol, its price and its digits; none of the book unless ``held``, as those would have to jump."""
    if held and account.book:
        instrument = random.choice(account.book).instrument
        return instrument.symbol, account.market.prices[instrument.symbol], instrument.digits
    traded = {position.instrument.symbol for position in account.book}
    free = [(each.symbol, account.market.prices[each.symbol], each.digits) for each in INSTRUMENTS]
    return random.choice([*WATCHED, *(each for each in free if each[0] not in traded)])
