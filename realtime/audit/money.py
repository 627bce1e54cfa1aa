"""Money of one account at one moment: equity, its peak, the drawdown and what is in doubt."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, localcontext
from fractions import Fraction

from realtime.audit import values
from realtime.audit.history import Arrival, History, Limits

_RANK = {None: 0, "normal": 0, "warning": 1, "critical": 2}


@dataclass(frozen=True)
class Peak:
    """The highest equity of some rows in money of today: cash flows scaled it, so it is a fraction."""

    value: Fraction
    time: datetime
    arrived_at: datetime
    row_id: str
    is_scaled: bool = False

    @property
    def shown(self) -> Decimal:
        """As people see it: the row's equity, or rounded where a cash flow scaled it."""
        with localcontext(values.EXACT):
            exact = Decimal(self.value.numerator) / self.value.denominator
        return values.rounded(exact) if self.is_scaled else exact


@dataclass(frozen=True)
class Money:
    """Equity, peak and drawdown at one moment; all None without a row of equity that was accepted.

    ``level`` is what was measured last. ``doubt`` says why it may be otherwise by now.
    """

    currency: str | None = None
    balance: Decimal | None = None
    equity: Decimal | None = None
    equity_at: datetime | None = None
    peak: Peak | None = None
    level: str | None = None
    pct: Decimal | None = None
    doubt: str | None = None
    doubted_equity: Decimal | None = None

    @property
    def alert_type(self) -> str:
        """The level for clients; unknown never takes the place of critical."""
        is_known = self.level is not None and (self.doubt is None or self.level == "critical")
        return self.level or "unknown" if is_known else "unknown"


@dataclass(frozen=True)
class Step:
    """The level after one change and before it; ``cause`` is the id of the event or the breach that it causes.

    ``raised_at`` and ``liquidation_at`` are known while it is critical.
    """

    arrival: Arrival
    cause: str
    moment: datetime
    before: str | None
    level: str | None
    pct: Decimal | None
    raised_at: datetime | None
    liquidation_at: datetime | None

    @property
    def worsened(self) -> bool:
        return _RANK[self.level] > _RANK[self.before]


@dataclass(frozen=True)
class Notice:
    """Something about equity that the server itself found, and the id of its event."""

    event_id: str
    name: str
    moment: datetime
    arrival: Arrival


def limits_of(history: History, user_id: object) -> Limits:
    """The limits that hold at the end of ``history``."""
    own = [arrival.change for arrival in history if isinstance(arrival.change, Limits)]
    return next((limits for limits in reversed(own) if limits.user_id == user_id), Limits(user_id=user_id))  # type: ignore[arg-type]


def fall(peak: Fraction | None, equity: Fraction) -> Fraction | None:
    """How far ``equity`` is below ``peak``, in percent and not rounded; None without a peak."""
    return None if peak is None else (peak - equity) * 100 / peak


def shown_pct(pct: Fraction | None) -> Decimal | None:
    """As people see it: 0 to 100 with 2 decimals."""
    if pct is None:
        return None
    within = min(max(pct, Fraction(0)), Fraction(100))
    with localcontext(values.EXACT):
        return values.rounded(Decimal(within.numerator) / within.denominator)


def level(pct: Fraction | None, equity: Fraction, limits: Limits) -> str:
    """How serious a drawdown of ``pct`` is, which is not rounded: normal, warning or critical."""
    if equity < Fraction(limits.minimum_equity) or (
        pct is not None and pct >= Fraction(limits.drawdown_critical_pct)
    ):
        return "critical"
    return "warning" if pct is not None and pct >= Fraction(limits.drawdown_warning_pct) else "normal"
