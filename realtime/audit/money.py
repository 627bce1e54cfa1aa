"""Equity, its peak and the drawdown, worked out anew after each change that could move them.

Cash that came or went is taken out before equities are compared: with C(t) the sum of flows up to t, a row
counts as equity − C(t), and the peak in today's money is the highest of those plus all flows.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from uuid import UUID

from realtime.audit import values
from realtime.audit.history import Arrival, EquityRow, History, Limits

_RANK = {None: 0, "normal": 0, "warning": 1, "critical": 2}


@dataclass(frozen=True)
class Money:
    """Equity, peak and drawdown at one moment; all None without a row of equity."""

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
        """Id of the event or the breach that this step causes."""
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


@dataclass
class _Purse:
    """The usable equity rows of one user so far, by time and then by arrival."""

    user_id: UUID
    limits: Limits
    rows: list[tuple[Arrival, EquityRow, Decimal]] = field(default_factory=list)
    flows: Decimal = Decimal(0)
    highest: Decimal | None = None

    def take(self, arrival: Arrival) -> bool:
        """Apply one more arrival; False when the arrival does not concern this user's money."""
        change = arrival.change
        if isinstance(change, Limits) and change.user_id == self.user_id:
            moved, self.limits = change.peak_since != self.limits.peak_since, change
            if moved:
                self._read_anew()
            return True
        if not isinstance(change, EquityRow) or change.user_id != self.user_id:
            return False
        if (equity := values.number(change.equity)) is not None:
            entry = arrival, change, equity
            in_order = not self.rows or arrival.recency > self.rows[-1][0].recency
            insort(self.rows, entry, key=lambda each: each[0].recency)
            # A row that comes late shifts all that are later: rare, so they are simply read anew.
            if in_order:
                self._add(*entry)
            else:
                self._read_anew()
        return True

    def _read_anew(self) -> None:
        self.flows, self.highest = Decimal(0), None
        for entry in self.rows:
            self._add(*entry)

    def _add(self, arrival: Arrival, row: EquityRow, equity: Decimal) -> None:
        since = self.limits.peak_since
        with localcontext(values.EXACT):
            self.flows += values.number(row.cash_flow) or Decimal(0)
            if equity >= 0 and (since is None or arrival.time >= since):
                without_flows = equity - self.flows
                self.highest = without_flows if self.highest is None else max(self.highest, without_flows)

    def money(self) -> Money:
        """Money after the rows so far."""
        if not self.rows:
            return Money()
        arrival, row, equity = self.rows[-1]
        with localcontext(values.EXACT):
            # The row that is shown always counts: no equity is above its own peak.
            peak = equity if self.highest is None else max(self.highest + self.flows, equity)
        pct = drawdown_pct(peak, equity)
        return Money(
            currency=values.currency(row.currency),
            balance=values.number(row.balance),
            equity=equity,
            equity_at=arrival.time,
            peak=peak,
            drawdown_pct=pct,
            level=level(pct, equity, self.limits),
        )


def money(history: History, user_id: UUID) -> Money:
    """Money of ``user_id`` after ``history``."""
    purse = _Purse(user_id, Limits(user_id=user_id))
    for arrival in history:
        purse.take(arrival)
    return purse.money()


def drawdown_pct(peak: Decimal, current: Decimal) -> Decimal:
    """How far ``current`` is below ``peak``, 0 to 100 with 2 decimals."""
    if peak <= 0:
        return Decimal(0)
    with localcontext(values.EXACT):
        pct = (peak - current) * 100 / peak
    return values.rounded(min(max(pct, Decimal(0)), Decimal(100)))


def level(pct: Decimal, equity: Decimal, limits: Limits) -> str:
    """How serious a drawdown of ``pct`` is: normal, warning or critical."""
    if pct >= limits.drawdown_critical_pct or equity < limits.minimum_equity:
        return "critical"
    return "warning" if pct >= limits.drawdown_warning_pct else "normal"


def steps(history: History, user_id: UUID) -> list[Step]:
    """Every change that could move the drawdown of ``user_id``, in order."""
    found: list[Step] = []
    purse = _Purse(user_id, Limits(user_id=user_id))
    before, raised_at, liquidation_at = Money(), None, None
    for arrival in history:
        if not purse.take(arrival):
            continue
        step = Step(arrival, before, purse.money(), raised_at, liquidation_at)
        if step.after.level != "critical":
            raised_at = liquidation_at = None
        elif before.level != "critical":
            raised_at = step.moment
            liquidation_at = raised_at + timedelta(seconds=purse.limits.countdown_seconds)
        found.append(Step(arrival, before, step.after, raised_at, liquidation_at))
        before = step.after
    return found
