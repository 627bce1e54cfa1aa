"""One ticket: whether it is open, and which row is its state.

A close closes whenever it arrives. An open row is the ticket's state only if it is later than every close,
both by its time and by its arrival; among those the latest counts.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from realtime.audit.history import Arrival, History, LogRow


class Ticket(NamedTuple):
    """What a history says about one ticket; ``state`` is None when it is closed."""

    number: int
    position_id: str
    entry_time: datetime
    state: Arrival | None


def rows_of(history: History, number: int) -> list[tuple[Arrival, LogRow]]:
    """The arrivals that say something about ticket ``number``, in order."""
    return [
        (arrival, arrival.change)
        for arrival in history
        if isinstance(arrival.change, LogRow)
        and arrival.change.bears_position
        and arrival.change.ticket == number
    ]


def numbers_in(history: History) -> list[int]:
    """Every ticket that the history says something about."""
    return sorted(
        {
            arrival.change.ticket
            for arrival in history
            if isinstance(arrival.change, LogRow)
            and arrival.change.bears_position
            and arrival.change.ticket is not None
        }
    )


def ticket(history: History, number: int) -> Ticket | None:
    """What ``history`` (of one user) says about ticket ``number``; None when it says nothing."""
    rows = rows_of(history, number)
    if not rows:
        return None
    closes = [arrival for arrival, row in rows if row.closes]
    opens = [
        arrival
        for arrival, row in rows
        if not row.closes
        and all(arrival.time > close.time and arrival.order > close.order for close in closes)
    ]
    return Ticket(
        number=number,
        position_id=rows[0][1].id,
        entry_time=min(arrival.time for arrival, _ in rows),
        state=max(opens, key=lambda arrival: arrival.recency, default=None),
    )
