"""Equity, its peak and the drawdown, worked out anew after each change that could move them.

Cash that came or went is taken out before equities are compared: with C(t) the sum of flows up to t, a row
counts as equity − C(t), and the peak in today's money is the highest of those plus all flows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from uuid import UUID

from realtime.audit import values
from realtime.audit.history import Arrival, EquityRow, History, Limits

_RANK = {None: 0, "normal": 0, "warning": 1, "critical": 2}


@dataclass(frozen=True)
class Money:
    """What the equity rows on record say at one moment; all None without one."""

    currency: str | None = None
    balance: Decimal | None = None
    equity: Decimal | None = None
    equity_at: datetime | None = None
    peak: Decimal | None = None
    drawdown_pct: Decimal | None = None
    level: str | None = None


@dataclass(frozen=True)
class Step:
    """The money after one change and before it; ``raised_at`` and ``liquidation_at`` while it is critical."""

    arrival: Arrival
    before: Money
    after: Money
    raised_at: datetime | None
    liquidation_at: datetime | None

    @property
    def worsened(self) -> bool:
        return _RANK[self.after.level] > _RANK[self.before.level]

    @property
    def cause(self) -> str:
        """What an event or a breach of this step is called."""
        change = self.arrival.change
        return change.id if isinstance(change, EquityRow) else f"limits-{self.arrival.order}"

    @property
    def moment(self) -> datetime:
        """The time of the latest equity row, at most the clock's; the clock's where limits changed."""
        if isinstance(self.arrival.change, Limits) or self.after.equity_at is None:
            return self.arrival.at
        return min(self.after.equity_at, self.arrival.at)


def limits_of(history: History, user_id: UUID) -> Limits:
    """The limits that hold at the end of ``history``."""
    own = [arrival.change for arrival in history if isinstance(arrival.change, Limits)]
    return next((limits for limits in reversed(own) if limits.user_id == user_id), Limits(user_id=user_id))


def money(history: History, user_id: UUID) -> Money:
    """What ``history`` says about the money of ``user_id``."""
    rows = [
        (arrival, arrival.change, equity)
        for arrival in history
        if isinstance(arrival.change, EquityRow)
        and arrival.change.user_id == user_id
        and (equity := values.number(arrival.change.equity)) is not None
    ]
    if not rows:
        return Money()
    rows.sort(key=lambda each: each[0].recency)
    limits = limits_of(history, user_id)
    _, current_row, current = rows[-1]
    peak = _peak(rows, limits)
    pct = _drawdown_pct(peak, current)
    return Money(
        currency=values.currency(current_row.currency),
        balance=values.number(current_row.balance),
        equity=current,
        equity_at=rows[-1][0].time,
        peak=peak,
        drawdown_pct=pct,
        level=_level(pct, current, limits),
    )


def _peak(rows: list[tuple[Arrival, EquityRow, Decimal]], limits: Limits) -> Decimal:
    flows = Decimal(0)
    adjusted: list[tuple[Arrival, Decimal, Decimal]] = []
    with localcontext(values.EXACT):
        for arrival, row, equity in rows:
            flows += values.number(row.cash_flow) or Decimal(0)
            adjusted.append((arrival, equity, equity - flows))
        since = limits.peak_since
        # The row that is shown counts whatever it is: no equity is above its own peak.
        counted = [
            without_flows
            for arrival, equity, without_flows in adjusted
            if arrival is adjusted[-1][0] or (equity >= 0 and (since is None or arrival.time >= since))
        ]
        return max(counted) + flows


def _drawdown_pct(peak: Decimal, current: Decimal) -> Decimal:
    if peak <= 0:
        return Decimal(0)
    with localcontext(values.EXACT):
        pct = (peak - current) * 100 / peak
    return values.rounded(min(max(pct, Decimal(0)), Decimal(100)))


def _level(pct: Decimal, equity: Decimal, limits: Limits) -> str:
    if pct >= limits.drawdown_critical_pct or equity < limits.minimum_equity:
        return "critical"
    return "warning" if pct >= limits.drawdown_warning_pct else "normal"


def steps(history: History, user_id: UUID) -> list[Step]:
    """Every change that could move the drawdown of ``user_id``, in order."""
    found: list[Step] = []
    before, raised_at, liquidation_at = Money(), None, None
    for index, arrival in enumerate(history):
        if not isinstance(arrival.change, EquityRow | Limits) or arrival.change.user_id != user_id:
            continue
        seen = history[: index + 1]
        step = Step(arrival, before, money(seen, user_id), raised_at, liquidation_at)
        if step.after.level != "critical":
            raised_at = liquidation_at = None
        elif before.level != "critical":
            raised_at = step.moment
            liquidation_at = raised_at + timedelta(seconds=limits_of(seen, user_id).countdown_seconds)
        found.append(Step(arrival, before, step.after, raised_at, liquidation_at))
        before = step.after
    return found
