"""Versions of the platform's rows in the order in which they were applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Any
from uuid import UUID

from realtime.audit import values

#: An event of these types says something about a position.
_OPEN_TYPES = {"sync", "divergence", "warning", "unmatched_position"}
_CLOSE_TYPES = {"close", "position_closed"}


@dataclass(frozen=True, kw_only=True)
class LogRow:
    """One version of a row of the log; ``inserted`` is False for what an in-place update left."""

    id: str
    user_id: Any
    ticket: int | None = None
    event_type: str | None = "sync"
    symbol: str | None = None
    direction: Any = None
    volume: Any = None
    entry_price: Any = None
    current_price: Any = None
    take_profit: Any = None
    stop_loss: Any = None
    matched: int | None = None
    divergence_reason: str | None = None
    close_reason: str | None = None
    closed_price: Any = None
    pnl_gbp: Any = None
    status: str | None = None
    error_message: str | None = None
    created_at: datetime | str | None = None
    updated_at: datetime | str | None = None
    inserted: bool = True

    @cached_property
    def kind(self) -> str:
        """The event type as it is compared: trimmed and lower-case."""
        return values.lowered(values.trimmed(self.event_type))

    @cached_property
    def failed(self) -> bool:
        return values.lowered(values.trimmed(self.status)) == "failed"

    @cached_property
    def owner(self) -> UUID | None:
        """The user that it names; None when it names none."""
        return values.user(self.user_id)

    @cached_property
    def terms(self) -> dict[str, Any]:
        """All that it says about a position but the symbol, the price and the times, by the field that shows it."""
        return {
            "direction": values.direction(self.direction),
            "volume": values.volume(self.volume),
            "entry_price": values.price(self.entry_price),
            "take_profit": values.price(self.take_profit),
            "stop_loss": values.price(self.stop_loss),
            "matched": self.match,
            "divergence_reason": values.text(self.divergence_reason),
        }

    def says_the_same(self, other: LogRow) -> bool:
        """Whether two rows about a position differ in no more than the price and the times."""
        symbols = {values.fold(values.symbol(each.symbol)) for each in (self, other)}
        return len(symbols) == 1 and self.terms == other.terms

    @cached_property
    def usable(self) -> bool:
        """Whether it names a user and a ticket."""
        return self.owner is not None and values.ticket(self.ticket) is not None

    @cached_property
    def names_position(self) -> bool:
        """Whether it would say something about a position had it not failed."""
        return self.usable and self.kind in _OPEN_TYPES | _CLOSE_TYPES

    @cached_property
    def bears_position(self) -> bool:
        """Whether the row says something about a position of a known user and ticket."""
        return self.names_position and not self.failed

    @cached_property
    def opens(self) -> bool:
        """Whether the row says that a position is open."""
        return self.bears_position and not self.closes

    @cached_property
    def is_loop(self) -> bool:
        """Whether it is a sync without a ticket, which says that the reconciliation ran."""
        return (
            self.owner is not None
            and self.ticket in (None, 0)
            and self.kind == "sync"
            and not self.failed
            and not self.closes
        )

    @cached_property
    def closes(self) -> bool:
        return self.kind in _CLOSE_TYPES or bool(values.trimmed(self.close_reason))

    @cached_property
    def match(self) -> int:
        """0 not matched, 1 matched, 2 diverging."""
        if self.matched is None:
            return 2 if self.kind in {"divergence", "warning", "unmatched_position"} else 0
        return self.matched if self.matched in (1, 2) else 0


@dataclass(frozen=True, kw_only=True)
class EquityRow:
    """One version of a row of ``equity_snapshots``; ``inserted`` is False for what an in-place update left."""

    id: str
    user_id: UUID
    equity: Any
    balance: Any = None
    currency: str | None = None
    cash_flow: Any = Decimal(0)
    created_at: datetime | str | None = None
    inserted: bool = True

    def says_the_same_money(self, other: EquityRow) -> bool:
        """Whether two versions differ in no more than the balance."""
        return (self.equity, self.cash_flow, self.currency, self.created_at) == (
            other.equity, other.cash_flow, other.currency, other.created_at,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Limits:
    """A row of ``guard_limits`` as it stands from now on; the defaults hold without one."""

    user_id: UUID
    drawdown_warning_pct: Decimal = Decimal(15)
    drawdown_critical_pct: Decimal = Decimal(20)
    minimum_equity: Decimal = Decimal(100)
    countdown_seconds: int = 60
    gap_warning_pct: Decimal = Decimal(5)
    gap_critical_pct: Decimal = Decimal(10)
    spread_warning_pct: Decimal = Decimal("0.5")
    spread_critical_pct: Decimal = Decimal(1)
    alert_window_seconds: int = 3600
    sync_overdue_seconds: int = 60
    equity_overdue_seconds: int = 300
    peak_since: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """A row of ``instruments`` as it stands from now on."""

    symbol: str
    contract_size: Decimal
    quote_currency: str


@dataclass(frozen=True, kw_only=True)
class FxRate:
    """A row of ``fx_rates``."""

    base: str | None
    quote: str | None
    rate: Any
    created_at: datetime | str | None = None

    @cached_property
    def pair(self) -> tuple[str | None, str | None]:
        """Base and quote as they are compared."""
        return values.currency(self.base), values.currency(self.quote)

    @cached_property
    def usable(self) -> bool:
        """Whether it converts something."""
        rate = values.number(self.rate)
        return None not in self.pair and rate is not None and rate > 0


@dataclass(frozen=True)
class WentSilent:
    """Housekeeping found that no sync of ``user_id`` had come for too long, and said so."""

    user_id: UUID


@dataclass(frozen=True)
class AlertsEnded:
    """Housekeeping ended the alerts of ``user_id`` whose window had passed by then, and aged its equity."""

    user_id: UUID


@dataclass(frozen=True)
class GhostsNoted:
    """Housekeeping looked for positions of ``user_id`` that are no longer mentioned while others are synced."""

    user_id: UUID
    sync_overdue_seconds: int = 60
    #: Tickets that were looked at; None stands for all.
    tickets: frozenset[int] | None = None


Change = LogRow | EquityRow | Limits | Instrument | FxRate | WentSilent | AlertsEnded | GhostsNoted


@dataclass(frozen=True)
class Arrival:
    """A change that was applied: ``order`` is its place among all, ``at`` the clock when it was written."""

    change: Change
    order: int
    at: datetime
    #: Whether the order is on record; it is not of history that nobody saw arrive.
    is_recorded: bool = True
    #: When a row of history was read.
    read_at: datetime | None = None
    #: As settled by `clock.settle`: the time at which it counts, whether it was ignored because there was a later row,
    #: whether it shows that the clock went back, and whether it is a sign of life.
    counts_at: datetime | None = None
    #: When the window of a guard trigger begins; None for its time.
    window_from: datetime | None = None
    is_older: bool = False
    shows_step: bool = False
    is_alive: bool = False

    @cached_property
    def time(self) -> datetime:
        """The time at which it counts: the row's own, but never later than its arrival."""
        if self.counts_at is not None:
            return self.counts_at
        created_at = values.moment(getattr(self.change, "created_at", None))
        return self.at if created_at is None else min(created_at, self.at)

    @property
    def updated_at(self) -> datetime:
        """When the platform was done with the row: `updated_at`, never later than the arrival, or its time."""
        updated_at = values.moment(getattr(self.change, "updated_at", None))
        return self.time if updated_at is None else min(updated_at, self.read_at or self.at)

    @cached_property
    def recency(self) -> tuple[datetime, int]:
        """Sorts from the earliest to the latest: by time, then by order."""
        return self.time, self.order


History = Sequence[Arrival]


def backfill_order(rows: Sequence[LogRow | EquityRow], at: datetime) -> list[Arrival]:
    """Arrivals of rows whose arrival was not recorded: by time, closes last in a tie, then by id."""

    def position(arrival: Arrival) -> tuple[datetime, bool, str]:
        row = arrival.change
        assert isinstance(row, LogRow | EquityRow)
        return arrival.time, isinstance(row, LogRow) and row.closes, row.id

    arrivals = sorted((Arrival(row, 0, at) for row in rows), key=position)
    return [
        Arrival(arrival.change, order, at, is_recorded=False, read_at=at)
        for order, arrival in enumerate(arrivals, 1)
    ]
