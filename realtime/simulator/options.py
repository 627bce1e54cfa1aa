"""The options of a simulated platform, and the report about its rows."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Final

from realtime.simulator.clock import PlatformClock

#: The demo has the same accounts on every machine, so that an old token fits a demo with new data.
_DEMO_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "guardwire:demo")


def demo_user_id(index: int = 0) -> uuid.UUID:
    """The id of demo user ``index`` (from 0); the same for ever."""
    return uuid.uuid5(_DEMO_NAMESPACE, f"user {index}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorOptions:
    """The size of the platform, and the rates of its events.

    ``divergences``, ``closes``, ``drawdowns``, ``guard_triggers`` and ``failed_syncs`` are events per hour and
    account. Shares are between 0 and 1.
    """

    users: int = 3
    #: The number of open positions that each account tends towards.
    positions: int = 8
    #: Rows of the log in one second, over all accounts; equity and exchange rates come on top.
    rows_per_second: float = 20.0
    divergences: float = 30.0
    closes: float = 60.0
    drawdowns: float = 6.0
    guard_triggers: float = 40.0
    failed_syncs: float = 20.0
    #: The same seed on the same database contents writes the same rows, ids and times apart.
    seed: int = 1
    #: The duration; None runs until the caller stops it.
    seconds: float | None = None
    #: Market seconds in one second of the clock: 60 makes an hour of trading pass in a minute.
    speed: float = 1.0
    #: Gives the first account two rows a second and eventful first minutes, at any rate of the others.
    featured: bool = True
    #: The interval of an account's equity rows. All accounts together write at most a quarter of `rows_per_second`.
    equity_seconds: float = 1.0
    fx_seconds: float = 5.0
    #: Connections that write at the same time, and rows in one of their transactions.
    writers: int = 1
    rows_per_commit: int = 50
    #: Share of transactions that stay open for up to `late_commit_seconds` before they commit.
    late_commits: float = 0.0
    late_commit_seconds: float = 2.0
    #: Share of closes written as an UPDATE of the position's last row in place of a row of their own.
    updates_in_place: float = 0.0
    #: Share of rows beside which a row is written that no platform should write.
    odd_rows: float = 0.0
    #: The clock that gives the rows their times.
    clock: PlatformClock = field(default_factory=PlatformClock)

    def __post_init__(self) -> None:
        problems = [
            f"{name} may not be negative"
            for name in ("positions", "divergences", "closes", "drawdowns", "guard_triggers", "failed_syncs")
            if getattr(self, name) < 0
        ]
        problems += [
            f"{name} must be more than 0"
            for name in ("users", "rows_per_second", "speed", "equity_seconds", "fx_seconds", "writers",
                         "rows_per_commit")
            if not getattr(self, name) > 0
        ]  # fmt: skip
        problems += [
            f"{name} must be between 0 and 1"
            for name in ("late_commits", "updates_in_place", "odd_rows")
            if not 0 <= getattr(self, name) <= 1
        ]
        if problems:
            raise ValueError("; ".join(problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorReport:
    """The rows that were written, and how well the rate was kept."""

    seconds: float
    #: Rows of the log that were inserted, the opening book included.
    log_rows: int
    #: Rows of the log that were inserted or updated at the asked-for rate.
    paced_rows: int
    equity_rows: int
    fx_rows: int
    updated_rows: int
    #: Rows that no platform should write, and that the table took.
    odd_rows: int
    #: Odd rows that the platform's own table refused.
    refused_rows: int
    commits: int
    #: The furthest that the platform was ever behind its schedule.
    worst_lag_seconds: float

    @property
    def rows_per_second(self) -> float:
        """Rows of the log in one second, the opening book left out."""
        return self.paced_rows / self.seconds if self.seconds else 0.0
