"""Recent events, and breaches that stay latched."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from realtime.audit import values
from realtime.audit.clock import Clock
from realtime.audit.history import Arrival, History, LogRow
from realtime.audit.market import Raised, is_guard_trigger
from realtime.audit.money import Step
from realtime.audit.ticket import Tickets

LISTED_EVENTS: Final = 5
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

#: An event with its place among the others: by time, then by arrival.
Placed = tuple[tuple[datetime, int], dict[str, Any]]


def recent_events(
    history: History, user_id: UUID, drawdowns: list[Step], clock: Clock
) -> dict[str, dict[str, Any]]:
    """The newest events of ``user_id`` by id; a row that was updated in place has one event, its last.

    ``history`` is settled, and ``clock`` is what it says of the platform's clock.
    """
    found = log_events(history, user_id) | _notices(clock)
    for step in drawdowns:
        if step.worsened:
            event = {
                "event_type": "drawdown_alert",
                "created_at": values.iso(step.moment),
                "alert_type": step.level,
            }
            found[step.cause] = (step.moment, step.arrival.order), event
    return newest(found, LISTED_EVENTS)


def _notices(clock: Clock) -> dict[str, Placed]:
    """The findings of the server itself: equity in doubt, positions no longer mentioned, and a clock that is off."""
    found: dict[str, Placed] = {}
    for notice in clock.purse.notices:
        found[notice.event_id] = (
            (notice.moment, notice.arrival.order),
            {
                "event_type": "drawdown_alert",
                "created_at": values.iso(notice.moment),
                "notice": notice.name,
            },
        )
    for ghost in clock.tickets.ghosts:
        row = ghost.state.change
        assert isinstance(row, LogRow)
        moment = int((ghost.state.time - _EPOCH) / timedelta(microseconds=1))
        found[f"unconfirmed-{ghost.position_id}-{moment}"] = (
            (ghost.look.at, ghost.look.order),
            {
                "event_type": "divergence_detected",
                "created_at": values.iso(ghost.look.at),
                "symbol": values.symbol(row.symbol),
                "mt5_ticket": str(row.ticket),
                "matched": row.match,
                "notice": "position_unconfirmed",
            },
        )
    for arrival in clock.offset_events:
        assert isinstance(arrival.change, LogRow)
        event = {
            "event_type": "position_synced",
            "created_at": values.iso(arrival.at),
            "notice": "clock_offset",
        }
        found[f"clock-{arrival.change.id}"] = (arrival.at, arrival.order), event
    return found


def newest(events: dict[str, Placed], most: int) -> dict[str, dict[str, Any]]:
    """The ``most`` newest of ``events``."""
    latest = sorted(events.items(), key=lambda item: item[1][0], reverse=True)[:most]
    return {event_id: event for event_id, (_, event) in latest}


def log_events(history: History, user_id: UUID) -> dict[str, Placed]:
    """Every event that a row of the log caused for ``user_id``, by the id of the row."""
    found: dict[str, Placed] = {}
    tickets = Tickets()
    for arrival in history:
        row = arrival.change
        if isinstance(row, LogRow) and row.owner == user_id:
            event_type = _event_type(tickets, arrival, row, user_id)
            if event_type is not None:
                found[row.id] = arrival.recency, _event(event_type, arrival, row)
    return found


def _event_type(tickets: Tickets, arrival: Arrival, row: LogRow, user_id: UUID) -> str | None:
    """Type of the event that ``row``, applied last of all, causes; None when it causes none."""
    if is_guard_trigger(row, user_id):
        return "market_condition_alert"
    if not row.bears_position:
        return None
    was_known, before = tickets.knows(row.ticket), tickets.state_of(row.ticket)
    tickets.take(arrival)
    if row.closes:
        return "position_closed" if before is not None or not was_known else None
    return _change(before, row) if tickets.state_of(row.ticket) is row else None


def _change(before: LogRow | None, row: LogRow) -> str | None:
    if before is not None and row.says_the_same(before):
        return None
    if row.match == 2:
        return "divergence_detected"
    return (
        "position_matched" if row.match == 1 and (before is None or before.match != 1) else "position_synced"
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
        critical = step.level == "critical"
        if critical and step.before != "critical":
            current = found[step.cause] = {
                "kind": "drawdown",
                "raised_at": values.iso(step.moment),
                "cleared_at": None,
                "observed_pct": step.pct,
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
            "observed_pct": condition.pct,
        }
    return found
