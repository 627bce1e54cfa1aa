"""The open book: each position as it is shown, and what they are worth together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, localcontext
from typing import Any

from realtime.audit import values
from realtime.audit.history import Arrival, FxRate, History, Instrument, LogRow
from realtime.audit.ticket import Ticket

_LARGEST_PROFIT = Decimal(10) ** 13


@dataclass(frozen=True)
class Reference:
    """Instruments by symbol, and the newest usable rate of each pair of currencies."""

    instruments: dict[str, Instrument]
    rates: dict[tuple[str, str], Decimal]

    @classmethod
    def of(cls, history: Iterable[Arrival], seeded: Iterable[Instrument]) -> Reference:
        instruments = {instrument.symbol: instrument for instrument in seeded}
        newest: dict[tuple[str, str], tuple[datetime, int]] = {}
        rates: dict[tuple[str, str], Decimal] = {}
        for arrival in history:
            change = arrival.change
            if isinstance(change, Instrument):
                instruments[change.symbol] = change
            if isinstance(change, FxRate) and (rate := values.number(change.rate)) is not None and rate > 0:
                pair = values.currency(change.base) or "", values.currency(change.quote) or ""
                if pair not in newest or arrival.recency > newest[pair]:
                    newest[pair], rates[pair] = arrival.recency, rate
        return cls(instruments, rates)

    def convert(self, amount: Decimal, quote: str, currency: str | None) -> tuple[Decimal, str]:
        """``amount`` in ``currency``; without a rate it stays in ``quote``, and the answer says so."""
        if currency is None or quote == currency:
            return amount, quote
        with localcontext(values.EXACT):
            if (quote, currency) in self.rates:
                return amount * self.rates[quote, currency], currency
            if (currency, quote) in self.rates:
                return amount / self.rates[currency, quote], currency
        return amount, quote


def profit(row: LogRow, instrument: Instrument) -> Decimal | None:
    """(current − entry) × volume × contract size, against it for a sell; None when it cannot be known."""
    entry, size, side = (
        values.number(row.entry_price),
        values.volume(row.volume),
        values.direction(row.direction),
    )
    if entry is None or size is None or side is None:
        return None
    current = values.number(row.current_price)
    with localcontext(values.EXACT):
        move = (entry if current is None else current) - entry
        amount = move * size * instrument.contract_size * (1 if side == "buy" else -1)
    return amount if abs(amount) < _LARGEST_PROFIT else None


def profit_pct(row: LogRow) -> Decimal | None:
    """The move since entry in percent of the entry price; None beyond any that means something."""
    entry, side = values.number(row.entry_price), values.direction(row.direction)
    if entry is None or entry <= 0 or side is None:
        return None
    current = values.number(row.current_price)
    with localcontext(values.EXACT):
        move = (entry if current is None else current) - entry
        pct = move * 100 * (1 if side == "buy" else -1) / entry
    return values.rounded(pct) if abs(pct) < _LARGEST_PROFIT else None


def position(ticket: Ticket, reference: Reference, currency: str | None) -> dict[str, Any]:
    """An open position as the wire shows it, absent fields None and money still decimal."""
    arrival = ticket.state
    assert arrival is not None
    row = arrival.change
    assert isinstance(row, LogRow)
    symbol = values.symbol(row.symbol)
    known = reference.instruments.get(values.folded(symbol or ""))
    # One lot of an unknown symbol is taken for one unit that pays in the account's currency.
    instrument = known or Instrument(symbol="", contract_size=Decimal(1), quote_currency=currency or "USD")
    amount = profit(row, instrument)
    worth, worth_in = reference.convert(amount or Decimal(0), instrument.quote_currency, currency)
    entry = values.number(row.entry_price)
    current = values.number(row.current_price)
    return {
        "position_id": ticket.position_id,
        "symbol": symbol,
        "direction": values.direction(row.direction),
        "volume": values.volume(row.volume),
        "entry_price": entry,
        "entry_time": values.iso(ticket.entry_time),
        "current_price": entry if current is None else current,
        "unrealized_pnl": None if amount is None else values.rounded(worth),
        "unrealized_pnl_pct": profit_pct(row),
        "pnl_currency": worth_in,
        "take_profit": values.number(row.take_profit),
        "stop_loss": values.number(row.stop_loss),
        "contract_size_assumed": None if known else True,
        "last_updated_at": values.iso(values.moment(row.updated_at) or arrival.time),
    }


def total(shown: Iterable[dict[str, Any]], currency: str | None) -> tuple[Decimal | None, str | None]:
    """The sum of what is shown, and its currency; no sum that mixes currencies or leaves one out."""
    positions = list(shown)
    if not positions:
        return Decimal(0), currency
    currencies = {each["pnl_currency"] for each in positions}
    if len(currencies) > 1 or any(each["unrealized_pnl"] is None for each in positions):
        return None, currency
    return sum((each["unrealized_pnl"] for each in positions), Decimal(0)), currencies.pop()


def positions_channel(
    tickets: Iterable[Ticket],
    history: History,
    reference: Reference,
    currency: str | None,
    balance: Decimal | None,
) -> dict[str, Any]:
    """Channel ``positions`` of one user."""
    open_book = {
        str(each.number): position(each, reference, currency)
        for each in tickets
        if each.state is not None and isinstance(each.state.change, LogRow) and each.state.change.match == 1
    }
    amount, amount_in = total(open_book.values(), currency)
    updates = [
        values.moment(arrival.change.updated_at) or arrival.time
        for arrival in history
        if isinstance(arrival.change, LogRow) and arrival.change.bears_position
    ]
    percent = None
    if amount is not None and balance is not None and balance > 0 and amount_in == currency:
        with localcontext(values.EXACT):
            percent = values.rounded(amount * 100 / balance)
    return {
        "total_positions": len(open_book),
        "open": open_book,
        "total_unrealized_pnl": amount,
        "total_unrealized_pnl_pct": percent,
        "currency": amount_in,
        "last_updated_at": values.iso(max(updates)) if updates else None,
    }
