"""Events of an account beside its ordinary syncs, and their times: closes, wide spreads, drawdowns. Pure."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Final, NamedTuple, Self
from uuid import UUID

from realtime.simulator.account import SimulatedAccount, SimulatedPosition
from realtime.simulator.market import INSTRUMENTS, WATCHED, Instrument, quoted
from realtime.simulator.options import SimulatorOptions
from realtime.simulator.rows import InPlaceClose, LogRow, PeakReset, new_id

LogWrite = LogRow | InPlaceClose | PeakReset


class Scripted(NamedTuple):
    """An event ``second`` seconds after the start, which an ``option`` of 0 forbids."""

    second: float
    kind: str
    option: str


#: The first minutes of the first account, so that a visitor of the demo soon sees each kind of event.
FIRST_MINUTES: Final = (
    Scripted(5, "amend", "closes"),
    Scripted(9, "spread", "guard_triggers"),
    Scripted(14, "divergence", "divergences"),
    Scripted(18, "widen", "guard_triggers"),
    Scripted(21, "close", "closes"),
    Scripted(28, "reduce", "closes"),
    Scripted(36, "gap", "guard_triggers"),
    Scripted(48, "failed_sync", "failed_syncs"),
    Scripted(58, "divergence", "divergences"),
    Scripted(70, "drawdown", "drawdowns"),
    Scripted(120, "liquidity", "guard_triggers"),
    Scripted(200, "crash", "drawdowns"),
)

#: Kinds of random events, the option with their rate, and their share of this rate.
_BY_CHANCE: Final = (
    ("close", "closes", 0.6),
    ("reduce", "closes", 0.15),
    ("amend", "closes", 0.25),
    ("divergence", "divergences", 1.0),
    ("spread", "guard_triggers", 0.4),
    ("widen", "guard_triggers", 0.1),
    ("gap", "guard_triggers", 0.25),
    ("liquidity", "guard_triggers", 0.15),
    ("other", "guard_triggers", 0.1),
    ("failed_sync", "failed_syncs", 1.0),
    ("drawdown", "drawdowns", 0.7),
    ("crash", "drawdowns", 0.3),
)

#: Size of a gap or a spread in percent of the price, from and to. These are warnings.
_GAP_PCT: Final = (5.2, 9.5)
_SPREAD_PCT: Final = (0.52, 0.95)
#: A spread that is critical. It ends when nothing is held in its symbol, or by itself.
_WIDE_PCT: Final = 1.6
_USUAL_PCT: Final = 0.02
_WIDE_SECONDS: Final = 25.0
_LEAST_WIDE_SECONDS: Final = 3.0
_WIDE_STEP_SECONDS: Final = 0.5
#: From the end of a wide spread to the next one, in an account whose first minutes have a script.
_NEXT_WIDE_SECONDS: Final = 30.0

_FALL_SECONDS: Final = 22.0
_HOLD_SECONDS: Final = 9.0
_RECOVER_SECONDS: Final = 28.0
#: The largest move of the price, as a fraction. It is quick, but real markets have such days.
_WORST_MOVE: Final = 0.018
_SQUEEZE_STEP_SECONDS: Final = 0.5
#: From the last close of an account that its bot closed to its new beginning.
_RENEWAL_SECONDS: Final = 8.0
_REOPENING_SECONDS: Final = (2.0, 6.0)


@dataclass(slots=True)
class Squeeze:
    """An oversized position that turns against the account: equity falls through a limit and recovers."""

    position: SimulatedPosition
    begun: float
    worst: float

    @classmethod
    def begin(
        cls, account: SimulatedAccount, depth_pct: float, elapsed: float, now: datetime
    ) -> tuple[Self, LogRow]:
        """Open so much gold that its worst price takes equity ``depth_pct`` below the peak; with the row for it."""
        gold = INSTRUMENTS[0]
        loss = max(account.equity() - account.peak * (1 - depth_pct / 100), 1.0)
        others = sum(
            position.volume * (1 if position.buy else -1)
            for position in account.book
            if position.instrument is gold
        )
        lot = account.market.worth(
            account.market.prices[gold.symbol] * _WORST_MOVE * gold.contract_size,
            gold.quote_currency,
            account.currency,
        )
        account.open(now, instrument=gold)
        position = account.book[-1]
        # Gold that the account holds on the other side earns while this position loses.
        other = others if position.buy else -others
        position.volume = max(0.01, round(loss / lot - other, 2))
        return cls(position, elapsed, -_WORST_MOVE if position.buy else _WORST_MOVE), account.sync(
            position, now
        )

    def advance(self, account: SimulatedAccount, elapsed: float) -> bool:
        """Set the stress for this moment; False once the squeeze is over."""
        second = elapsed - self.begun
        if second < _FALL_SECONDS:
            share = _ease(second / _FALL_SECONDS)
        elif second < _FALL_SECONDS + _HOLD_SECONDS:
            share = 1.0
        else:
            share = 1 - _ease((second - _FALL_SECONDS - _HOLD_SECONDS) / _RECOVER_SECONDS)
        account.stress[self.position.instrument.symbol] = self.worst * max(share, 0.0)
        return second < _FALL_SECONDS + _HOLD_SECONDS + _RECOVER_SECONDS


def _ease(share: float) -> float:
    """Map 0…1 to 0…1, with a slow start and a slow end."""
    share = min(max(share, 0.0), 1.0)
    return share * share * (3 - 2 * share)


class WideSpread(NamedTuple):
    """A critical spread in a symbol that the account holds, and its first second."""

    instrument: Instrument
    begun: float


class _Entry(NamedTuple):
    """An entry of the diary; ``order`` decides between entries of the same time."""

    second: float
    order: int
    kind: str
    ticket: int = 0
    #: The rate of random events of this kind; 0 for an event that happens once.
    per_second: float = 0.0


@dataclass(slots=True)
class Incidents:
    """The planned events of one account; `run` returns the rows of all events that are due."""

    account: SimulatedAccount
    options: SimulatorOptions
    random: Random
    script: tuple[Scripted, ...] = ()
    _diary: list[_Entry] = field(default_factory=list)
    _count: int = 0
    _squeeze: Squeeze | None = None
    _wide: WideSpread | None = None

    def __post_init__(self) -> None:
        for scripted in self.script:
            if getattr(self.options, scripted.option):
                self._plan(scripted.second, scripted.kind)
        quiet_until = self.script[-1].second if self.script else 0.0
        for kind, option, share in _BY_CHANCE:
            self._plan_by_chance(quiet_until, kind, getattr(self.options, option) * share / 3600)

    @property
    def due_seconds(self) -> float:
        """The time of the next event in market seconds; infinite when there is none."""
        return self._diary[0].second if self._diary else float("inf")

    def run(self, elapsed_seconds: float, now: datetime) -> list[LogWrite]:
        """The rows of all events that are due at ``elapsed_seconds`` of market time."""
        rows: list[LogWrite] = []
        while self.due_seconds <= elapsed_seconds:
            entry = heapq.heappop(self._diary)
            rows += self._happen(entry, elapsed_seconds, now)
            self._plan_by_chance(elapsed_seconds, entry.kind, entry.per_second)
        return rows

    def widen_spread(self, elapsed_seconds: float) -> None:
        """Plan a wide spread for now."""
        self._plan(elapsed_seconds, "widen")

    def obey(self, ticket: int, elapsed_seconds: float, now: datetime) -> list[LogWrite]:
        """Close a position because a bot ordered it; [] when it is not open."""
        for position in self.account.book:
            if position.ticket == ticket:
                closed = self.account.close(position, now, "bot")
                if not self.account.book:
                    self._plan(elapsed_seconds + _RENEWAL_SECONDS, "renew")
                return [closed]
        return []

    def _plan(self, second: float, kind: str, ticket: int = 0, per_second: float = 0.0) -> None:
        self._count += 1
        heapq.heappush(self._diary, _Entry(second, self._count, kind, ticket, per_second))

    def _plan_by_chance(self, after_second: float, kind: str, per_second: float) -> None:
        if per_second:
            self._plan(after_second + self.random.expovariate(per_second), kind, per_second=per_second)

    def _happen(self, entry: _Entry, elapsed: float, now: datetime) -> list[LogWrite]:
        match entry.kind:
            case "spread" | "gap" | "liquidity" | "other":
                return [guard_trigger(entry.kind, self.account, self.random, now)]
            case "open":
                return [self.account.open(now)]
            case "widen":
                return self._widen(elapsed, now)
            case "calm":
                return self._calm(elapsed, now)
            case "renew":
                return self._renew(elapsed, now)
            case "agree":
                return self._agree(entry.ticket, now)
            case "drawdown" | "crash":
                return self._begin_squeeze(entry.kind == "crash", elapsed, now)
            case "squeeze":
                return self._step_squeeze(elapsed, now)
        # A position whose price is under stress stays open, because a close would realise the loss.
        candidates = [
            position
            for position in self.account.book
            if position.divergence is None and not self.account.stress.get(position.instrument.symbol)
        ]
        if not candidates:
            return []
        return self._happen_to(self.random.choice(candidates), entry.kind, elapsed, now)

    def _happen_to(
        self, position: SimulatedPosition, kind: str, elapsed: float, now: datetime
    ) -> list[LogWrite]:
        match kind:
            case "close":
                self._plan(elapsed + self.random.uniform(*_REOPENING_SECONDS), "open")
                return [self._close(position, now)]
            case "reduce":
                reduced = self.account.reduce(position, now)
                return [reduced] if reduced else []
            case "amend":
                return [self.account.amend(position, now)]
            case "failed_sync":
                return [self.account.failed_sync(position, now)]
            case "divergence":
                position.divergence = self._disagreement(position)
                self._plan(elapsed + self.random.uniform(18, 40), "agree", position.ticket)
                return [self.account.sync(position, now)]
        raise AssertionError(kind)

    def _close(self, position: SimulatedPosition, now: datetime, reason: str | None = None) -> LogWrite:
        if reason is None:
            usual = "take_profit" if self.account.profit(position) > 0 else "stop_loss"
            reason = self.random.choice((usual, "bot_signal", "manual"))
        if self.random.random() < self.options.updates_in_place:
            return self.account.close_in_place(position, now, reason)
        return self.account.close(position, now, reason)

    def _disagreement(self, position: SimulatedPosition) -> str:
        return self.random.choice(
            (
                f"volume differs: broker {position.volume:.2f}, bot {position.volume * 1.5:.2f}",
                "stop loss at the broker differs from the bot's",
                "position is unknown to the bot",
                "take profit is missing at the broker",
            )
        )

    def _agree(self, ticket: int, now: datetime) -> list[LogWrite]:
        for position in self.account.book:
            if position.ticket == ticket:
                position.divergence = None
                return [self.account.sync(position, now)]
        return []

    def _widen(self, elapsed: float, now: datetime) -> list[LogWrite]:
        # A squeeze opens gold, which would be closed at once again.
        held = [
            position.instrument for position in self.account.book if position.instrument != INSTRUMENTS[0]
        ]
        if self._wide is not None or not held:
            return []
        instrument = self.random.choice(held)
        self._wide = WideSpread(instrument, elapsed)
        self.account.shunned = instrument.symbol
        self._plan(elapsed + _WIDE_STEP_SECONDS, "calm")
        return [self._spread_row(instrument, _WIDE_PCT, now)]

    def _calm(self, elapsed: float, now: datetime) -> list[LogWrite]:
        assert self._wide is not None
        instrument, begun = self._wide
        is_held = any(position.instrument is instrument for position in self.account.book)
        if elapsed - begun < (_WIDE_SECONDS if is_held else _LEAST_WIDE_SECONDS):
            self._plan(elapsed + _WIDE_STEP_SECONDS, "calm")
            return []
        self._wide = self.account.shunned = None
        if self.account.book:
            self._reopen(elapsed)
        if self.script:
            self._plan(elapsed + _NEXT_WIDE_SECONDS, "widen")
        return [self._spread_row(instrument, _USUAL_PCT, now)]

    def _spread_row(self, instrument: Instrument, percent: float, now: datetime) -> LogRow:
        price = self.account.market.prices[instrument.symbol]
        return spread_row(self.account.user_id, instrument.symbol, price, instrument.digits, percent, now)

    def _renew(self, elapsed: float, now: datetime) -> list[LogWrite]:
        self._reopen(elapsed)
        return [self.account.renew(now)]

    def _reopen(self, elapsed: float) -> None:
        """Plan new positions in place of those that the bot closed."""
        planned = sum(entry.kind == "open" for entry in self._diary)
        for _ in range(self.options.positions - len(self.account.book) - planned):
            self._plan(elapsed + self.random.uniform(*_REOPENING_SECONDS), "open")

    def _begin_squeeze(self, crash: bool, elapsed: float, now: datetime) -> list[LogWrite]:
        if self._squeeze is not None or not self.account.book:
            return []
        depth_pct = self.random.uniform(20.8, 24) if crash else self.random.uniform(15.6, 18)
        self._squeeze, opened = Squeeze.begin(self.account, depth_pct, elapsed, now)
        self._plan(elapsed, "squeeze")
        return [opened]

    def _step_squeeze(self, elapsed: float, now: datetime) -> list[LogWrite]:
        assert self._squeeze is not None
        position = self._squeeze.position
        if position in self.account.book and self._squeeze.advance(self.account, elapsed):
            self._plan(elapsed + _SQUEEZE_STEP_SECONDS, "squeeze")
            return []
        self._squeeze = None
        self.account.stress.clear()
        # An account that survived the squeeze closes the oversized position.
        return [self._close(position, now, "risk_reduction")] if position in self.account.book else []


def guard_trigger(kind: str, account: SimulatedAccount, random: Random, now: datetime) -> LogRow:
    """A guard trigger of ``kind`` (``gap``, ``spread``, ``liquidity``, ``other``) on a symbol of the market.

    A gap is recorded as close (``entry_price``) and next open (``current_price``).
    """
    symbol, price, digits = _symbol(account, random, held=kind in ("liquidity", "other"))
    row = _trigger_row(account.user_id, symbol, now)
    if kind == "spread":
        percent = random.triangular(*_SPREAD_PCT, _SPREAD_PCT[0])
        return spread_row(account.user_id, symbol, price, digits, percent, now)
    if kind == "gap":
        percent = random.triangular(*_GAP_PCT, _GAP_PCT[0]) * random.choice((1, -1))
        before, after = quoted(price, digits), quoted(price * (1 + percent / 100), digits)
        reason = f"price gap of {abs(percent):.1f} % at the open"
        return row._replace(entry_price=before, current_price=after, divergence_reason=reason)
    if kind == "liquidity":
        return row._replace(divergence_reason="liquidity thin: less than 10 lots within 5 points")
    return row._replace(divergence_reason="quotes frozen for 20 s")


def spread_row(
    user_id: UUID, symbol: str, price: float, digits: int, percent: float, now: datetime
) -> LogRow:
    """The guard trigger of a spread, which is recorded as bid (``entry_price``) and ask (``current_price``)."""
    return _trigger_row(user_id, symbol, now)._replace(
        entry_price=quoted(price, digits),
        current_price=quoted(price * (1 + percent / 100), digits),
        divergence_reason=f"bid-ask spread is {percent:.2f} %",
    )


def _trigger_row(user_id: UUID, symbol: str, now: datetime) -> LogRow:
    return LogRow(
        id=new_id(),
        user_id=user_id,
        symbol=symbol,
        event_type="guard_trigger",
        status="success",
        matched=0,
        created_at=now,
        updated_at=now,
    )


def _symbol(account: SimulatedAccount, random: Random, *, held: bool) -> tuple[str, float, int]:
    """A symbol with its price and digits. A symbol of an open position is taken with ``held`` alone, because a
    reported gap in its price would contradict the account's own prices.
    """
    if held and account.book:
        instrument = random.choice(account.book).instrument
        return instrument.symbol, account.market.prices[instrument.symbol], instrument.digits
    traded = {position.instrument.symbol for position in account.book}
    free = [(each.symbol, account.market.prices[each.symbol], each.digits) for each in INSTRUMENTS]
    return random.choice([*WATCHED, *(each for each in free if each[0] not in traded)])
