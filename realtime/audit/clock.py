"""The platform's clock: at what time a row counts, and what is known of the clock that stamps an account's rows.

A row counts at its own time, but never later than its arrival. A clock that went back is known by three consecutive
rows of one ticket, of the syncs without a ticket, of equity or of one pair's rates that were ignored as older, and
whose offsets (arrival less `created_at`) agree. From then on rows count at their arrival.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from realtime.audit import values
from realtime.audit.history import (
    AlertsEnded,
    Arrival,
    EquityRow,
    FxRate,
    GhostsNoted,
    History,
    Limits,
    LogRow,
    WentSilent,
)
from realtime.audit.purse import Entry, Purse, Reading
from realtime.audit.series import IMPORTED, STEADY, Series, dated
from realtime.audit.ticket import Tickets

#: The median of so many syncs' offsets is the clock's.
_SYNCS: Final = 5
_LEAST_OFFSET: Final = timedelta(seconds=60)
_LEAST_MOVE: Final = timedelta(seconds=30)


@dataclass
class Clock:
    """The clock that stamps the rows of one account, as far as the rows before show it."""

    user_id: UUID
    #: Since this arrival the clock is known to have gone back.
    stepped_at: datetime | None = None
    #: Arrival of the first row that was ignored, and that a clock which went back would explain.
    doubted_at: datetime | None = None
    #: Arrival less `created_at` in seconds; None within a minute of 0.
    offset_seconds: int | None = None
    #: The syncs that changed `offset_seconds`.
    offset_events: list[Arrival] = field(default_factory=list)
    tickets: Tickets = field(default_factory=Tickets)
    purse: Purse = field(init=False)
    _is_live: bool = False
    _series: dict[int | None, Series] = field(default_factory=dict)
    _latest: datetime | None = None
    _offsets: list[timedelta] = field(default_factory=lambda: [timedelta(0)] * _SYNCS)

    def __post_init__(self) -> None:
        self.purse = Purse(self.user_id)

    def settle(self, arrival: Arrival) -> Arrival:
        """Apply one more arrival; it with the time at which it counts."""
        settled = self._settle(arrival)
        self._is_live = (self._is_live or settled.is_alive) and arrival.change != WentSilent(self.user_id)
        return settled

    def _settle(self, arrival: Arrival) -> Arrival:
        match arrival.change:
            case LogRow(owner=self.user_id) as row:
                return self._settle_row(arrival, row)
            case EquityRow(user_id=self.user_id) as equity:
                return self._settle_equity(arrival, equity)
            case Limits(user_id=self.user_id) as limits:
                self.purse.set_limits(arrival, limits)
            case AlertsEnded(user_id=self.user_id):
                held = self.purse.fold.accepted
                self.purse.age(arrival)
                self._follow_equity(held)
            case GhostsNoted(user_id=self.user_id) as ghosts:
                self.tickets.note_ghosts(
                    timedelta(seconds=ghosts.sync_overdue_seconds), arrival, ghosts.tickets
                )
        return arrival

    def _settle_row(self, arrival: Arrival, row: LogRow) -> Arrival:
        if not (row.names_position or row.is_loop):
            settled = dated(arrival, self.stepped_at)
            # Where the clock is hours behind, the row's own time would put its window into the past.
            behind = timedelta(seconds=max(0, self.offset_seconds or 0))
            return replace(settled, window_from=min(settled.time + behind, settled.at))
        series = self._series.setdefault(None if row.is_loop else row.ticket, Series())
        if row.opens or row.is_loop:
            settled = series.place(arrival, self.stepped_at)
        else:
            settled = dated(arrival, self.stepped_at)
        self._follow(settled, row)
        if not settled.is_older:
            self._end_doubt(settled.time)
            if row.names_position:
                self._latest = _later(self._latest, settled.time)
        self.tickets.take(settled)
        if row.bears_position:
            series.latest = self.tickets.latest(row.ticket)
        elif row.is_loop and not settled.is_older:
            series.latest = settled.time
        if row.bears_position and row.closes:
            series.run.offsets.clear()
        is_sync = row.kind == "sync" and not row.failed
        return replace(settled, is_alive=is_sync and not settled.is_older)

    def _settle_equity(self, arrival: Arrival, row: EquityRow) -> Arrival:
        offset = None if self.offset_seconds is None else timedelta(seconds=self.offset_seconds)
        is_synced = self._is_live and self.tickets.any_priced
        held = self.purse.fold.accepted
        outcome = self.purse.take(Entry(arrival, row, offset, is_synced), self.stepped_at)
        if outcome is None:
            return dated(arrival, self.stepped_at)
        self._follow_equity(held)
        settled = outcome.reading.arrival
        if settled.shows_step:
            self.stepped_at, self.doubted_at = self.stepped_at or settled.at, None
        if outcome.kind == "older":
            created_at = values.moment(row.created_at) or settled.at
            if STEADY < settled.at - created_at <= IMPORTED:
                self.doubted_at = self.doubted_at or settled.at
            return replace(settled, is_older=True)
        if outcome.kind != "accepted":
            return settled
        return replace(settled, is_alive=not self.tickets.any_open)

    def _follow_equity(self, held: Reading | None) -> None:
        """End the doubt where another equity than the one that was held is accepted."""
        accepted = self.purse.fold.accepted
        if accepted is not None and accepted is not held:
            self._end_doubt(accepted.arrival.time)

    def _follow(self, settled: Arrival, row: LogRow) -> None:
        """Take note of a row that was ignored, of a step, and of a sync's offset."""
        created_at = values.moment(row.created_at)
        offset = settled.at - (created_at or settled.at)
        if settled.is_older and STEADY < offset <= IMPORTED:
            self.doubted_at = self.doubted_at or settled.at
        if settled.shows_step:
            self.stepped_at, self.doubted_at = self.stepped_at or settled.at, None
        says_the_time = row.kind == "sync" and row.inserted and not row.failed and created_at is not None
        if says_the_time and settled.is_recorded and offset <= IMPORTED:
            self._add_offset(offset, settled)

    def _add_offset(self, offset: timedelta, settled: Arrival) -> None:
        self._offsets = [*self._offsets[1:], offset]
        median = sorted(self._offsets)[_SYNCS // 2]
        if abs(median - timedelta(seconds=self.offset_seconds or 0)) > _LEAST_MOVE:
            said = _whole_seconds(median) if abs(median) > _LEAST_OFFSET else None
            if said != self.offset_seconds:
                self.offset_seconds = said
                self.offset_events.append(settled)

    def _end_doubt(self, moment: datetime) -> None:
        accepted = self.purse.fold.accepted
        latest_equity = None if accepted is None else accepted.arrival.time
        latest = max(filter(None, (self._latest, latest_equity)), default=moment)
        if moment >= latest:
            self.doubted_at = None


def settle(
    history: History, user_id: UUID, stepped_at: datetime | None = None
) -> tuple[list[Arrival], Clock]:
    """``history`` with the times at which the rows of ``user_id`` and all rates count, and the clock after it.

    ``stepped_at`` is the time of a step that was known before the first arrival of ``history``; None without one.
    """
    clock = Clock(user_id, stepped_at)
    return list(_settled(history, clock)), clock


def _settled(history: History, clock: Clock) -> Iterator[Arrival]:
    pairs: dict[tuple[Any, Any], tuple[Series, list[datetime]]] = {}
    for arrival in history:
        change = arrival.change
        if not isinstance(change, FxRate) or not change.usable:
            yield clock.settle(arrival)
            continue
        series, stepped = pairs.setdefault(change.pair, (Series(), []))
        settled = series.place(arrival, stepped[0] if stepped else None)
        if settled.shows_step:
            stepped.append(settled.at)
        if not settled.is_older:
            series.latest = settled.time
        yield settled


def _later(moment: datetime | None, other: datetime) -> datetime:
    return other if moment is None else max(moment, other)


def _whole_seconds(offset: timedelta) -> int:
    """Rounded half away from zero."""
    size = (abs(offset) + timedelta(milliseconds=500)) // timedelta(seconds=1)
    return size if offset > timedelta(0) else -size
