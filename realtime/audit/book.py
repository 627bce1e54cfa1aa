"""The open book: each position as it is shown, and what they are worth together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, localcontext
from string import ascii_lowercase, punctuation
from typing import Any

from realtime.audit import values
from realtime.audit.history import Arrival, FxRate, History, Instrument, LogRow
from realtime.audit.ticket import Ticket

_LARGEST_PROFIT = Decimal(10) ** 13


@dataclass(frozen=True)
class Reference:
    """Instruments by symbol, and the newest usable rate of each pair of currencies with the time at which it counts."""

    instruments: dict[str, Instrument]
    rates: dict[tuple[str, str], tuple[datetime, Decimal]]

    @classmethod
    def of(cls, history: Iterable[Arrival], seeded: Iterable[Instrument]) -> Reference:
        instruments = {instrument.symbol: instrument for instrument in seeded}
        rates: dict[tuple[str, str], tuple[datetime, Decimal]] = {}
        for arrival in history:
            change = arrival.change
            if isinstance(change, Instrument):
                instruments[change.symbol] = change
            if isinstance(change, FxRate) and change.usable and not arrival.is_older:
                rate, pair = values.number(change.rate), (change.pair[0] or "", change.pair[1] or "")
                assert rate is not None
                if pair not in rates or arrival.shows_step or arrival.time >= rates[pair][0]:
                    rates[pair] = arrival.time, rate
        return cls(instruments, rates)

    def find(self, symbol: str | None) -> Instrument | None:
        """The instrument that a symbol means: of its name, or of the name that a broker decorated."""
        name = symbol or ""
        bare = name.removeprefix("#")
        for candidate in (
            name,
            bare,
            *(bare[:-cut] for cut in range(1, min(6, len(bare))) if _decorates(bare[-cut:])),
        ):
            if (found := self.instruments.get(values.fold(candidate))) is not None:
                return found
        return None

    def convert(self, amount: Decimal, quote: str, currency: str | None) -> tuple[Decimal, str]:
        """``amount`` in ``currency`` by the newest rate in either direction; without one it stays in ``quote``."""
        if currency is None or quote == currency:
            return amount, quote
        direct, inverse = self.rates.get((quote, currency)), self.rates.get((currency, quote))
        with localcontext(values.EXACT):
            if direct is not None and (inverse is None or direct[0] >= inverse[0]):
                return amount * direct[1], currency
            if inverse is not None:
                return amount / inverse[1], currency
        return amount, quote


def _decorates(ending: str) -> bool:
    """Whether brokers append such an ending to a symbol: it begins with a punctuation mark, or is lower case."""
    return (bool(ending) and ending[0] in punctuation) or (
        bool(ending) and all(letter in ascii_lowercase for letter in ending)
    )


def profit(row: LogRow, price: Decimal | None, instrument: Instrument) -> Decimal | None:
    """(price - entry) x volume x contract size, against it for a sell; None when it cannot be known.

    Without a price the entry stands in for it.
    """
    entry, size, side = (
        values.price(row.entry_price),
        values.volume(row.volume),
        values.direction(row.direction),
    )
    if entry is None or size is None or side is None:
        return None
    with localcontext(values.EXACT):
        move = (entry if price is None else price) - entry
        amount = move * size * instrument.contract_size * (1 if side == "buy" else -1)
    return amount if abs(amount) < _LARGEST_PROFIT else None


def profit_pct(row: LogRow, price: Decimal | None) -> Decimal | None:
    """The move since entry in percent of the entry price's absolute value; None beyond any that means something."""
    entry, side = values.price(row.entry_price), values.direction(row.direction)
    if entry is None or side is None:
        return None
    with localcontext(values.EXACT):
        move = (entry if price is None else price) - entry
        pct = move * 100 * (1 if side == "buy" else -1) / abs(entry)
    return values.rounded(pct) if abs(pct) < _LARGEST_PROFIT else None


def position(ticket: Ticket, reference: Reference, currency: str | None) -> dict[str, Any]:
    """An open position as the wire shows it, absent fields None and money still decimal."""
    arrival = ticket.state
    assert arrival is not None
    row = arrival.change
    assert isinstance(row, LogRow)
    symbol = values.symbol(row.symbol)
    known = reference.find(symbol)
    # One lot of an unknown symbol is taken for one unit that pays in the account's currency.
    instrument = known or Instrument(symbol="", contract_size=Decimal(1), quote_currency=currency or "USD")
    amount = profit(row, ticket.price, instrument)
    worth, worth_in = reference.convert(amount or Decimal(0), instrument.quote_currency, currency)
    is_decorated = known is not None and symbol is not None and known.symbol != values.fold(symbol)
    return {
        "position_id": ticket.position_id,
        "symbol": symbol,
        **row.terms,
        "entry_time": values.iso(ticket.entry_time),
        "current_price": row.terms["entry_price"] if ticket.price is None else ticket.price,
        "unrealized_pnl": None if amount is None else values.rounded(worth),
        "unrealized_pnl_pct": profit_pct(row, ticket.price),
        "pnl_currency": worth_in,
        "contract_size_assumed": None if known else True,
        "instrument": known.symbol if known is not None and is_decorated else None,
        "last_updated_at": values.iso(arrival.updated_at),
        "unconfirmed_since": None
        if ticket.unconfirmed_since is None
        else values.iso(ticket.unconfirmed_since),
        "matched": None if row.match == 1 else row.match,
        "divergence_reason": None if row.match == 1 else row.terms["divergence_reason"],
    }


def total(shown: Iterable[dict[str, Any]], currency: str | None) -> Decimal | None:
    """The sum of what is shown in the account's ``currency``; None where one is unknown, assumed or not converted."""
    positions = list(shown)
    if any(
        each["unrealized_pnl"] is None or each["contract_size_assumed"] or each["pnl_currency"] != currency
        for each in positions
    ):
        return None
    return sum((each["unrealized_pnl"] for each in positions), Decimal(0))


def positions_channel(
    tickets: Iterable[Ticket],
    history: History,
    reference: Reference,
    currency: str | None,
    balance: Decimal | None,
) -> dict[str, Any]:
    """Channel ``positions`` of one user."""
    shown = {
        str(each.number): position(each, reference, currency) for each in tickets if each.state is not None
    }
    open_book = {ticket: each for ticket, each in shown.items() if each["matched"] is None}
    unmatched = {ticket: each for ticket, each in shown.items() if each["matched"] is not None}
    amount = total(open_book.values(), currency)
    updates = [
        arrival.updated_at
        for arrival in history
        if isinstance(arrival.change, LogRow) and arrival.change.bears_position
    ]
    percent = None
    if amount is not None and balance is not None and balance > 0:
        with localcontext(values.EXACT):
            percent = values.rounded(amount * 100 / balance)
    return {
        "total_positions": len(open_book),
        "open": open_book,
        "unmatched": unmatched or None,
        "total_unrealized_pnl": amount,
        "total_unrealized_pnl_pct": percent,
        "currency": currency,
        "last_updated_at": values.iso(max(updates)) if updates else None,
    }
