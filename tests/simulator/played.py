"""Runs a simulated platform without a database and without waiting, and collects its rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from realtime.simulator import SimulatorOptions
from realtime.simulator.platform import STEP_SECONDS, SimulatedPlatform
from realtime.simulator.rows import EquityRow, InPlaceClose, LogRow

START: Final = datetime(2024, 5, 6, 12, 0, tzinfo=UTC)


class At(NamedTuple):
    """A row, and the second at which the platform commits it."""

    second: float
    row: LogRow


@dataclass
class Played:
    """All rows of a platform."""

    platform: SimulatedPlatform
    opening: list[LogRow] = field(default_factory=list)
    log: list[At] = field(default_factory=list)
    equity: list[EquityRow] = field(default_factory=list)
    closes: list[InPlaceClose] = field(default_factory=list)
    odd: list[LogRow] = field(default_factory=list)

    @property
    def first_account(self) -> list[At]:
        """The rows of the first account after the opening."""
        return [at for at in self.log if at.row.user_id == self.platform.accounts[0].user_id]


def play(options: SimulatorOptions, *, seconds: float) -> Played:
    """The rows of a platform that runs for ``seconds`` of its own time."""
    platform = SimulatedPlatform(options)
    played = Played(platform)
    for transaction in platform.opening(START):
        played.opening += transaction.log
        played.equity += transaction.equity
    for step in range(1, round(seconds / STEP_SECONDS) + 1):
        second = step * STEP_SECONDS
        for transaction in platform.step(START + timedelta(seconds=second)):
            played.log += [At(second, row) for row in transaction.log]
            played.equity += transaction.equity
            played.closes += transaction.closes
            played.odd += transaction.odd
    return played
