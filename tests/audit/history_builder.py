"""Histories for examples that are worked out by hand, and the state that the oracle reduces them to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, TypeVar
from uuid import UUID

from realtime.audit.history import (
    AlertsEnded,
    Arrival,
    Change,
    EquityRow,
    FxRate,
    Instrument,
    Limits,
    LogRow,
    WentSilent,
)
from realtime.audit.state import Oracle

USER: Final = UUID("7b0f6a52-51a4-4c0b-8f0e-3c8d3f0a9d11")
START: Final = datetime(2024, 5, 6, 12, 0, tzinfo=UTC)
GOLD: Final = Instrument(symbol="XAUUSD", contract_size=Decimal(100), quote_currency="USD")
YEN: Final = Instrument(symbol="GBPJPY", contract_size=Decimal(100_000), quote_currency="JPY")


def at(second: float) -> datetime:
    """The moment of a second after `START`."""
    return START + timedelta(seconds=second)


Kind = TypeVar("Kind", bound=Change)


@dataclass
class HistoryBuilder:
    """Appends changes to a history; its methods are named as those of `DatabaseWriter`.

    A change arrives at the latest second that any change had so far, so rows can also come late.
    """

    arrivals: list[Arrival] = field(default_factory=list)
    _clock: datetime = START

    def sync(self, second: float = 0, *, ticket: int | None = 1, **columns: Any) -> LogRow:
        """Append a row of the log: a sync of 0.1 lots of gold that differs in ``columns``."""
        row = LogRow(
            id=f"row-{len(self.arrivals)}",
            user_id=USER,
            ticket=ticket,
            symbol="XAUUSD",
            direction="buy",
            volume=Decimal("0.1"),
            entry_price=Decimal("1950.50"),
            current_price=Decimal("1955.75"),
            matched=1,
            created_at=at(second),
        )
        return self._append(replace(row, **columns))

    def close(self, second: float = 0, *, ticket: int = 1, **columns: Any) -> LogRow:
        """Append a row of the log that closes ``ticket``."""
        return self.sync(second, ticket=ticket, event_type="close", close_reason="manual", **columns)

    def update(self, row: LogRow, **columns: Any) -> LogRow:
        """Append a change of ``row`` in place."""
        return self._append(replace(row, inserted=False, **columns))

    def guard(self, reason: str, before: str | None, after: str | None, second: float = 0) -> LogRow:
        """Append a guard trigger with two prices: close and open, or bid and ask."""
        return self.sync(
            second,
            ticket=None,
            event_type="guard_trigger",
            divergence_reason=reason,
            entry_price=before and Decimal(before),
            current_price=after and Decimal(after),
            matched=0,
        )

    def equity(self, equity: float | str, second: float = 0, **columns: Any) -> EquityRow:
        """Append a row of equity in USD."""
        row = EquityRow(
            id=f"equity-{len(self.arrivals)}",
            user_id=USER,
            equity=Decimal(str(equity)),
            currency="USD",
            created_at=at(second),
        )
        return self._append(replace(row, **columns))

    def rate(self, base: str, quote: str, rate: str, second: float = 0) -> None:
        """Append an exchange rate."""
        self._append(FxRate(base=base, quote=quote, rate=Decimal(rate), created_at=at(second)))

    def set_limits(self, **columns: Any) -> None:
        """Append limits that hold from now on."""
        self._append(Limits(user_id=USER, **columns))

    def note_silence(self) -> None:
        """Append that housekeeping found the syncs overdue."""
        self._append(WentSilent(USER))

    def end_alerts(self, second: float) -> None:
        """Append that housekeeping ended the alerts whose window had passed at ``second``."""
        self._clock = at(second)
        self._append(AlertsEnded(USER))

    def state(self) -> dict[str, Any]:
        """State of the account, as the oracle reduces it."""
        return Oracle(USER, (GOLD, YEN)).state(self.arrivals)

    def book(self) -> dict[str, Any]:
        """Open positions of the account, by ticket."""
        positions = self.state()["positions"]
        assert positions["total_positions"] == len(positions["open"])
        return dict(positions["open"])

    def drawdown(self) -> dict[str, Any]:
        """Drawdown of the account."""
        return dict(self.state()["guards"]["drawdown"])

    def events(self) -> list[str]:
        """Types of the recent events, newest first."""
        events = self.state()["status"]["recent_events"].values()
        return [
            event["event_type"] for event in sorted(events, key=lambda each: each["created_at"], reverse=True)
        ]

    def _append(self, change: Kind) -> Kind:
        self._clock = max(self._clock, getattr(change, "created_at", None) or self._clock)
        self.arrivals.append(Arrival(change, len(self.arrivals) + 1, self._clock))
        return change
