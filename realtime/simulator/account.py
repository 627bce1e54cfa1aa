"""One trading account: its open positions, its money, and the rows that record both. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Final
from uuid import UUID

from realtime.simulator.market import INSTRUMENTS, Instrument, Market, quoted
from realtime.simulator.rows import EquityRow, InPlaceClose, LogRow, PeakReset, new_id

#: An account opens positions in these symbols first, in this order.
_FAVOURITES: Final = INSTRUMENTS[:5]


@dataclass(slots=True)
class SimulatedPosition:
    """An open position; volumes are in lots, prices in the instrument's quote currency."""

    ticket: int
    instrument: Instrument
    buy: bool
    volume: float
    entry_price: float
    take_profit: float
    stop_loss: float
    signal_id: UUID
    approval_id: UUID
    last_row_id: UUID
    last_created_at: datetime
    #: The present disagreement between the bot and the broker; None while they agree.
    divergence: str | None = None


@dataclass(slots=True)
class SimulatedAccount:
    """The open positions and the money of one user; each method that changes them returns the row for the log."""

    user_id: UUID
    currency: str
    balance: float
    random: Random
    market: Market
    next_ticket: Callable[[], int]
    peak: float = 0.0
    book: list[SimulatedPosition] = field(default_factory=list)
    #: How far this account's quotes stand from the market's, as a fraction, while its broker is under stress.
    stress: dict[str, float] = field(default_factory=dict)
    #: A symbol that the account opens no position in, because its spread is too wide.
    shunned: str | None = None
    #: Money that the next equity row pays in.
    deposit: float = 0.0
    _turn: int = 0

    def price(self, position: SimulatedPosition) -> float:
        """The price at which ``position`` could be closed now."""
        symbol = position.instrument.symbol
        return round(
            self.market.prices[symbol] * (1 + self.stress.get(symbol, 0.0)), position.instrument.digits
        )

    def profit(self, position: SimulatedPosition, currency: str | None = None) -> float:
        """Floating profit in the account's currency, or in ``currency``."""
        size = position.volume * position.instrument.contract_size
        move = self.price(position) - position.entry_price
        amount = (move if position.buy else -move) * size
        return self.market.worth(amount, position.instrument.quote_currency, currency or self.currency)

    def equity(self) -> float:
        """The balance plus all floating profit."""
        return self.balance + sum(self.profit(position) for position in self.book)

    def open(
        self,
        now: datetime,
        *,
        instrument: Instrument | None = None,
        volume: float | None = None,
        age: float = 0.0,
    ) -> LogRow:
        """Open a position, mostly on the side to which prices return, as a profitable strategy would.

        ``age`` is the usual move of the price since the entry, as a fraction; 0 enters at the present price.
        """
        random = self.random
        if instrument is None:
            held = {position.instrument.symbol for position in self.book}
            missing = [each for each in _FAVOURITES if each.symbol not in {*held, self.shunned}]
            instrument = (
                missing[0]
                if missing
                else random.choice([each for each in INSTRUMENTS if each.symbol != self.shunned])
            )
        price = self.market.prices[instrument.symbol]
        buy = random.random() < (0.65 if price < instrument.price else 0.35)
        spread = instrument.volatility * 2 * price
        entry = (price + (spread if buy else -spread)) * (1 + random.gauss(0, age))
        reach = price * instrument.volatility * random.uniform(60, 160) * (1 if buy else -1)
        position = SimulatedPosition(
            ticket=self.next_ticket(),
            instrument=instrument,
            buy=buy,
            volume=volume or random.choice(instrument.volumes),
            entry_price=round(entry, instrument.digits),
            take_profit=round(price + 2 * reach, instrument.digits),
            stop_loss=round(price - reach, instrument.digits),
            signal_id=new_id(),
            approval_id=new_id(),
            last_row_id=self.user_id,  # replaced when the first row is written
            last_created_at=now - timedelta(seconds=1),
        )
        self.book.append(position)
        return self.sync(position, now)._replace(slippage_pips=Decimal(f"{abs(random.gauss(0, 0.4)):.1f}"))

    def sync(self, position: SimulatedPosition, now: datetime) -> LogRow:
        """The row of one reconciliation of ``position``."""
        if position.divergence is None:
            return self._row(position, now)
        return self._row(position, now)._replace(
            event_type="divergence", matched=2, divergence_reason=position.divergence
        )

    def next_sync(self, now: datetime) -> LogRow | None:
        """The sync of the next position in turn; None without any position."""
        if not self.book:
            return None
        self._turn += 1
        return self.sync(self.book[self._turn % len(self.book)], now)

    def failed_sync(self, position: SimulatedPosition, now: datetime) -> LogRow:
        """The row of a reconciliation without an answer from the terminal."""
        return self._row(position, now)._replace(
            status="failed", current_price=None, error_message="MT5 terminal did not answer within 5 s"
        )

    def close(self, position: SimulatedPosition, now: datetime, reason: str) -> LogRow:
        """Close ``position`` at the price now and take its profit into the balance."""
        row = self._row(position, now)
        self._settle(position, 1.0)
        self.book.remove(position)
        return row._replace(event_type="close", close_reason=reason, closed_price=row.current_price)

    def close_in_place(self, position: SimulatedPosition, now: datetime, reason: str) -> InPlaceClose:
        """Close ``position`` by an update of its last row."""
        row_id = position.last_row_id
        row = self.close(position, now, reason)
        assert row.closed_price is not None
        assert row.pnl_gbp is not None
        return InPlaceClose(row_id, reason, row.closed_price, row.pnl_gbp, now)

    def reduce(self, position: SimulatedPosition, now: datetime) -> LogRow | None:
        """Close half of ``position``; None when its volume is the smallest."""
        half = round(position.volume / 2, 2)
        if half < 0.01 or half >= position.volume:
            return None
        self._settle(position, 1 - half / position.volume)
        position.volume = half
        return self.sync(position, now)

    def amend(self, position: SimulatedPosition, now: datetime) -> LogRow:
        """Move the stop towards the price, as a trailing stop does."""
        towards = position.stop_loss + (self.price(position) - position.stop_loss) * 0.3
        position.stop_loss = round(towards, position.instrument.digits)
        return self.sync(position, now)

    def renew(self, now: datetime) -> PeakReset:
        """Pay in the loss since the peak, and begin a new peak."""
        equity = self.equity()
        self.deposit, self.peak = max(self.peak - equity, 0.0), equity
        return PeakReset(self.user_id, now)

    def equity_row(self, now: datetime) -> EquityRow:
        """The account's money now, after any `deposit`."""
        cash_flow, self.deposit = self.deposit, 0.0
        self.balance += cash_flow
        self.peak += cash_flow
        equity = self.equity()
        self.peak = max(self.peak, equity)
        return EquityRow(
            self.user_id, quoted(equity, 2), quoted(self.balance, 2), self.currency, quoted(cash_flow, 2), now
        )

    def _settle(self, position: SimulatedPosition, share: float) -> None:
        self.balance += round(self.profit(position) * share, 2)

    def _row(self, position: SimulatedPosition, now: datetime) -> LogRow:
        instrument = position.instrument
        created_at = max(
            now - timedelta(microseconds=self.random.randrange(18_000, 140_000)),
            position.last_created_at + timedelta(microseconds=1),
        )
        price = self.price(position)
        percent = (price / position.entry_price - 1) * (100 if position.buy else -100)
        position.last_created_at = created_at
        position.last_row_id = new_id()
        return LogRow(
            id=position.last_row_id,
            user_id=self.user_id,
            signal_id=position.signal_id,
            approval_id=position.approval_id,
            mt5_position_id=position.ticket,
            symbol=instrument.symbol,
            direction="buy" if position.buy else "sell",
            volume=quoted(position.volume, 2),
            entry_price=quoted(position.entry_price, instrument.digits),
            current_price=quoted(price, instrument.digits),
            take_profit=quoted(position.take_profit, instrument.digits),
            stop_loss=quoted(position.stop_loss, instrument.digits),
            matched=1,
            pnl_gbp=quoted(self.profit(position, "GBP"), 2),
            pnl_percent=quoted(percent, 2),
            created_at=created_at,
            updated_at=now,
        )
