"""Rows whose time is earlier than that of a row before, and whether a clock that went back explains them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from realtime.audit import values
from realtime.audit.history import Arrival

#: A row that came later than this was imported: no clock explains it.
IMPORTED: Final = timedelta(hours=26)
#: Rows of one clock agree within this; a row that is late by less puts nothing in doubt.
STEADY: Final = timedelta(seconds=5)
_ROWS_OF_A_STEP: Final = 3


@dataclass
class Run:
    """Offsets of the last consecutive rows that were ignored as older."""

    offsets: list[timedelta] = field(default_factory=list)

    def add(self, arrival: Arrival) -> bool:
        """Add one more; whether the rows show that the clock went back."""
        offset = arrival.at - (values.moment(getattr(arrival.change, "created_at", None)) or arrival.at)
        if offset > IMPORTED:
            self.offsets.clear()
            return False
        self.offsets.append(offset)
        while max(self.offsets) - min(self.offsets) > STEADY:
            del self.offsets[0]
        return len(self.offsets) >= _ROWS_OF_A_STEP


@dataclass
class Series:
    """The rows of one source, such as those of one ticket, in the order of their arrival."""

    latest: datetime | None = None
    run: Run = field(default_factory=Run)

    def place(self, arrival: Arrival, stepped_at: datetime | None) -> Arrival:
        """The next arrival, with the time at which it counts."""
        placed = dated(arrival, stepped_at)
        if self.latest is None or placed.time >= self.latest:
            self.run.offsets.clear()
            return placed
        if not self.run.add(arrival):
            return replace(placed, is_older=True)
        self.run.offsets.clear()
        return replace(placed, counts_at=arrival.at, shows_step=True)


def dated(arrival: Arrival, stepped_at: datetime | None) -> Arrival:
    """The arrival with the time at which it counts."""
    created_at = values.moment(getattr(arrival.change, "created_at", None)) or arrival.at
    is_behind = stepped_at is not None and arrival.at >= stepped_at and arrival.at - created_at <= IMPORTED
    return replace(arrival, counts_at=arrival.at if is_behind else min(created_at, arrival.at))
