"""Histories told in a few words, for examples: `Tale` puts rows in order and asks the oracle."""

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


def at(seconds: float) -> datetime:
    """So many seconds after the tale begins."""
    return START + timedelta(seconds=seconds)


Kind = TypeVar("Kind", bound=Change)


@dataclass
class Tale:
    """A history that grows: each method appends one committed change, of the time ``second`` after the start.

    The clock stands at the greatest time told so far, so that rows can also come late.
    """

    arrivals: list[Arrival] = field(default_factory=list)
    _clock: datetime = START

    def row(self, second: float, ticket: int | None = 1, **columns: Any) -> LogRow:
        """A row of the log; an unremarkable sync of gold unless ``columns`` say otherwise."""
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
        return self._add(replace(row, **columns))

    def close(self, second: float, ticket: int = 1, **columns: Any) -> LogRow:
        """A closing row."""
        return self.row(second, ticket, event_type="close", close_reason="manual", **columns)

    def update(self, row: LogRow, **columns: Any) -> LogRow:
        """The same row, changed in place."""
        return self._add(replace(row, inserted=False, **columns))

    def trigger(self, second: float, reason: str, first: str | None, second_price: str | None) -> LogRow:
        """A guard trigger with its two prices: close and open, or bid and ask."""
        return self.row(
            second,
            None,
            event_type="guard_trigger",
            divergence_reason=reason,
            entry_price=first and Decimal(first),
            current_price=second_price and Decimal(second_price),
            matched=0,
        )

    def equity(self, second: float, equity: float | str, **columns: Any) -> EquityRow:
        """An equity row in dollars."""
        row = EquityRow(
            id=f"equity-{len(self.arrivals)}",
            user_id=USER,
            equity=Decimal(str(equity)),
            currency="USD",
            created_at=at(second),
        )
        return self._add(replace(row, **columns))

    def limits(self, **columns: Any) -> None:
        """Limits from now on."""
        self._add(Limits(user_id=USER, **columns))

    def rate(self, second: float, base: str, quote: str, rate: str) -> None:
        """An exchange rate."""
        self._add(FxRate(base=base, quote=quote, rate=Decimal(rate), created_at=at(second)))

    def silence(self) -> None:
        """Housekeeping finds the syncs overdue."""
        self._add(WentSilent(USER))

    def end_alerts(self, second: float) -> None:
        """Housekeeping ends the alerts whose window has passed at ``second``."""
        self._clock = at(second)
        self._add(AlertsEnded(USER))

    def state(self) -> dict[str, Any]:
        """What the oracle says."""
        return Oracle(USER, (GOLD, YEN)).state(self.arrivals)

    @property
    def open(self) -> dict[str, Any]:
        """The open positions."""
        positions = self.state()["positions"]
        assert positions["total_positions"] == len(positions["open"])
        return dict(positions["open"])

    @property
    def drawdown(self) -> dict[str, Any]:
        return dict(self.state()["guards"]["drawdown"])

    def events(self) -> list[str]:
        """Types of the recent events, newest first."""
        events = self.state()["status"]["recent_events"].values()
        return [
            event["event_type"] for event in sorted(events, key=lambda each: each["created_at"], reverse=True)
        ]

    def _add(self, change: Kind) -> Kind:
        self._clock = max(self._clock, getattr(change, "created_at", None) or self._clock)
        self.arrivals.append(Arrival(change, len(self.arrivals) + 1, self._clock))
        return change
