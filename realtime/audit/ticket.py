"""Tickets: whether one is open, and which row is its state.

A close closes whenever it arrives. An open row is the ticket's state only if it is later than every close,
both by its time and by its arrival; among those the latest counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from realtime.audit.history import Arrival, LogRow


@dataclass
class Ticket:
    """State of one ticket after its rows in the order of their arrival; ``state`` is None when it is closed."""

    number: int
    position_id: str
    entry_time: datetime
    state: Arrival | None = None
    closed_at: datetime | None = None

    def take(self, arrival: Arrival, row: LogRow) -> None:
        """Apply one more row, which arrived after all others."""
        self.entry_time = min(self.entry_time, arrival.time)
        if row.closes:
            self.closed_at = max(self.closed_at or arrival.time, arrival.time)
            self.state = None
        elif (self.closed_at is None or arrival.time > self.closed_at) and (
            self.state is None or arrival.recency > self.state.recency
        ):
            self.state = arrival


class Tickets:
    """Every ticket of one user that a row said something about, by its number."""

    def __init__(self, arrivals: Iterable[Arrival] = ()) -> None:
        self._found: dict[int, Ticket] = {}
        for arrival in arrivals:
            self.take(arrival)

    def take(self, arrival: Arrival) -> None:
        """Apply one more arrival of this user."""
        row = arrival.change
        if not isinstance(row, LogRow) or not row.bears_position:
            return
        assert row.ticket is not None
        if row.ticket not in self._found:
            self._found[row.ticket] = Ticket(row.ticket, row.id, arrival.time)
        self._found[row.ticket].take(arrival, row)

    def state_of(self, number: int | None) -> LogRow | None:
        """The row that is the state of an open ticket."""
        found = None if number is None else self._found.get(number)
        row = None if found is None or found.state is None else found.state.change
        return row if isinstance(row, LogRow) else None

    def knows(self, number: int | None) -> bool:
        """Whether any row said something about it."""
        return number in self._found

    def all(self) -> list[Ticket]:
        """All of them, by number."""
        return [self._found[number] for number in sorted(self._found)]
