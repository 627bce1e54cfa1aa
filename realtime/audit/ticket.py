"""Tickets: whether one is open, and which row is its state.

A close closes whenever it arrives. An open row is the ticket's state only if it is later than every close,
both by its time and by its arrival; among those the latest counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from realtime.audit import values
from realtime.audit.history import Arrival, LogRow


@dataclass
class Ticket:
    """State of one ticket after its rows in the order of their arrival; ``state`` is None when it is closed."""

    number: int
    position_id: str
    entry_time: datetime
    state: Arrival | None = None
    closed_at: datetime | None = None
    #: The last price that was known since the position opened.
    price: Decimal | None = None
    #: Time of the last row of a position that is no longer mentioned while others are.
    unconfirmed_since: datetime | None = None

    def take(self, arrival: Arrival, row: LogRow) -> None:
        """Apply one more row, which arrived after all others."""
        self.entry_time = min(self.entry_time, arrival.time)
        if row.closes:
            self.closed_at = max(self.closed_at or arrival.time, arrival.time)
            self.state = self.unconfirmed_since = None
        elif arrival.shows_step or self._is_later(arrival):
            self._set_state(arrival, row)

    def _is_later(self, arrival: Arrival) -> bool:
        return (self.closed_at is None or arrival.time > self.closed_at) and (
            self.state is None or arrival.time >= self.state.time
        )

    def _set_state(self, arrival: Arrival, row: LogRow) -> None:
        before = None if self.state is None else self.state.change
        if isinstance(before, LogRow) and values.fold(values.symbol(before.symbol)) == values.fold(
            values.symbol(row.symbol)
        ):
            self.price = values.price(row.current_price) or self.price
        else:
            self.price = values.price(row.current_price)
        self.state, self.unconfirmed_since = arrival, None
        if arrival.shows_step and self.closed_at is not None:
            self.closed_at = min(self.closed_at, arrival.time - timedelta(microseconds=1))

    @property
    def latest(self) -> datetime | None:
        """The time that an open row must not be older than."""
        return self.closed_at if self.state is None else self.state.time


@dataclass(frozen=True)
class Ghost:
    """A position that was marked as unconfirmed at a look of housekeeping; ``state`` is its last row."""

    position_id: str
    state: Arrival
    look: Arrival


class Tickets:
    """Every ticket of one user that a row said something about, by its number."""

    def __init__(self, arrivals: Iterable[Arrival] = ()) -> None:
        self._found: dict[int, Ticket] = {}
        self._last_sync: datetime | None = None
        #: Tickets as they were when they were marked as unconfirmed, each with the time of the look.
        self.ghosts: list[Ghost] = []
        for arrival in arrivals:
            self.take(arrival)

    def take(self, arrival: Arrival) -> None:
        """Apply one more arrival of this user."""
        row = arrival.change
        if not isinstance(row, LogRow):
            return
        if row.kind == "sync" and not row.failed and (row.usable or row.is_loop) and not arrival.is_older:
            self._last_sync = max(self._last_sync or arrival.time, arrival.time)
        if not row.bears_position:
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

    def note_ghosts(self, overdue: timedelta, look: Arrival, only: frozenset[int] | None = None) -> None:
        """Mark the open tickets, of those in ``only``, whose last row is ``overdue`` before the account's last sync."""
        for each in self._found.values():
            if each.state is None or each.unconfirmed_since is not None:
                continue
            if self.is_overdue(each, overdue) and (only is None or each.number in only):
                each.unconfirmed_since = each.state.time
                self.ghosts.append(Ghost(each.position_id, each.state, look))

    def is_overdue(self, ticket: Ticket, overdue: timedelta) -> bool:
        """Whether an open ticket's last row is ``overdue`` before the account's last sync."""
        return (
            ticket.state is not None
            and self._last_sync is not None
            and self._last_sync - ticket.state.time > overdue
        )

    @property
    def any_open(self) -> bool:
        """Whether the account has positions."""
        return any(each.state is not None for each in self._found.values())

    @property
    def any_priced(self) -> bool:
        """Whether the account has positions whose price is known."""
        return any(each.state is not None and each.price is not None for each in self._found.values())

    def latest(self, number: int | None) -> datetime | None:
        """The time that an open row of a ticket must not be older than."""
        return None if number is None or number not in self._found else self._found[number].latest

    def knows(self, number: int | None) -> bool:
        """Whether any row said something about it."""
        return number in self._found

    def all(self) -> list[Ticket]:
        """All of them, by number."""
        return [self._found[number] for number in sorted(self._found)]
