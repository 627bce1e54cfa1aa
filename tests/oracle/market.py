"""Market alerts: the latest condition of each symbol and kind, and whether it is bad enough to be shown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from uuid import UUID

from tests.oracle import values
from tests.oracle.history import AlertsEnded, Arrival, History, Limits, LogRow
from tests.oracle.money import limits_of


@dataclass(frozen=True)
class Condition:
    """What one guard trigger says; ``level`` is normal, warning or critical."""

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
    cleared_at: datetime | None = None


def condition_type(reason: str | None) -> str:
    """The kind of condition that a guard trigger's reason speaks of."""
    lowered = (reason or "").lower()
    for word, name in (("gap", "price_gap"), ("spread", "bid_ask_spread"), ("liquidity", "low_liquidity")):
        if word in lowered:
            return name
    return "other"


def condition(arrival: Arrival, row: LogRow, limits: Limits) -> Condition:
    """What the guard trigger ``row`` says under ``limits``."""
    kind = condition_type(row.divergence_reason)
    first, second = values.number(row.entry_price), values.number(row.current_price)
    gap = spread = None
    level = "warning"
    if kind == "price_gap":
        gap = _gap_pct(close=first, opened=second)
        if gap is not None:
            level = _level(gap >= limits.gap_warning_pct, gap >= limits.gap_critical_pct)
    elif kind == "bid_ask_spread":
        spread = _spread_pct(bid=first, ask=second)
        if spread is not None:
            level = _level(spread > limits.spread_warning_pct, spread >= limits.spread_critical_pct)
    else:
        first = second = None
    return Condition(
        row_id=row.id,
        symbol=values.symbol(row.symbol) or "*",
        condition_type=kind,
        level=level,
        detected_at=arrival.time,
        expires_at=arrival.time + timedelta(seconds=limits.alert_window_seconds),
        order=arrival.order,
        gap_pct=gap,
        spread_pct=spread,
        before=first,
        after=second,
    )


def _level(warns: bool, critical: bool) -> str:
    if critical:
        return "critical"
    return "warning" if warns else "normal"


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


def conditions(history: History, user_id: UUID) -> tuple[list[Condition], list[Raised]]:
    """Conditions that are remembered at the end of ``history``, and all that ever became critical."""
    latest: dict[tuple[str, str], Condition] = {}
    raised: dict[tuple[str, str], Raised] = {}
    every: list[Raised] = []
    for index, arrival in enumerate(history):
        change = arrival.change
        if isinstance(change, AlertsEnded) and change.user_id == user_id:
            for key, ended in list(latest.items()):
                if ended.expires_at <= arrival.at:
                    del latest[key]
                    if key in raised:
                        raised.pop(key).cleared_at = ended.expires_at
        if not isinstance(change, LogRow) or not is_guard_trigger(change, user_id):
            continue
        new = condition(arrival, change, limits_of(history[:index], user_id))
        key = new.symbol, new.condition_type
        old = latest.get(key)
        if new.expires_at <= arrival.at or (
            old is not None and (old.detected_at, old.order) > (new.detected_at, new.order)
        ):
            continue
        latest[key] = new
        if new.level == "critical" and key not in raised:
            raised[key] = Raised(new)
            every.append(raised[key])
        elif new.level != "critical" and key in raised:
            raised.pop(key).cleared_at = new.detected_at
    return list(latest.values()), every


def is_guard_trigger(row: LogRow, user_id: UUID) -> bool:
    """Whether ``row`` reports a market condition to ``user_id``."""
    return row.kind == "guard_trigger" and values.user(row.user_id) == user_id
