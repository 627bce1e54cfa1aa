"""Channel `positions`: the open book and what it is worth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any, Final

from guardwire.patch import State
from queries.live_query import LiveQuery
from queries.records import Remembered, read
from queries.timestamps import iso

_COLUMNS = """
       account.currency AS account_currency,
       account.balance::float8 AS account_balance,
       account.last_position_at,
       book.positions AS open_positions
"""


#: Below this a double's error is a thousandth of what counts as near a tie.
_EXACT_HUNDREDTHS: Final = 1e6
_NEAR_A_TIE: Final = 1e-6
_ROOMY: Final = Context(prec=80, rounding=ROUND_HALF_UP)

#: Records of open positions that are shared between reads.
_POSITIONS_REMEMBERED: Final = 65_536


def _shape(row: Mapping[str, Any]) -> State:
    book = dict(map(_remembered, row["open_positions"] or ()))
    state: State = {"total_positions": len(book), "open": book}
    if row["last_position_at"] is not None:
        state["last_updated_at"] = iso(row["last_position_at"])
    total, currency = _total(book, row["account_currency"])
    if currency is not None:
        state["currency"] = currency
    if total is not None:
        state["total_unrealized_pnl"] = total
        balance = row["account_balance"]
        if balance is not None and balance > 0 and currency == row["account_currency"]:
            state["total_unrealized_pnl_pct"] = percent(total, balance)
    return state


def percent(part: float, whole: float) -> float:
    """``part`` of ``whole`` in %, with 2 decimals, rounded half away from zero."""
    hundredths = part * 10_000 / whole
    if abs(hundredths) < _EXACT_HUNDREDTHS and abs(hundredths % 1 - 0.5) > _NEAR_A_TIE:
        return round(hundredths) / 100
    # In decimal, because binary rounding errs at ties: 0.125 % must be 0.13, as the database rounds it.
    # Room for the oddest balance: a share that did not fit would make the account unreadable.
    share = _ROOMY.divide(Decimal(repr(part)) * 100, Decimal(repr(whole)))
    return float(share.quantize(Decimal("0.01"), context=_ROOMY))


def _total(book: Mapping[str, State], account_currency: str | None) -> tuple[float | None, str | None]:
    """Sum and its currency; the sum is None where it would mix currencies or leave out a position."""
    if not book:
        return 0.0, account_currency
    currencies = {position["pnl_currency"] for position in book.values()}
    profits = [position.get("unrealized_pnl") for position in book.values()]
    if len(currencies) > 1 or None in profits:
        return None, account_currency
    return round(math.fsum(profits), 2), currencies.pop()  # type: ignore[arg-type]


def _position(record: bytes) -> tuple[str, State]:
    # Most of a book has not changed since the last read: then the same state is shared, not made again,
    # which also makes comparing two states a comparison of pointers.
    (ticket, position_id, symbol, direction, volume, entry_price, entry_time, current_price, take_profit,
     stop_loss, contract_size_assumed, updated_at, pnl_pct, pnl_currency, pnl) = read(record)  # fmt: skip
    state: State = {
        "position_id": position_id,
        "symbol": symbol,
        "direction": direction,
        "volume": volume,
        "entry_price": entry_price,
        "entry_time": entry_time,
        "current_price": current_price,
        "unrealized_pnl": pnl,
        "unrealized_pnl_pct": pnl_pct,
        "pnl_currency": pnl_currency,
        "take_profit": take_profit,
        "stop_loss": stop_loss,
        "last_updated_at": updated_at,
    }
    if contract_size_assumed:
        state["contract_size_assumed"] = True
    return str(ticket), {name: value for name, value in state.items() if value is not None}


_remembered = Remembered(_position, most=_POSITIONS_REMEMBERED)
POSITIONS = LiveQuery("positions", _COLUMNS, _shape)
