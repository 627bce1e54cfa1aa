"""Channel `positions`: the open positions and what they are worth; channel `status` counts the same ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Context, Decimal
from string import ascii_lowercase, ascii_uppercase
from typing import Any, Final

from guardwire.patch import State
from queries.conversion import PROFIT, PROFIT_CURRENCY, RATES
from queries.live_query import LiveQuery
from queries.records import Remembered, read
from queries.timestamps import iso

_COLUMNS = """
       account.currency AS account_currency,
       account.balance::float8 AS account_balance,
       account.last_position_at,
       book.positions AS open_positions
"""

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

#: Below this a double's error is a thousandth of what counts as near a tie.
_EXACT_HUNDREDTHS: Final = 1e6
_NEAR_A_TIE: Final = 1e-6
_ROOMY: Final = Context(prec=80, rounding=ROUND_HALF_UP)

_MATCHED: Final = 1
_ASCII_UPPER: Final = str.maketrans(ascii_lowercase, ascii_uppercase)
#: Records of open positions that are shared between reads.
_POSITIONS_REMEMBERED: Final = 65_536


def fold(symbol: str) -> str:
    """A symbol as it is compared: in upper case, ASCII letters alone, as `guardwire.fold` has it."""
    return symbol.translate(_ASCII_UPPER)


def _shape(row: Mapping[str, Any]) -> State:
    positions = dict(map(position_of, row["open_positions"] or ()))
    book = {ticket: position for ticket, position in positions.items() if "matched" not in position}
    state: State = {"total_positions": len(book), "open": book}
    if len(book) < len(positions):
        state["unmatched"] = {ticket: positions[ticket] for ticket in positions.keys() - book.keys()}
    if row["last_position_at"] is not None:
        state["last_updated_at"] = iso(row["last_position_at"])
    total = _total(book, row["account_currency"])
    if row["account_currency"] is not None:
        state["currency"] = row["account_currency"]
    if total is not None:
        state["total_unrealized_pnl"] = total
        balance = row["account_balance"]
        if balance is not None and balance > 0:
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


def _total(book: Mapping[str, State], currency: str | None) -> float | None:
    """Sum in the account's ``currency``; None where a profit is unknown, assumed or in another currency."""
    profits = [
        position.get("unrealized_pnl")
        for position in book.values()
        if position["pnl_currency"] == currency and "contract_size_assumed" not in position
    ]
    if len(profits) < len(book) or None in profits:
        return None
    return round(math.fsum(profits), 2)  # type: ignore[arg-type]


def _position(record: bytes) -> tuple[str, State]:
    # Most of a book has not changed since the last read: then the same state is shared, not made again,
    # which also makes comparing two states a comparison of pointers.
    (ticket, position_id, symbol, direction, volume, entry_price, entry_time, current_price, take_profit,
     stop_loss, contract_size_assumed, updated_at, pnl_pct, pnl_currency, pnl, instrument, unconfirmed_since,
     matched, divergence_reason) = read(record)  # fmt: skip
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
        "unconfirmed_since": unconfirmed_since,
        "instrument": None if symbol is None or instrument == fold(symbol) else instrument,
    }
    if contract_size_assumed:
        state["contract_size_assumed"] = True
    if matched != _MATCHED:
        state |= {"matched": matched, "divergence_reason": divergence_reason}
    return str(ticket), {name: value for name, value in state.items() if value is not None}


#: Ticket and state of a position by its record.
position_of: Final = Remembered(_position, most=_POSITIONS_REMEMBERED)
POSITIONS = LiveQuery("positions", _COLUMNS, _shape)
