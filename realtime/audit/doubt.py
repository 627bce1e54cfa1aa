"""Differences that the record of an account cannot settle: something that is not on record may explain them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from itertools import pairwise
from typing import Any, Final

from realtime.audit import values
from realtime.audit.history import Arrival, EquityRow, Limits, LogRow
from realtime.audit.record import Record
from realtime.audit.ticket import Tickets

State = Mapping[str, Any]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: Housekeeping, which turns time into commits, runs every few seconds; this is long past that.
_CATCHING_UP: Final = timedelta(seconds=60)
#: Housekeeping and the audit may disagree about the clock by this much.
_CLOCK_STEP: Final = timedelta(seconds=6)


class Doubt:
    """Which differences can be explained by rows that are gone or were overwritten, or whose order is not on record.

    ``of_x`` is true where missing records may explain a difference in x; such a difference is a doubt, and no error.
    """

    def __init__(self, record: Record, shown: State) -> None:
        self._record = record
        log = self._log = record.log
        self._by_ticket: dict[str, list[tuple[Arrival, LogRow]]] = {}
        for arrival, row in log:
            if row.bears_position:
                self._by_ticket.setdefault(str(row.ticket), []).append((arrival, row))
        self._states = {str(ticket.number): ticket.state for ticket in Tickets(each for each, _ in log).all()}
        self._rows = {row.id: row for _, row in log}
        self._good_syncs = [(arrival, row) for arrival, row in log if arrival.is_alive]
        counted = sum(row.kind == "sync" and (row.usable or row.is_loop) for _, row in log)
        #: Rows have been removed, or were not read: there was more than is on record.
        self.of_the_past: bool = (
            record.log_begins is not None
            or record.gone_until is not None
            or shown["status"]["total_syncs"] > counted
        )
        # A row that says nothing any more may have said something before it was changed.
        altered = [row for _, row in log if row.id in record.updated and not row.bears_position]
        self.of_altered: bool = bool(altered)
        #: Rows were changed in place.
        self.of_changes: bool = bool(record.updated)
        #: Rows were changed in place, or rows whose arrival is on record are gone.
        self.of_lost_rows: bool = self.of_changes or record.gone_until is not None
        #: Syncs among them, which may have been no syncs when they were inserted.
        self.changed_syncs: int = sum(
            row.kind == "sync" and row.usable and row.id in record.updated for _, row in log
        )
        #: An event that is listed may have moved in time, and may have displaced another one before.
        self.of_listed_events: bool = not record.updated.isdisjoint(shown["status"]["recent_events"])
        self._altered_tickets = {str(row.ticket) for row in altered}
        # A row that lost its ticket does not show whose state it was.
        self._has_lost_ticket: bool = any(values.ticket(row.ticket) is None for row in altered)
        #: Rows have no usable time, or one of the future, and it is not on record when they arrived.
        self.timeless: bool = any(self._is_undated(row) for _, row in log)
        self.of_some_ticket: bool = (
            self.timeless
            or record.log_begins is not None
            or any(self.of_ticket(ticket) or self._may_diverge(ticket) for ticket in self._by_ticket)
        )
        #: The row of the equity that is shown has been removed.
        self.of_gone_equity: bool = self._shows_gone_equity(
            shown["guards"]["drawdown"].get("last_checked_at")
        )
        self._shown_currency: str | None = shown["guards"]["drawdown"].get("currency")
        self.of_limits: bool = record.limits_wait
        #: Housekeeping may have been held up: what time alone brings about may be late.
        self.of_time: bool = (
            record.held_up_until is not None and record.now - record.held_up_until < _CATCHING_UP
        )

    def _is_undated(self, row: LogRow | EquityRow) -> bool:
        moment = values.moment(row.created_at)
        return row.id not in self._record.applied and (moment is None or moment >= self._record.now)

    def _shows_gone_equity(self, shown_at: str | None) -> bool:
        """Whether the equity that is shown is later than all rows on record, or of the same time as the latest."""
        usable = [arrival for arrival, row in self._record.equity if values.number(row.equity) is not None]
        if not usable or shown_at is None:
            return shown_at is not None
        latest = max(usable, key=_recency)
        gone = self._record.equity_gone_until
        applied = self._record.applied.get(getattr(latest.change, "id", ""), _EPOCH)
        is_tied = shown_at == values.iso(latest.time) and gone is not None and gone >= applied
        return is_tied or shown_at > values.iso(latest.time)

    def of_ticket(self, ticket: str) -> bool:
        """Whether the record does not show if a ticket is open, or which row is its state."""
        rows = self._by_ticket.get(ticket)
        if rows is None:
            return self.of_the_past or self.of_step or bool(self._altered_tickets)
        if self.timeless or self.of_step or self._may_be_altered(ticket):
            return True
        if any(self._was_forgotten(arrival, row) for arrival, row in self._deciding(rows)):
            return True
        state = self._states[ticket]
        if state is not None and self._is_before_the_record(state.time):
            return True
        # Only a row that was applied later than the last close opens the ticket again.
        last = [row for arrival, row in rows if arrival is state or (state is None and row.closes)]
        return self._later_is_gone(max(self._record.applied.get(row.id, _EPOCH) for row in last))

    def of_lost_versions(self, ticket: str, expected: State | None, shown: State | None) -> bool:
        """Whether a row that is gone, or a version that was overwritten, can explain a position that is shown.

        That row may have closed the ticket, may have had a later time, or may have named another ticket.
        """
        if ticket not in self._by_ticket:
            return self.of_changes
        state = self._states[ticket]
        if state is None or not self._has_lost_versions(ticket):
            return False
        if expected is None or shown is None:
            return True
        if shown["last_updated_at"] == expected["last_updated_at"]:
            return False
        is_later: bool = shown["last_updated_at"] >= values.iso(state.time)
        return self._record.gone_until is not None or is_later

    def of_price(self, ticket: str) -> bool:
        """Whether the last price that was known may be one of a row that is not on record."""
        state = self._states.get(ticket)
        row = None if state is None else state.change
        has_none = isinstance(row, LogRow) and values.price(row.current_price) is None
        rows = self._by_ticket.get(ticket, [])
        return has_none and (
            self.of_the_past
            or self._has_lost_versions(ticket)
            or any(each.id not in self._record.applied for _, each in rows)
        )

    def of_update(self, ticket: str, shown: str) -> bool:
        """Whether the state's row may have arrived before its `updated_at`, so that the arrival is shown."""
        state = self._states.get(ticket)
        if state is None or not isinstance(state.change, LogRow):
            return False
        is_between = values.iso(state.time) <= shown <= values.iso(state.updated_at)
        return is_between and self.is_uncapped((state, state.change))

    def is_uncapped(self, entry: tuple[Arrival, LogRow]) -> bool:
        """Whether it is not on record that a row arrived after its `updated_at`."""
        arrival, row = entry
        return row.id not in self._record.applied and arrival.updated_at > arrival.time

    def of_earlier_rows(self, ticket: str) -> bool:
        """Whether a ticket may have had an earlier row than those on record."""
        return self.of_the_past or self.of_arrivals or self._was_changed(ticket)

    def _has_lost_versions(self, ticket: str) -> bool:
        return self._record.gone_until is not None or self._was_changed(ticket)

    def _was_changed(self, ticket: str) -> bool:
        return any(row.id in self._record.updated for _, row in self._by_ticket.get(ticket, ()))

    def _may_diverge(self, ticket: str) -> bool:
        """Whether a ticket is open and not matched now, and a version that is lost can have been its state."""
        state = self._states[ticket]
        row = None if state is None else state.change
        return isinstance(row, LogRow) and row.match != 1 and self._has_lost_versions(ticket)

    def _deciding(self, rows: list[tuple[Arrival, LogRow]]) -> list[tuple[Arrival, LogRow]]:
        """Rows of a ticket that may decide whether the ticket is open, and which row is its state."""
        latest_open = max((each for each, row in rows if not row.closes), key=_recency, default=None)
        return [(arrival, row) for arrival, row in rows if row.closes or arrival is latest_open]

    def _was_forgotten(self, arrival: Arrival, row: LogRow) -> bool:
        """Whether it is not on record when the row arrived, or whether it was changed since."""
        is_unseen = row.id not in self._record.applied
        # A row whose time is in the future may have arrived at any time.
        may_be_old = (
            arrival.time >= self._record.now
            or self._record.arrived(arrival.time) < self._record.arrivals_since
        )
        return is_unseen and self._record.forgets and may_be_old

    def of_position_id(self, ticket: str, shown: str) -> bool:
        """Whether the ticket's first row may have been the one that is shown."""
        rows = self._by_ticket.get(ticket, [])
        unseen = {row.id for _, row in rows if row.id not in self._record.applied}
        first_was_changed = bool(rows) and rows[0][1].id in self._record.updated
        return (
            shown in unseen
            or first_was_changed
            or shown in self._record.updated
            or (self.of_the_past and shown not in self._rows)
        )

    def of_rate(self, symbol: str | None, shown: str, currency: str | None) -> bool:
        """Whether a profit in ``symbol`` cannot be turned into the account's ``currency`` for certain."""
        unsure = self._record.unsure_rates
        if self.of_money:
            return True
        known = (each for each in self._record.instruments if each.symbol == values.fold(symbol))
        quote = next((each.quote_currency for each in known), currency)
        if quote is None or currency is None or quote == currency:
            return False
        if unsure is None:
            return True
        pairs = {(quote, currency), (currency, quote)}
        on_record = {(values.currency(each.base), values.currency(each.quote)) for each in self._record.rates}
        # Rates may have been removed after they were taken over.
        return bool(pairs & unsure) or (not pairs & on_record and shown == currency)

    def _is_before_the_record(self, moment: datetime) -> bool:
        """Whether rows that are later than ``moment`` were not all read."""
        return self._record.log_begins is not None and moment < self._record.log_begins

    def _later_is_gone(self, moment: datetime) -> bool:
        """Whether rows that were applied after ``moment`` are known to be gone."""
        return self._record.gone_until is not None and self._record.gone_until > moment

    @cached_property
    def of_step(self) -> bool:
        """Whether rows that are not on record as they came may have shown, or hidden, that the clock went back."""
        record = self._record
        is_partial = record.log_begins is not None or record.equity_begins is not None
        is_lost = self.of_lost_rows or record.equity_was_corrected or record.equity_gone_until is not None
        return record.held_step != record.clock.stepped_at and (is_partial or is_lost or record.forgets)

    @cached_property
    def of_arrivals(self) -> bool:
        """Whether it is forgotten when rows arrived: those that lay in the future count then, before their own time."""
        return any(self._was_forgotten(arrival, row) for arrival, row in self._log)

    @cached_property
    def of_last_update(self) -> bool:
        """Whether a later update than those on record may have been applied."""
        return self.timeless or self.of_the_past or self.of_arrivals or self.of_changes or self.of_step

    @cached_property
    def of_syncs(self) -> bool:
        """Whether the record does not show which sync was the last."""
        is_unread = self.of_the_past and not self._good_syncs
        if self.timeless or self.of_step or self.of_altered or is_unread:
            return True
        # A sync that came after a later row of its ticket was no sign of life; their order may be forgotten.
        if self._record.forgets and any(self._is_unordered(str(row.ticket)) for _, row in self._good_syncs):
            return True
        speaking = [(arrival, row) for arrival, row in self._log if _speaks(row)]
        applied = max(
            (self._record.applied.get(row.id, arrival.at) for arrival, row in speaking),
            default=self._record.now,
        )
        return self._later_is_gone(applied) or any(
            map(self._is_unsure_of_the_last, (speaking, self._good_syncs))
        )

    def of_ignored_syncs(self, shown: str | None) -> bool:
        """Whether every sync later than the one shown may have been ignored as older than a row that is lost."""
        later = [row for arrival, row in self._good_syncs if values.iso(arrival.time) > (shown or "")]
        return bool(later) and all(self._has_lost_versions(str(row.ticket)) for row in later)

    def _is_unsure_of_the_last(self, rows: list[tuple[Arrival, LogRow]]) -> bool:
        latest = max((arrival.time for arrival, _ in rows), default=None)
        if latest is None:
            return self._record.log_begins is not None
        tied = [row for arrival, row in rows if arrival.time == latest and row.id not in self._record.applied]
        return len(tied) > 1 or self._is_before_the_record(latest)

    @cached_property
    def of_clock(self) -> bool:
        """Whether the record does not show by how much each sync differed from its arrival."""
        unseen = any(row.id not in self._record.applied for _, row in self._log if row.kind == "sync")
        return unseen or self.timeless or self.of_altered or self.of_the_past or self.of_lost_rows

    def last_sync(self) -> list[datetime]:
        """Times by which the last sign of life may be judged: its own, and that of its arrival if on record."""
        return self._last_of([arrival for arrival in self._record.history if arrival.is_alive])

    def of_life_by_equity(self, least: timedelta) -> bool:
        """Whether only equity came less than ``least`` ago, and positions may have been open that are not on record.

        Equity is no sign of life while a position is open.
        """
        syncs = self._last_of([arrival for arrival, _ in self._good_syncs])
        is_by_sync = bool(syncs) and all(self._record.now - each < least for each in syncs)
        return not is_by_sync and (self.of_the_past or self.of_some_ticket)

    def of_life_before_the_record(self, most: timedelta) -> bool:
        """Whether older equity than that on record may be a sign of life of less than ``most`` ago."""
        begins = self._record.equity_begins
        return begins is not None and self._record.now - begins < most

    def _last_of(self, signs: list[Arrival]) -> list[datetime]:
        if not signs:
            return []
        own = max(arrival.time for arrival in signs)
        arrived = [
            arrival.at for arrival in signs if getattr(arrival.change, "id", "") in self._record.applied
        ]
        return [own, max(arrived)] if arrived else [own]

    def of_event(self, event_id: str) -> bool:
        """Whether the record does not show if a row caused an event, and which one."""
        row = self._rows.get(event_id)
        if row is None:
            return self.of_the_past
        if self.of_step or event_id not in self._record.applied or event_id in self._record.updated:
            return True
        ticket = str(row.ticket)
        if not row.bears_position:
            return False
        if (
            self._record.log_begins is not None
            or self._has_lost_versions(ticket)
            or self._may_be_altered(ticket)
        ):
            return True
        before = [earlier for _, earlier in self._by_ticket[ticket]]
        # The ticket's first row on record need not have been its first.
        return (self.of_the_past and before[0].id == event_id) or self._is_unordered(ticket)

    def _may_be_altered(self, ticket: str) -> bool:
        """Whether a row that says nothing any more may have said something about the ticket."""
        return self._has_lost_ticket or ticket in self._altered_tickets

    def _is_unordered(self, ticket: str) -> bool:
        unseen = [row for _, row in self._by_ticket.get(ticket, ()) if row.id not in self._record.applied]
        return len(unseen) > 1

    @cached_property
    def of_alerts(self) -> bool:
        """Whether the record does not show which market conditions are the latest."""
        guards = [
            (arrival.time, row.symbol, row.divergence_reason)
            for arrival, row in self._log
            if row.kind == "guard_trigger" and row.id not in self._record.applied
        ]
        tied = any(count > 1 for count in Counter(guards).values())
        undated = tied or self.timeless or self.of_step or self._has_forgotten_guards
        return undated or self.of_changed_guards or self.of_limits or self._begins_late()

    @cached_property
    def _has_forgotten_guards(self) -> bool:
        """Whether it is not on record when a guard trigger arrived, at which one that lay in the future counts."""
        return any(
            row.kind == "guard_trigger" and self._was_forgotten(arrival, row) for arrival, row in self._log
        )

    @cached_property
    def of_changed_guards(self) -> bool:
        """Whether a guard trigger was changed in place: it may have reported another condition before."""
        changed = self._record.updated & self._rows.keys()
        return any(self._rows[each].kind == "guard_trigger" for each in changed)

    def of_alert(self, detected_at: str) -> bool:
        """Whether a row that was changed in place may have reported the alert that is shown."""
        return any(
            values.iso(arrival.time) == detected_at
            for arrival, row in self._log
            if row.id in self._record.updated
        )

    def _begins_late(self) -> bool:
        """Whether rows of the alert window are missing."""
        limits = self._record.limits or Limits(user_id=self._record.user_id)
        window_begins = self._record.now - timedelta(seconds=limits.alert_window_seconds)
        return self._is_before_the_record(window_begins) or self._later_is_gone(window_begins)

    @cached_property
    def of_money(self) -> bool:
        """Whether the currency of amounts, or the rate at which they are converted, is not on record."""
        is_another = self._shown_currency != self._record.clock.purse.fold.currency
        of_currency = is_another and (self.of_equity or self.of_folded_equity)
        return self._record.reference_waits or self.of_gone_equity or of_currency

    @property
    def of_balance(self) -> bool:
        """Whether the balance may be of equity that is not on record: a row without one keeps the last known."""
        record = self._record
        is_partial = record.equity_gone_until is not None or record.equity_begins is not None
        return self.of_money or is_partial or self.of_zero_equity

    @cached_property
    def of_equity(self) -> bool:
        """Whether the record does not show which equity row is the latest."""
        rows = self._record.equity
        latest = max((arrival.time for arrival, _ in rows), default=None)
        tied = [row for arrival, row in rows if arrival.time == latest and row.id not in self._record.applied]
        timeless = any(self._is_undated(row) for _, row in rows)
        unsure = timeless or self.of_step or self.of_gone_equity
        return len(tied) > 1 or unsure or self._record.equity_is_tied

    @cached_property
    def of_zero_equity(self) -> bool:
        """Whether equity was 0, and it is not on record if positions were synced then, which decides if it counts."""
        usable = [(each, row) for each, row in self._record.equity if values.number(row.equity) is not None]
        zeros = [place for place, (_, row) in enumerate(usable) if values.number(row.equity) == 0]
        if not zeros or self._is_past_zero([row for _, row in usable[zeros[-1] + 1 :]]):
            return False
        is_lost = self.timeless or self.of_the_past or self.of_lost_rows or self.of_arrivals
        return is_lost or self._may_have_been_silent({usable[place][0].order for place in zeros})

    def _is_past_zero(self, later: list[EquityRow]) -> bool:
        """Whether the rows after the last 0 decide alone: all but the first are accepted, with the 0 or without it."""
        equity = [values.number(row.equity) or Decimal(0) for row in later]
        are_plausible = all(0 < each <= 5 * other and other <= 5 * each for each, other in pairwise(equity))
        has_balance = any(values.number(row.balance) is not None for row in later[1:])
        if not (self._equity_is_plain and self._record.equity_is_appended and has_balance):
            return False
        return are_plausible and equity[0] <= max(equity[1:])

    def _may_have_been_silent(self, orders: set[int]) -> bool:
        """Whether one of some arrivals came so long after a sign of life that the account may have been silent."""
        record = self._record
        if record.limits is not None:
            return True
        overdue = timedelta(seconds=Limits(user_id=record.user_id).sync_overdue_seconds)
        last = None
        for arrival in record.history:
            if arrival.order in orders and last is not None and arrival.at - last > overdue - _CLOCK_STEP:
                return True
            if arrival.is_alive:
                last = arrival.at
        return False

    @cached_property
    def of_flows(self) -> bool:
        """Whether an equity row is gone that may have brought a cash flow after one of the rows on record."""
        return self._record.equity_gone_until is not None

    @cached_property
    def least_peak(self) -> float | None:
        """The least that the peak can be, with any rows before those on record; None where that is not known.

        Where rows follow each other plausibly, all but the first are plausible after any equity before them.
        """
        record, purse = self._record, self._record.clock.purse
        if not self._equity_is_simple or purse.fold.peak is None:
            return None
        if record.equity_begins is None:
            return float(purse.fold.peak.shown)
        usable = [number for _, row in record.equity if (number := values.number(row.equity)) is not None]
        return float(max(usable[1:])) if record.equity_is_appended and len(usable) > 1 else None

    @property
    def _equity_is_simple(self) -> bool:
        """Whether no cash flow, reset, correction or other currency changed the value of an equity row on record."""
        return self._equity_is_plain and not self._record.clock.purse.notices

    @property
    def _equity_is_plain(self) -> bool:
        """Whether that is so for equity that may have been implausible."""
        purse, rows = self._record.clock.purse, [row for _, row in self._record.equity]
        return not (
            purse.fold.limits.peak_since
            or self._record.equity_was_corrected
            or any(values.number(row.cash_flow) for row in rows)
            or len({values.currency(row.currency) for row in rows}) > 1
        )

    @cached_property
    def of_folded_equity(self) -> bool:
        """Whether what the equity rows come to hangs on rows that are gone, or on a moment that is near."""
        record = self._record
        if record.equity_begins is not None or record.equity_gone_until is not None or self.of_time:
            return True
        if self.of_zero_equity or self._is_late_equity:
            return True
        fold = record.clock.purse.fold
        edges = (
            []
            if fold.fresh_at is None
            else [fold.fresh_at + timedelta(seconds=fold.limits.equity_overdue_seconds)]
        )
        if fold.doubted is not None:
            edges.append(fold.doubted.arrival.at + timedelta(seconds=60))
        return any(record.now - _CATCHING_UP <= edge <= record.now + _CLOCK_STEP for edge in edges)

    @property
    def _is_late_equity(self) -> bool:
        """Whether equity was overdue when it came unless the clock was behind, and that is not on record."""
        fold = self._record.clock.purse.fold
        if fold.accepted is None or not self.of_clock:
            return False
        lag = fold.accepted.arrival.at - fold.accepted.arrival.time
        return lag >= timedelta(seconds=fold.limits.equity_overdue_seconds)


def _speaks(row: LogRow) -> bool:
    kinds = {"sync", "divergence", "warning", "unmatched_position", "close", "position_closed"}
    return row.usable and row.kind in kinds


def _recency(arrival: Arrival) -> tuple[datetime, int]:
    return arrival.recency
