"""Equity as a fold: each row is added when it arrives, and what came to pass is never taken back by a row that is gone.

A row is older than the equity that is held, implausible, or accepted; only an accepted row changes what is shown.

An older row may have been the highest, in money of today. An implausible row (0 or less; beyond five times or under a
fifth of the last accepted one, cash flows counted in) is confirmed by a second one on the same side or by a minute
without a plausible one. A 0 as a terminal without its broker reports it is confirmed by nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Final, Literal, NamedTuple
from uuid import UUID

from realtime.audit import values
from realtime.audit.history import Arrival, EquityRow, Limits
from realtime.audit.money import Money, Notice, Peak, Step, fall, level, shown_pct
from realtime.audit.series import IMPORTED, STEADY, Run, dated

_DOUBTED_FOR: Final = timedelta(seconds=60)
_CLOCK_MOVES: Final = timedelta(seconds=30)
#: A row that waited for so long begins its countdown when it is applied.
_SEEN_LATE: Final = timedelta(minutes=1)


@dataclass(frozen=True)
class Reading:
    """A usable row of equity, and the flows that count with it; ``side`` says why it is implausible."""

    arrival: Arrival
    row: EquityRow
    equity: Decimal
    flow: Decimal
    side: str | None = None

    @property
    def peak(self) -> Peak:
        """It as a peak."""
        return Peak(Fraction(self.equity), self.arrival.time, self.arrival.at, self.row.id)

    @property
    def currency(self) -> str | None:
        return values.currency(self.row.currency)


@dataclass(frozen=True)
class Flow:
    """By how much a cash flow scaled what came before it; None where the peak began anew."""

    time: datetime
    factor: Fraction | None


class Entry(NamedTuple):
    """A row as it arrived, and what was known then: by how much the clock is behind, whether positions are synced."""

    arrival: Arrival
    row: EquityRow
    offset: timedelta | None
    is_synced: bool


class Outcome(NamedTuple):
    """The fate of a reading; ``value`` is that of an older one in money of today."""

    kind: Literal["accepted", "doubted", "ignored", "older"]
    reading: Reading
    value: Peak | None = None


@dataclass
class Fold:
    """The fold of the rows so far, by ``limits`` and with a clock that went back at ``stepped_at``."""

    limits: Limits
    stepped_at: datetime | None = None
    currency: str | None = None
    balance: Decimal | None = None
    accepted: Reading | None = None
    doubted: Reading | None = None
    fresh_at: datetime | None = None
    peak: Peak | None = None
    #: The highest of all while the peak was restarted.
    top: Peak | None = None
    _pending: Decimal = Decimal(0)
    _flows: list[Flow] = field(default_factory=list)
    _run: Run = field(default_factory=Run)

    def is_overdue(self, now: datetime) -> bool:
        """Whether the equity is too old."""
        overdue = timedelta(seconds=self.limits.equity_overdue_seconds)
        return self.fresh_at is not None and self.fresh_at + overdue <= now

    def confirm(self, now: datetime) -> Iterator[Outcome]:
        """Accept a doubted row that time has confirmed."""
        doubted = self.doubted
        if doubted and doubted.side != "dead" and doubted.arrival.at + _DOUBTED_FOR <= now:
            yield self._accept_doubted(doubted)

    def add(self, entry: Entry) -> Iterator[Outcome]:
        """Add one more row; what became of the readings, each as soon as it is so."""
        yield from self.confirm(entry.arrival.at)
        equity = values.number(entry.row.equity)
        if equity is None:
            return
        arrival = dated(entry.arrival, self.stepped_at)
        reading = Reading(arrival, entry.row, equity, values.number(entry.row.cash_flow) or Decimal(0))
        if self._is_older(arrival):
            if not self._run.add(arrival):
                yield self._add_older(reading)
                return
            self.stepped_at = min(self.stepped_at or arrival.at, arrival.at)
            reading = replace(reading, arrival=replace(arrival, counts_at=arrival.at, shows_step=True))
            entry = entry._replace(is_synced=True)
        side = self._side(reading, is_synced=entry.is_synced)
        if self.doubted and side == self.doubted.side and side != "dead":
            yield self._accept_doubted(self.doubted)
            if self._is_older(reading.arrival):
                self._run.add(arrival)
                yield self._add_older(reading)
                return
            side = None
        if side is None:
            yield self._accept(replace(reading, flow=reading.flow + self._pending), entry.offset)
        else:
            yield self._doubt(replace(reading, side=side))

    def _is_older(self, arrival: Arrival) -> bool:
        return self.accepted is not None and arrival.time < self.accepted.arrival.time

    def restart(self, limits: Limits, entries: list[Entry]) -> None:
        """Judge by other limits; a peak that was restarted begins with the equity that stood then."""
        moved, self.limits = limits.peak_since != self.limits.peak_since, limits
        if not moved:
            return
        highest = _higher(self.peak, self.top)
        known = [each for each in (self.peak, self.top) if each is not None]
        arrived = max((each.arrived_at for each in known), default=None)
        if self.accepted is not None:
            arrived = max(arrived or self.accepted.arrival.at, self.accepted.arrival.at)
        if limits.peak_since is None:
            self.peak, self.top = highest, None
            return
        if arrived is None or limits.peak_since > arrived:
            self.peak = self.accepted.peak if self.accepted is not None and self.accepted.equity > 0 else None
        else:
            self.peak = folded(entries, limits, self.stepped_at).peak
        self.top = _higher(highest, self.peak)

    # How.

    def _side(self, reading: Reading, *, is_synced: bool) -> str | None:
        held = None if self.accepted is None else self.accepted.equity
        if reading.equity == 0 and (is_synced or self._is_dead(reading)):
            return "dead"
        if reading.equity <= 0:
            return "low" if held is None or held > 0 else None
        if self._is_foreign(reading) or held is None or held <= 0:
            return None
        base = held + self._pending + reading.flow
        if base <= 0:
            return None
        return "low" if reading.equity * 5 < base else "high" if reading.equity > base * 5 else None

    def _is_dead(self, reading: Reading) -> bool:
        balance = values.number(reading.row.balance)
        return (self.doubted is not None and self.doubted.side == "dead") or (
            self.balance if balance is None else balance
        ) == 0

    def _is_foreign(self, reading: Reading) -> bool:
        return None not in (reading.currency, self.currency) and reading.currency != self.currency

    def _doubt(self, reading: Reading) -> Outcome:
        self._pending += reading.flow
        if self.doubted is not None and reading.side == "dead":
            return Outcome("ignored", reading)
        self.doubted = reading
        return Outcome("doubted", reading)

    def _accept_doubted(self, doubted: Reading) -> Outcome:
        return self._accept(replace(doubted, flow=self._pending), None)

    def _accept(self, reading: Reading, offset: timedelta | None) -> Outcome:
        balance, foreign = values.number(reading.row.balance), self._is_foreign(reading)
        if foreign:
            self.balance = None
        if foreign or reading.flow:
            factor = None if foreign else _factor(reading.equity, reading.flow)
            self._flows.append(Flow(reading.arrival.time, factor))
            self.peak, self.top = _scaled(self.peak, factor), _scaled(self.top, factor)
        self.fresh_at = self._fresh_since(reading.arrival, offset)
        self.currency = reading.currency or self.currency
        self.balance = self.balance if balance is None else balance
        self.accepted, self.doubted, self._pending = reading, None, Decimal(0)
        self._run = Run()
        since = self.limits.peak_since
        if reading.equity > 0:
            stands = since is not None and reading.arrival.at < since
            self.peak = reading.peak if stands else _higher(self.peak, reading.peak)
            self.top = None if since is None else _higher(self.top, reading.peak)
        return Outcome("accepted", reading)

    def _add_older(self, reading: Reading) -> Outcome:
        assert self.accepted is not None
        if self._is_foreign(reading):
            return Outcome("older", reading)
        value = self._in_money_of_today(reading)
        if reading.flow:
            factor = _factor(reading.equity, reading.flow)
            self._flows.append(Flow(reading.arrival.time, factor))
            self.peak, self.top = (
                _scaled(each, factor) if each is not None and each.time < reading.arrival.time else each
                for each in (self.peak, self.top)
            )
        since = self.limits.peak_since
        if value is not None and value.value <= 5 * Fraction(self.accepted.equity):
            if since is None or reading.arrival.at >= since:
                self.peak = _higher(self.peak, value)
            self.top = None if since is None else _higher(self.top, value)
        if self.peak is None and self.accepted.equity > 0:
            self.peak = self.accepted.peak
        return Outcome("older", reading, value)

    def _in_money_of_today(self, reading: Reading) -> Peak | None:
        value = reading.peak if reading.equity > 0 else None
        for flow in self._flows:
            if flow.time > reading.arrival.time:
                value = _scaled(value, flow.factor)
        return value

    def _fresh_since(self, arrival: Arrival, offset: timedelta | None) -> datetime:
        """Since when the equity grows old: a row of a clock that is behind is not old when it arrives."""
        lag = arrival.at - arrival.time
        if lag < timedelta(seconds=self.limits.equity_overdue_seconds):
            return arrival.at
        if lag > IMPORTED:
            return arrival.time
        before = None if self.accepted is None else self.accepted.arrival.at - self.accepted.arrival.time
        is_steady = before is not None and abs(lag - before) <= STEADY
        is_of_the_clock = offset is not None and abs(lag - offset) <= _CLOCK_MOVES
        return arrival.at if is_steady or is_of_the_clock else arrival.time


def folded(entries: list[Entry], limits: Limits, stepped_at: datetime | None) -> Fold:
    """Rows folded anew."""
    fold = Fold(limits, stepped_at)
    for entry in entries:
        for _ in fold.add(entry):
            pass
    return fold


def _factor(equity: Decimal, flow: Decimal) -> Fraction | None:
    """By how much a flow scales what was before it; None where equity before or after it is not positive."""
    before = Fraction(equity) - Fraction(flow)
    return Fraction(equity) / before if equity > 0 and before > 0 else None


def _scaled(peak: Peak | None, factor: Fraction | None) -> Peak | None:
    return (
        None if peak is None or factor is None else replace(peak, value=peak.value * factor, is_scaled=True)
    )


def _higher(one: Peak | None, other: Peak | None) -> Peak | None:
    if one is None or other is None:
        return one or other
    return other if other.value > one.value else one


@dataclass
class Purse:
    """The money of one account after its rows so far, and every level that it had."""

    user_id: UUID
    fold: Fold = field(init=False)
    is_overdue: bool = False
    steps: list[Step] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    _entries: list[Entry] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fold = Fold(Limits(user_id=self.user_id))

    def money(self, *, is_clock_doubted: bool) -> Money:
        """Money after the rows so far."""
        fold = self.fold
        doubted = None if fold.doubted is None else fold.doubted.equity
        if fold.accepted is None:
            return Money(doubt=None if doubted is None else "implausible", doubted_equity=doubted)
        doubt = "older" if is_clock_doubted else "overdue" if self.is_overdue else None
        return Money(
            currency=fold.currency,
            balance=fold.balance,
            equity=fold.accepted.equity,
            equity_at=fold.accepted.arrival.time,
            peak=fold.peak,
            level=self.steps[-1].level,
            pct=self.steps[-1].pct,
            doubt=doubt if doubted is None else "implausible",
            doubted_equity=doubted,
        )

    def age(self, now: Arrival) -> None:
        """Do what time has brought about."""
        for outcome in self.fold.confirm(now.at):
            self._follow(outcome, now)
        self.is_overdue = self.fold.is_overdue(now.at)

    def set_limits(self, arrival: Arrival, limits: Limits) -> None:
        """Judge by other limits from now on."""
        self.fold.restart(limits, self._entries)
        self.is_overdue = self.fold.is_overdue(arrival.at)
        if self.fold.accepted is not None:
            self._judge(arrival, f"limits-{arrival.order}", arrival.at, arrival.at)

    def take(self, entry: Entry, stepped_at: datetime | None) -> Outcome | None:
        """Add one more row; what became of it, None where it is unusable."""
        if not entry.row.inserted:
            self._correct(entry, stepped_at)
            return None
        self._entries.append(entry)
        self.fold.stepped_at = stepped_at
        before, last = self.fold.currency, None
        is_latched = self._is_latched
        for outcome in self.fold.add(entry):
            is_latched = is_latched and outcome.kind == "older"
            if not is_latched:
                self._follow(outcome, entry.arrival)
            last = outcome if outcome.reading.row is entry.row else None
        self.is_overdue = self.fold.is_overdue(entry.arrival.at)
        if (
            last is not None
            and last.kind == "accepted"
            and before is not None
            and self.fold.currency != before
        ):
            arrival = last.reading.arrival
            self.notices.append(Notice(f"currency-{entry.row.id}", "currency_changed", arrival.time, arrival))
        return last

    def _correct(self, entry: Entry, stepped_at: datetime | None) -> None:
        """Fold all rows anew, one of which was changed in place; its arrival stays."""
        held = next((each for each in self._entries if each.row.id == entry.row.id), None)
        if held is None:
            return
        arrival = replace(held.arrival, change=entry.row)
        self._entries[self._entries.index(held)] = held._replace(arrival=arrival, row=entry.row)
        balance = values.number(entry.row.balance)
        if held.row.says_the_same_money(entry.row):
            if (
                self.fold.accepted is not None
                and self.fold.accepted.row.id == entry.row.id
                and balance is not None
            ):
                self.fold.balance = balance
            return
        before, currency = self.fold.peak, self.fold.currency
        self.fold = folded(self._entries, self.fold.limits, stepped_at)
        for _ in self.fold.confirm(entry.arrival.at):
            pass
        self.is_overdue = self.fold.is_overdue(entry.arrival.at)
        cause = f"{entry.row.id}.{entry.arrival.order}"
        accepted = self.fold.accepted
        if accepted is not None:
            moment = min(accepted.arrival.time, entry.arrival.at)
            self._judge(entry.arrival, cause, moment, entry.arrival.at)
        if before is not None and (before.shown, currency) != (
            self.fold.peak and self.fold.peak.shown,
            self.fold.currency,
        ):
            self.notices.append(Notice(f"peak-{cause}", "peak_corrected", entry.arrival.at, entry.arrival))

    def _follow(self, outcome: Outcome, now: Arrival) -> None:
        reading = outcome.reading
        if outcome.kind == "accepted":
            self._judge(now, reading.row.id, reading.arrival.time, reading.arrival.at)
        elif outcome.kind == "doubted":
            self.notices.append(
                Notice(reading.row.id, "equity_implausible", reading.arrival.time, reading.arrival)
            )
        elif outcome.kind == "older":
            self._judge_older(outcome, now)

    def _judge_older(self, outcome: Outcome, now: Arrival) -> None:
        """The peak may have moved; a critical row is latched, for it may be the newest of a clock that went back."""
        assert self.fold.accepted is not None
        arrival, value, held = outcome.reading.arrival, outcome.value, self.fold.accepted
        self._judge(now, outcome.reading.row.id, min(held.arrival.time, arrival.at), arrival.at)
        is_doubtful = STEADY < arrival.at - arrival.time <= IMPORTED
        if self.steps[-1].level == "critical" or value is None or not is_doubtful:
            return
        is_plausible = value.value * 5 >= Fraction(held.equity) and value.value <= 5 * Fraction(held.equity)
        pct = fall(None if self.fold.peak is None else self.fold.peak.value, value.value)
        if is_plausible and level(pct, value.value, self.fold.limits) == "critical":
            self._set_level(now, outcome.reading.row.id, arrival.at, arrival.at, "critical", shown_pct(pct))

    @property
    def _is_latched(self) -> bool:
        """Whether an older row was critical, and not the equity that is held."""
        held, peak = self.fold.accepted, self.fold.peak
        if held is None or self.steps[-1].level != "critical":
            return False
        pct = fall(None if peak is None else peak.value, Fraction(held.equity))
        return level(pct, Fraction(held.equity), self.fold.limits) != "critical"

    def _judge(self, now: Arrival, cause: str, moment: datetime, arrived_at: datetime) -> None:
        assert self.fold.accepted is not None
        equity, peak = Fraction(self.fold.accepted.equity), self.fold.peak
        pct = fall(None if peak is None else peak.value, equity)
        self._set_level(now, cause, moment, arrived_at, level(pct, equity, self.fold.limits), shown_pct(pct))

    def _set_level(
        self,
        now: Arrival,
        cause: str,
        moment: datetime,
        arrived_at: datetime,
        reached: str,
        pct: Decimal | None,
    ) -> None:
        last = self.steps[-1] if self.steps else None
        before = None if last is None else last.level
        raised_at = liquidation_at = None
        if reached == "critical" and last is not None and before == "critical":
            raised_at, liquidation_at = last.raised_at, last.liquidation_at
        elif reached == "critical":
            begins = now.at if now.at - arrived_at > _SEEN_LATE else moment
            raised_at, liquidation_at = moment, begins + timedelta(seconds=self.fold.limits.countdown_seconds)
        self.steps.append(Step(now, cause, moment, before, reached, pct, raised_at, liquidation_at))
