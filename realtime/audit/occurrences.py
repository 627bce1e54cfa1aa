"""What is listed as a recent event, and which breaches stay latched."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from realtime.audit import values
from realtime.audit.history import Arrival, History, LogRow
from realtime.audit.market import Raised, is_guard_trigger
from realtime.audit.money import Step
from realtime.audit.ticket import Ticket, ticket

_LISTED_EVENTS = 5


def recent_events(history: History, user_id: UUID, drawdowns: list[Step]) -> dict[str, dict[str, Any]]:
    """The newest events of ``user_id`` by id; a row that was updated in place has one event, its last."""
    found: dict[str, tuple[tuple[datetime, int], dict[str, Any]]] = {}
    for index, arrival in enumerate(history):
        row = arrival.change
        if not isinstance(row, LogRow) or values.user(row.user_id) != user_id:
            continue
        event_type = _event_type(history[: index + 1], arrival, row, user_id)
        if event_type is not None:
            found[row.id] = arrival.recency, _event(event_type, arrival, row)
    for step in drawdowns:
        if step.worsened:
            created_at = step.moment
            event = {"event_type": "drawdown_alert", "created_at": values.iso(created_at)}
            found[step.cause] = (created_at, step.arrival.order), event
    newest = sorted(found.items(), key=lambda item: item[1][0], reverse=True)[:_LISTED_EVENTS]
    return {event_id: event for event_id, (_, event) in newest}


def _event_type(history: History, arrival: Arrival, row: LogRow, user_id: UUID) -> str | None:
    """What ``row``, the last of ``history``, changed that is worth telling."""
    if is_guard_trigger(row, user_id):
        return "market_condition_alert"
    if not row.bears_position:
        return None
    assert row.ticket is not None
    own = [each for each in history if _is_of(each, user_id)]
    before = ticket(own[:-1], row.ticket)
    after = ticket(own, row.ticket)
    was_open = before is not None and before.state is not None
    if row.closes:
        return "position_closed" if before is None or was_open else None
    if after is None or after.state is not arrival:
        return None
    return _change(before if was_open else None, row)


def _is_of(arrival: Arrival, user_id: UUID) -> bool:
    return isinstance(arrival.change, LogRow) and values.user(arrival.change.user_id) == user_id


def _change(before: Ticket | None, row: LogRow) -> str | None:
    old = before.state.change if before is not None and before.state is not None else None
    if isinstance(old, LogRow) and _shown(old) == _shown(row):
        return None
    if row.match == 2:
        return "divergence_detected"
    if row.match == 1 and (not isinstance(old, LogRow) or old.match != 1):
        return "position_matched"
    return "position_synced"


def _shown(row: LogRow) -> tuple[Any, ...]:
    """Everything about a position that is more than its price and its times."""
    return (
        values.volume(row.volume),
        values.direction(row.direction),
        values.symbol(row.symbol),
        values.number(row.entry_price),
        values.number(row.take_profit),
        values.number(row.stop_loss),
        row.match,
        values.text(row.divergence_reason),
    )


def _event(event_type: str, arrival: Arrival, row: LogRow) -> dict[str, Any]:
    number = values.ticket(row.ticket)
    return {
        "event_type": event_type,
        "created_at": values.iso(arrival.time),
        "symbol": values.symbol(row.symbol),
        "mt5_ticket": None if number is None else str(number),
        "matched": row.match,
        "pnl_gbp": values.number(row.pnl_gbp),
        "divergence_reason": values.text(row.divergence_reason),
    }


def breaches(drawdowns: list[Step], market: Iterable[Raised]) -> dict[str, dict[str, Any]]:
    """Everything that became critical, by the id of the row that made it so; absent fields are None."""
    found: dict[str, dict[str, Any]] = {}
    current: dict[str, Any] | None = None
    for step in drawdowns:
        critical = step.after.level == "critical"
        if critical and step.before.level != "critical":
            current = found[step.cause] = {
                "kind": "drawdown",
                "raised_at": values.iso(step.moment),
                "cleared_at": None,
                "observed_pct": step.after.drawdown_pct,
            }
        elif not critical and current is not None:
            # Limits are changed now, rows may be of a while ago: nothing ends before it began.
            current["cleared_at"] = max(values.iso(step.moment), current["raised_at"])
            current = None
    for raised in market:
        condition = raised.condition
        found[condition.row_id] = {
            "kind": "market",
            "symbol": condition.symbol,
            "condition_type": condition.condition_type,
            "raised_at": values.iso(raised.raised_at),
            "cleared_at": None if raised.cleared_at is None else values.iso(raised.cleared_at),
            "observed_pct": condition.gap_pct if condition.gap_pct is not None else condition.spread_pct,
        }
    return found
