"""Market alerts: the latest condition of each symbol and kind, and whether it is bad enough to be shown."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from typing import Final
from uuid import UUID

from realtime.audit import values
from realtime.audit.history import AlertsEnded, Arrival, History, Limits, LogRow

_KINDS: Final = {"gap": "price_gap", "spread": "bid_ask_spread", "liquidity": "low_liquidity"}
_HUMP: Final = re.compile("([a-z])([A-Z])")
#: A word ends where no letter follows; every character beyond ASCII counts as a letter.
_WORD: Final = re.compile(
    r"(?<![a-z\x80-\U0010ffff])(gap|spread|liquidity)s?(?![a-z\x80-\U0010ffff])", re.IGNORECASE | re.ASCII
)


@dataclass(frozen=True)
class Condition:
    """A market condition that a guard trigger reports; ``level`` is normal, warning or critical."""

    #: Id of its breach, should it be critical.
    row_id: str
    symbol: str
    condition_type: str
    level: str
    detected_at: datetime
    window_from: datetime
    expires_at: datetime
    order: int
    before: Decimal | None = None
    after: Decimal | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Names the condition: symbols are compared without case."""
        return values.fold(self.symbol), self.condition_type

    @property
    def pct(self) -> Decimal | None:
        """The measured percentage, rounded for people."""
        found = observed(self)
        return None if found is None else values.rounded(found)


@dataclass
class Raised:
    """A condition that became critical, and when it no longer was."""

    condition: Condition
    raised_at: datetime
    cleared_at: datetime | None = None


def condition_type(reason: str | None) -> str:
    """The kind of condition that a guard trigger's reason speaks of: the first whole word that names one."""
    word = _WORD.search(_HUMP.sub(r"\1 \2", values.text(reason) or ""))
    return "other" if word is None else _KINDS[word[1].lower()]


def condition(arrival: Arrival, row: LogRow, limits: Limits) -> Condition:
    """The condition that the guard trigger ``row`` reports, judged by ``limits``."""
    kind = condition_type(row.divergence_reason)
    first, second = values.price(row.entry_price), values.price(row.current_price)
    reported = Condition(
        row_id=row.id if row.inserted else f"{row.id}.{arrival.order}",
        symbol=values.symbol(row.symbol) or "*",
        condition_type=kind,
        level="warning",
        detected_at=arrival.time,
        window_from=arrival.window_from or arrival.time,
        expires_at=(arrival.window_from or arrival.time) + timedelta(seconds=limits.alert_window_seconds),
        order=arrival.order,
        before=first if kind in _MEASURED else None,
        after=second if kind in _MEASURED else None,
    )
    return replace(reported, level=_level(reported, limits))


_MEASURED: Final = ("price_gap", "bid_ask_spread")


def observed(reported: Condition) -> Decimal | None:
    """The measured share in percent, not rounded; None where figures are missing or make no sense.

    A gap is a share of the price before it, and a spread is a share of the middle of bid and ask. Both shares are of
    the absolute price, because oil traded below 0.
    A bid above the ask is no quote.
    """
    before, after = reported.before, reported.after
    if before is None or after is None:
        return None
    with localcontext(values.EXACT):
        if reported.condition_type == "price_gap":
            return abs(after - before) * 100 / abs(before)
        middle = abs(before + after) / 2
        return None if before > after or middle == 0 else (after - before) * 100 / middle


def _level(reported: Condition, limits: Limits) -> str:
    """Level of a condition; one that was not measured is a warning."""
    pct = observed(reported)
    if pct is None:
        return "warning"
    if reported.condition_type == "price_gap":
        return _at_least(pct >= limits.gap_warning_pct, pct >= limits.gap_critical_pct)
    return _at_least(pct > limits.spread_warning_pct, pct >= limits.spread_critical_pct)


def _at_least(warning: bool, critical: bool) -> str:
    if critical:
        return "critical"
    return "warning" if warning else "normal"


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
                self._judged_anew(arrival, limits)
            case AlertsEnded(user_id=self.user_id):
                for key, ended in list(self.remembered.items()):
                    if ended.expires_at <= arrival.at:
                        del self.remembered[key]
                        self._clear(ended, ended.expires_at)

    def _reported(self, new: Condition, now: datetime) -> None:
        old = self.remembered.get(new.key)
        came_late = old is not None and (old.detected_at, old.order) > (new.detected_at, new.order)
        if new.expires_at > now and not came_late and not self._is_outranked(old, new, now):
            self.remembered[new.key] = new
            self._compare(old, new, new.detected_at)

    def _is_outranked(self, old: Condition | None, new: Condition, now: datetime) -> bool:
        """Whether ``new`` has no figures, and what is known is critical: unknown never ends or lowers that."""
        return old is not None and old.level == "critical" and old.expires_at > now and observed(new) is None

    def _judged_anew(self, arrival: Arrival, limits: Limits) -> None:
        self.limits = limits
        for key, old in self.remembered.items():
            new = self.remembered[key] = replace(
                old,
                level=_level(old, limits),
                expires_at=old.window_from + timedelta(seconds=limits.alert_window_seconds),
            )
            risen = replace(new, row_id=f"{new.row_id.partition('.')[0]}.{arrival.order}")
            self._compare(old, risen, arrival.at)

    def _compare(self, old: Condition | None, new: Condition, moment: datetime) -> None:
        was_critical = old is not None and old.level == "critical"
        if new.level == "critical" and not was_critical:
            self.raised[new.row_id] = Raised(new, moment)
        elif new.level != "critical" and old is not None and was_critical:
            self._clear(old, moment)

    def _clear(self, old: Condition, moment: datetime) -> None:
        """End what stands open for the condition; the row that raised it may have been an earlier one."""
        for raised in self.raised.values():
            if raised.condition.key == old.key and raised.cleared_at is None:
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
