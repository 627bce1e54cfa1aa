"""Market alerts: the latest condition of each symbol and kind, and whether it is bad enough to be shown."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from uuid import UUID

from realtime.audit import values
from realtime.audit.history import AlertsEnded, Arrival, History, Limits, LogRow


@dataclass(frozen=True)
class Condition:
    """A market condition that a guard trigger reports; ``level`` is normal, warning or critical."""

    row_id: str
    symbol: str
    condition_type: str
    level: str
    detected_at: datetime
    expires_at: datetime
    order: int
    gap_pct: Decimal | None = None
    spread_pct: Decimal | None = None
    before: Decimal | None = None
    after: Decimal | None = None


@dataclass
class Raised:
    """A condition that became critical, and when it no longer was."""

    condition: Condition
    raised_at: datetime
    cleared_at: datetime | None = None


def condition_type(reason: str | None) -> str:
    """The kind of condition that a guard trigger's reason speaks of."""
    lowered = (reason or "").lower()
    for word, name in (("gap", "price_gap"), ("spread", "bid_ask_spread"), ("liquidity", "low_liquidity")):
        if word in lowered:
            return name
    return "other"


def condition(arrival: Arrival, row: LogRow, limits: Limits) -> Condition:
    """The condition that the guard trigger ``row`` reports, judged by ``limits``."""
    kind = condition_type(row.divergence_reason)
    first, second = values.number(row.entry_price), values.number(row.current_price)
    gap = _gap_pct(close=first, opened=second) if kind == "price_gap" else None
    spread = _spread_pct(bid=first, ask=second) if kind == "bid_ask_spread" else None
    return Condition(
        row_id=row.id,
        symbol=values.symbol(row.symbol) or "*",
        condition_type=kind,
        level=_level(gap, spread, limits),
        detected_at=arrival.time,
        expires_at=arrival.time + timedelta(seconds=limits.alert_window_seconds),
        order=arrival.order,
        gap_pct=gap,
        spread_pct=spread,
        before=first,
        after=second,
    )


def _level(gap: Decimal | None, spread: Decimal | None, limits: Limits) -> str:
    """Level of a condition; one that was not measured is a warning."""
    if gap is not None:
        return _at_least(gap >= limits.gap_warning_pct, gap >= limits.gap_critical_pct)
    if spread is not None:
        return _at_least(spread > limits.spread_warning_pct, spread >= limits.spread_critical_pct)
    return "warning"


def _at_least(warning: bool, critical: bool) -> str:
    if critical:
        return "critical"
    return "warning" if warning else "normal"


def _gap_pct(*, close: Decimal | None, opened: Decimal | None) -> Decimal | None:
    if close is None or opened is None or close <= 0:
        return None
    with localcontext(values.EXACT):
        return values.rounded(abs(opened - close) * 100 / close)


def _spread_pct(*, bid: Decimal | None, ask: Decimal | None) -> Decimal | None:
    if bid is None or ask is None or ask + bid <= 0:
        return None
    with localcontext(values.EXACT):
        return values.rounded((ask - bid) * 100 / ((ask + bid) / 2))


@dataclass
class Conditions:
    """Everything that was reported to one account and is remembered, and all that ever became critical."""

    user_id: UUID
    remembered: dict[tuple[str, str], Condition] = field(default_factory=dict)
    raised: dict[str, Raised] = field(default_factory=dict)
    limits: Limits = field(init=False)

    def __post_init__(self) -> None:
        self.limits = Limits(user_id=self.user_id)

    def take(self, arrival: Arrival) -> None:
        """Apply one arrival."""
        match arrival.change:
            case LogRow() as row if is_guard_trigger(row, self.user_id):
                self._reported(condition(arrival, row, self.limits), arrival.at)
            case Limits(user_id=self.user_id) as limits:
                self._judged_anew(limits, arrival.at)
            case AlertsEnded(user_id=self.user_id):
                for key, ended in list(self.remembered.items()):
                    if ended.expires_at <= arrival.at:
                        del self.remembered[key]
                        self._clear(ended, ended.expires_at)

    def _reported(self, new: Condition, now: datetime) -> None:
        key = new.symbol, new.condition_type
        old = self.remembered.get(key)
        came_late = old is not None and (old.detected_at, old.order) > (new.detected_at, new.order)
        if new.expires_at > now and not came_late:
            self.remembered[key] = new
            self._compare(old, new, new.detected_at)

    def _judged_anew(self, limits: Limits, now: datetime) -> None:
        self.limits = limits
        for key, old in self.remembered.items():
            new = self.remembered[key] = replace(
                old,
                level=_level(old.gap_pct, old.spread_pct, limits),
                expires_at=old.detected_at + timedelta(seconds=limits.alert_window_seconds),
            )
            self._compare(old, new, now)

    def _compare(self, old: Condition | None, new: Condition, moment: datetime) -> None:
        was_critical = old is not None and old.level == "critical"
        if new.level == "critical" and not was_critical:
            raised_at = self.raised[new.row_id].raised_at if new.row_id in self.raised else moment
            self.raised[new.row_id] = Raised(new, raised_at)
        elif new.level != "critical" and old is not None and was_critical:
            self._clear(old, moment)

    def _clear(self, old: Condition, moment: datetime) -> None:
        """End what stands open for the condition; the row that raised it may have been an earlier one."""
        for raised in self.raised.values():
            same = (raised.condition.symbol, raised.condition.condition_type) == (
                old.symbol,
                old.condition_type,
            )
            if same and raised.cleared_at is None:
                raised.cleared_at = max(moment, raised.raised_at)


def conditions(history: History, user_id: UUID) -> Conditions:
    """The market conditions of ``user_id`` at the end of ``history``."""
    found = Conditions(user_id)
    for arrival in history:
        found.take(arrival)
    return found


def is_guard_trigger(row: LogRow, user_id: UUID) -> bool:
    """Whether ``row`` reports a market condition to ``user_id``."""
    return row.kind == "guard_trigger" and row.owner == user_id
