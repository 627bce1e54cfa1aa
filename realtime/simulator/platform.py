"""The whole platform: the rows that it commits in each step. Pure, and equal for an equal seed."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Final, NamedTuple
from uuid import UUID

from realtime.simulator.account import SimulatedAccount
from realtime.simulator.incidents import FIRST_MINUTES, Incidents, LogWrite
from realtime.simulator.market import Market
from realtime.simulator.options import SimulatorOptions, demo_user_id
from realtime.simulator.orders import Orders
from realtime.simulator.rows import (
    EquityRow,
    FxRow,
    InPlaceClose,
    LogRow,
    PeakReset,
    Transaction,
    odd_row,
)

STEP_SECONDS: Final = 0.05
_CURRENCIES: Final = ("GBP", "USD")
_BALANCES: Final = (25_000.0, 50_000.0, 12_000.0, 100_000.0)
_FEATURED_SECONDS: Final = 0.45
_ENTRY_AGE: Final = 0.0015
_FIRST_TICKET: Final = 1_000_000


class Past(NamedTuple):
    """The state of an account in the database after an earlier run."""

    last_ticket: int = 0
    equity: float | None = None
    currency: str | None = None
    peak: float = 0.0


@dataclass(slots=True)
class SimulatedPlatform:
    """Accounts on one market; `opening` comes first, then `step` every `STEP_SECONDS`."""

    options: SimulatorOptions
    past: Mapping[UUID, Past] = field(default_factory=dict)
    orders: Orders = field(default_factory=Orders)
    market: Market = field(init=False)
    accounts: list[SimulatedAccount] = field(init=False)
    _random: Random = field(init=False)
    _diaries: list[Incidents] = field(init=False)
    _due: list[tuple[float, int]] = field(init=False)
    _outbox: deque[LogWrite] = field(init=False)
    _turns: Iterator[SimulatedAccount] = field(init=False)
    _last_ticket: int = field(init=False)
    _steps: int = 0
    _paced: int = 0
    _equity_credit: float = 0.0
    _featured_at: float = 0.0
    _equity_turn: int = 0

    def __post_init__(self) -> None:
        last_ticket = max((past.last_ticket for past in self.past.values()), default=0)
        # The last ticket is part of the seed, so a demo that is started again continues with other events.
        self._random = Random(f"{self.options.seed} after {last_ticket}")  # noqa: S311 a game of chance, no secret
        self.market = Market(self._random)
        self._last_ticket = max(_FIRST_TICKET, last_ticket)
        self.accounts = [self._account(index) for index in range(self.options.users)]
        self._diaries = [
            Incidents(account, self.options, self._random, FIRST_MINUTES if self._features(index) else ())
            for index, account in enumerate(self.accounts)
        ]
        self._due = [(diary.due_seconds, index) for index, diary in enumerate(self._diaries)]
        heapq.heapify(self._due)
        self._outbox = deque()
        self._turns = self._round_robin()

    def opening(self, now: datetime) -> list[Transaction]:
        """The exchange rates, the open positions and the money at the start."""
        transactions = [Transaction(fx=self._fx(now))]
        for account in self.accounts:
            rows = [account.open(now, age=_ENTRY_AGE) for _ in range(self.options.positions)]
            transactions.append(Transaction(log=rows, equity=[account.equity_row(now)]))
        return _merged(transactions, self.options.rows_per_commit)

    def step(self, now: datetime) -> list[Transaction]:
        """The transactions of the next `STEP_SECONDS`, each of up to ``rows_per_commit`` rows."""
        self._steps += 1
        elapsed = self._steps * STEP_SECONDS
        self.market.advance(STEP_SECONDS * self.options.speed)
        self._obey(elapsed * self.options.speed, now)
        self._run_diaries(elapsed * self.options.speed, now)
        written: list[LogWrite] = []
        budget = int(elapsed * self.options.rows_per_second) - self._paced
        while len(written) < budget and (row := self._next(elapsed, now)) is not None:
            written.append(row)
        self._paced += len(written)
        size = self.options.rows_per_commit
        groups = [
            self._transaction(written[start : start + size], now) for start in range(0, len(written), size)
        ]
        money = Transaction(equity=self._equity(now), fx=self._fx(now) if self._fx_is_due() else [])
        return [*groups, money] if money else groups

    def _features(self, index: int) -> bool:
        return index == 0 and self.options.featured

    def _next_ticket(self) -> int:
        # Brokers number the orders of all their clients, so one account's tickets have gaps.
        self._last_ticket += self._random.randrange(1, 60)
        return self._last_ticket

    def _account(self, index: int) -> SimulatedAccount:
        user_id = demo_user_id(index)
        past = self.past.get(user_id, Past())
        return SimulatedAccount(
            user_id=user_id,
            currency=past.currency if past.currency in _CURRENCIES else _CURRENCIES[index % len(_CURRENCIES)],
            balance=past.equity or _BALANCES[index % len(_BALANCES)],
            random=self._random,
            market=self.market,
            next_ticket=self._next_ticket,
            peak=past.peak,
        )

    def _round_robin(self) -> Iterator[SimulatedAccount]:
        """The account of each row in turn: a reconciliation visits account after account, some positions at a time."""
        while True:
            for account in self.accounts:
                for _ in range(self._random.randint(1, 3)):
                    yield account

    def _obey(self, market_seconds: float, now: datetime) -> None:
        """Carry out the orders that wait; what they plan is done by `_run_diaries`."""
        closes, widens = self.orders.take_closes(), self.orders.take_widening()
        if widens:
            self._diaries[0].widen_spread(market_seconds)
        for order in closes:
            for diary in self._diaries:
                if diary.account.user_id == order.user_id:
                    self._outbox.extend(diary.obey(order.ticket, market_seconds, now))
        if closes or widens:
            self._due = [(diary.due_seconds, index) for index, diary in enumerate(self._diaries)]
            heapq.heapify(self._due)

    def _run_diaries(self, market_seconds: float, now: datetime) -> None:
        while self._due[0][0] <= market_seconds:
            diary = self._diaries[self._due[0][1]]
            self._outbox.extend(diary.run(market_seconds, now))
            heapq.heapreplace(self._due, (diary.due_seconds, self._due[0][1]))

    def _next(self, elapsed: float, now: datetime) -> LogWrite | None:
        if self._outbox:
            return self._outbox.popleft()
        if self._features(0) and elapsed - self._featured_at >= _FEATURED_SECONDS:
            self._featured_at = elapsed
            return self.accounts[0].next_sync(now)
        for _ in range(3 * len(self.accounts)):
            row = next(self._turns).next_sync(now)
            if row is not None:
                return row
        return None

    def _transaction(self, written: Sequence[LogWrite], now: datetime) -> Transaction:
        odd = [
            odd_row(self._random, row.user_id, row.mt5_position_id, now)
            for row in written
            if isinstance(row, LogRow) and self._random.random() < self.options.odd_rows
        ]
        return Transaction(
            log=[row for row in written if isinstance(row, LogRow)],
            closes=[row for row in written if isinstance(row, InPlaceClose)],
            peaks=[row for row in written if isinstance(row, PeakReset)],
            odd=odd,
        )

    def _equity(self, now: datetime) -> list[EquityRow]:
        """Equity rows that are due: all accounts in turn, the featured one as often as asked for."""
        options = self.options
        per_second = min(len(self.accounts) / options.equity_seconds, max(options.rows_per_second / 4, 1.0))
        self._equity_credit += per_second * STEP_SECONDS
        rows = []
        while self._equity_credit >= 1:
            self._equity_credit -= 1
            self._equity_turn += 1
            rows.append(self.accounts[self._equity_turn % len(self.accounts)].equity_row(now))
        return rows

    def _fx_is_due(self) -> bool:
        return self._steps % max(1, round(self.options.fx_seconds / STEP_SECONDS)) == 0

    def _fx(self, now: datetime) -> list[FxRow]:
        return [FxRow(base, quote, rate, now) for base, quote, rate in self.market.fx_rates()]


def _merged(transactions: list[Transaction], rows_per_commit: int) -> list[Transaction]:
    """The same rows in fewer transactions, each of at most ``rows_per_commit`` log rows if it was not larger before."""
    merged: list[Transaction] = []
    for transaction in transactions:
        if merged and len(merged[-1].log) + len(transaction.log) <= rows_per_commit:
            merged[-1].log += transaction.log
            merged[-1].equity += transaction.equity
            merged[-1].fx += transaction.fx
        else:
            merged.append(transaction)
    return merged
