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
        return values.trimmed(self.event_type).lower()

    @cached_property
    def failed(self) -> bool:
        return values.trimmed(self.status).lower() == "failed"

    @cached_property
    def owner(self) -> UUID | None:
        """The user that it names; None when it names none."""
        return values.user(self.user_id)

    @cached_property
    def terms(self) -> tuple[Any, ...]:
        """Everything that it says about a position but the price and the times."""
        return (
            values.volume(self.volume),
            values.direction(self.direction),
            values.symbol(self.symbol),
            values.number(self.entry_price),
            values.number(self.take_profit),
            values.number(self.stop_loss),
            self.match,
            values.text(self.divergence_reason),
        )

    @cached_property
    def usable(self) -> bool:
        """Whether it names a user and a ticket."""
        return self.owner is not None and values.ticket(self.ticket) is not None

    @cached_property
    def bears_position(self) -> bool:
        """Whether the row says something about a position of a known user and ticket."""
        return self.usable and not self.failed and self.kind in _OPEN_TYPES | _CLOSE_TYPES

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
    """A row of ``equity_snapshots``."""

    id: str
    user_id: UUID
    equity: Any
    balance: Any = None
    currency: str | None = None
    cash_flow: Any = Decimal(0)
    created_at: datetime | str | None = None


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


@dataclass(frozen=True)
class WentSilent:
    """Housekeeping found that no sync of ``user_id`` had come for too long, and said so."""

    user_id: UUID


@dataclass(frozen=True)
class AlertsEnded:
    """Housekeeping ended the alerts of ``user_id`` whose window had passed by then."""

    user_id: UUID


Change = LogRow | EquityRow | Limits | Instrument | FxRate | WentSilent | AlertsEnded


@dataclass(frozen=True)
class Arrival:
    """A change that was applied: ``order`` is its place among all, ``at`` the clock when it was written."""

    change: Change
    order: int
    at: datetime

    @cached_property
    def time(self) -> datetime:
        """The time that the platform gave the row; that of the arrival where it gave none."""
        return values.moment(getattr(self.change, "created_at", None)) or self.at

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
    return [Arrival(arrival.change, order, at) for order, arrival in enumerate(arrivals, 1)]
