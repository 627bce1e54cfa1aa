"""What happens to an account besides ordinary syncs, and when: closes, divergences, drawdowns. Pure."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Final, NamedTuple

from realtime.simulator.account import Account, Position
from realtime.simulator.guard_triggers import guard_trigger
from realtime.simulator.options import SimulatorOptions
from realtime.simulator.rows import InPlaceClose, LogRow
from realtime.simulator.squeeze import Squeeze

Written = LogRow | InPlaceClose


class Scripted(NamedTuple):
    """Something that happens ``second`` seconds after the start; an ``option`` of 0 forbids it."""

    second: float
    kind: str
    option: str


#: The first minutes of the first account: whoever opens the demo sees each kind of thing soon.
FIRST_MINUTES: Final = (
    Scripted(5, "amend", "closes"),
    Scripted(9, "spread", "guard_triggers"),
    Scripted(14, "divergence", "divergences"),
    Scripted(21, "close", "closes"),
    Scripted(28, "reduce", "closes"),
    Scripted(36, "gap", "guard_triggers"),
    Scripted(48, "failed_sync", "failed_syncs"),
    Scripted(58, "divergence", "divergences"),
    Scripted(70, "drawdown", "drawdowns"),
    Scripted(120, "liquidity", "guard_triggers"),
    Scripted(200, "crash", "drawdowns"),
)

#: Kinds that happen by chance, the option with their rate, and their share of it.
_BY_CHANCE: Final = (
    ("close", "closes", 0.6),
    ("reduce", "closes", 0.15),
    ("amend", "closes", 0.25),
    ("divergence", "divergences", 1.0),
    ("spread", "guard_triggers", 0.5),
    ("gap", "guard_triggers", 0.25),
    ("liquidity", "guard_triggers", 0.15),
    ("other", "guard_triggers", 0.1),
    ("failed_sync", "failed_syncs", 1.0),
    ("drawdown", "drawdowns", 0.7),
    ("crash", "drawdowns", 0.3),
)

_SQUEEZE_STEP_SECONDS: Final = 0.5


class _Entry(NamedTuple):
    """An entry of the diary; ``order`` is that of things due at one moment."""

    second: float
    order: int
    kind: str
    ticket: int = 0
    #: How often such a thing happens by chance; 0 for what happens once.
    per_second: float = 0.0


@dataclass(slots=True)
class Incidents:
    """The diary of one account; `run` returns the rows of everything that is due."""

    account: Account
    options: SimulatorOptions
    random: Random
    script: tuple[Scripted, ...] = ()
    _diary: list[_Entry] = field(default_factory=list)
    _count: int = 0
    _squeeze: Squeeze | None = None

    def __post_init__(self) -> None:
        for scripted in self.script:
            if getattr(self.options, scripted.option):
                self._plan(scripted.second, scripted.kind)
        quiet_until = self.script[-1].second if self.script else 0.0
        for kind, option, share in _BY_CHANCE:
            self._plan_by_chance(quiet_until, kind, getattr(self.options, option) * share / 3600)

    @property
    def due_seconds(self) -> float:
        """When the next thing happens, in market seconds; infinite when nothing will."""
        return self._diary[0].second if self._diary else float("inf")

    def run(self, elapsed_seconds: float, now: datetime) -> list[Written]:
        """The rows of all that was due at ``elapsed_seconds`` of market time."""
        rows: list[Written] = []
        while self.due_seconds <= elapsed_seconds:
            entry = heapq.heappop(self._diary)
            rows += self._happen(entry, elapsed_seconds, now)
            self._plan_by_chance(elapsed_seconds, entry.kind, entry.per_second)
        return rows

    def _plan(self, second: float, kind: str, ticket: int = 0, per_second: float = 0.0) -> None:
        self._count += 1
        heapq.heappush(self._diary, _Entry(second, self._count, kind, ticket, per_second))

    def _plan_by_chance(self, after_second: float, kind: str, per_second: float) -> None:
        if per_second:
            self._plan(after_second + self.random.expovariate(per_second), kind, per_second=per_second)

    def _happen(self, entry: _Entry, elapsed: float, now: datetime) -> list[Written]:
        match entry.kind:
            case "spread" | "gap" | "liquidity" | "other":
                return [guard_trigger(entry.kind, self.account, self.random, now)]
            case "open":
                return [self.account.open(now)]
            case "agree":
                return self._agree(entry.ticket, now)
            case "drawdown" | "crash":
                return self._begin_squeeze(entry.kind == "crash", elapsed, now)
            case "squeeze":
                return self._step_squeeze(elapsed, now)
        # Nobody touches a position whose price is under stress: its loss would be for good.
        candidates = [
            position
            for position in self.account.book
            if position.divergence is None and not self.account.stress.get(position.instrument.symbol)
        ]
        if not candidates:
            return []
        return self._happen_to(self.random.choice(candidates), entry.kind, elapsed, now)

    def _happen_to(self, position: Position, kind: str, elapsed: float, now: datetime) -> list[Written]:
        match kind:
            case "close":
                self._plan(elapsed + self.random.uniform(2, 6), "open")
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

    def _close(self, position: Position, now: datetime, reason: str | None = None) -> Written:
        if reason is None:
            usual = "take_profit" if self.account.profit(position) > 0 else "stop_loss"
            reason = self.random.choice((usual, "bot_signal", "manual"))
        if self.random.random() < self.options.updates_in_place:
            return self.account.close_in_place(position, now, reason)
        return self.account.close(position, now, reason)

    def _disagreement(self, position: Position) -> str:
        return self.random.choice(
            (
                f"volume differs: broker {position.volume:.2f}, bot {position.volume * 1.5:.2f}",
                "stop loss at the broker differs from the bot's",
                "position is unknown to the bot",
                "take profit is missing at the broker",
            )
        )

    def _agree(self, ticket: int, now: datetime) -> list[Written]:
        for position in self.account.book:
            if position.ticket == ticket:
                position.divergence = None
                return [self.account.sync(position, now)]
        return []

    def _begin_squeeze(self, crash: bool, elapsed: float, now: datetime) -> list[Written]:
        if self._squeeze is not None:
            return []
        depth_pct = self.random.uniform(20.8, 24) if crash else self.random.uniform(15.6, 18)
        self._squeeze, opened = Squeeze.begin(self.account, depth_pct, elapsed, now)
        self._plan(elapsed, "squeeze")
        return [opened]

    def _step_squeeze(self, elapsed: float, now: datetime) -> list[Written]:
        assert self._squeeze is not None
        if self._squeeze.advance(self.account, elapsed):
            self._plan(elapsed + _SQUEEZE_STEP_SECONDS, "squeeze")
            return []
        position, self._squeeze = self._squeeze.position, None
        # Whoever survives a squeeze takes the oversized position off.
        return [self._close(position, now, "risk_reduction")] if position in self.account.book else []
