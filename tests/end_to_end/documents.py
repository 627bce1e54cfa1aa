"""The three REST documents, put into the shape of the stream's state for comparison."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from tests.end_to_end.node import Node

#: Fields of the stream that no document has, by the object that they are in.
_EVENT_ONLY: Final = ("alert_type",)
_POSITION_ONLY: Final = ("matched",)
_GUARDS_ONLY: Final = ("breaches", "normal_alerts")
_DRAWDOWN_ONLY: Final = ("warning_pct", "critical_pct", "minimum_equity", "liquidation_at")


async def read_documents(node: Node, user_id: UUID) -> dict[str, Any]:
    """Read all three documents of ``user_id``; fails when they contradict each other."""
    status = await node.get("/api/v1/reconciliation/status", user_id)
    positions = await node.get("/api/v1/positions/open", user_id)
    guards = await node.get("/api/v1/guards/status", user_id)
    for document in (status, positions, guards, guards["drawdown_guard"], *status["recent_events"]):
        assert document.pop("user_id") == str(user_id)
    assert status["open_positions_count"] == positions["total_positions"]
    return {"status": _status(status), "positions": _positions(positions), "guards": _guards(guards)}


def without_what_only_the_stream_tells(state: dict[str, Any]) -> dict[str, Any]:
    """A state without the fields that no document has; documents list normal alerts among the others."""
    status, positions, guards = state["status"], state["positions"], state["guards"]
    events = {name: _without(event, _EVENT_ONLY) for name, event in status["recent_events"].items()}
    unmatched = positions.get("unmatched", {})
    return {
        "status": status | {"recent_events": events},
        "positions": positions
        | {"unmatched": {ticket: _without(each, _POSITION_ONLY) for ticket, each in unmatched.items()}},
        "guards": _without(guards, _GUARDS_ONLY)
        | {
            "drawdown": _without(guards["drawdown"], _DRAWDOWN_ONLY),
            "alerts": guards["alerts"] | guards.get("normal_alerts", {}),
        },
    }


def _without(fields: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


def _status(document: dict[str, Any]) -> dict[str, Any]:
    events = document.pop("recent_events")
    times = [event["created_at"] for event in events]
    assert times == sorted(times, reverse=True)
    assert len(events) <= 5
    if document["recorded"]:
        del document["recorded"]
    if not document["counts_at_arrival"]:
        del document["counts_at_arrival"]
    return _present(document) | {"recent_events": {event.pop("event_id"): _event(event) for event in events}}


def _event(event: dict[str, Any]) -> dict[str, Any]:
    metadata = event.pop("metadata")
    flat = _present(event | metadata)
    if "mt5_ticket" in flat:
        flat["mt5_ticket"] = str(flat["mt5_ticket"])
    return flat


def _positions(document: dict[str, Any]) -> dict[str, Any]:
    matched, unmatched = document.pop("positions"), document.pop("unmatched_positions")
    return _present(document) | {
        "open": _book(matched, is_matched=True),
        "unmatched": _book(unmatched, is_matched=False),
    }


def _book(positions: list[dict[str, Any]], *, is_matched: bool) -> dict[str, Any]:
    times = [position["entry_time"] for position in positions]
    assert times == sorted(times, reverse=True)
    return {str(each.pop("ticket")): _position(each, is_matched=is_matched) for each in positions}


def _position(position: dict[str, Any], *, is_matched: bool) -> dict[str, Any]:
    assert position.pop("status") == "open"
    assert position.pop("matched_with_bot") is is_matched
    if not position["contract_size_assumed"]:
        del position["contract_size_assumed"]
    return _present(position)


def _guards(document: dict[str, Any]) -> dict[str, Any]:
    drawdown, alerts = document.pop("drawdown_guard"), document.pop("market_guard_alerts")
    remains = drawdown.pop("time_to_liquidation_seconds")
    assert (remains is not None) is drawdown["should_close_all"]
    assert document.pop("last_evaluated_at").endswith("Z")
    return _present(document) | {
        "drawdown": _present(drawdown),
        "alerts": {f"{alert['symbol']}:{alert['condition_type']}": _present(alert) for alert in alerts},
    }


def _present(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if value is not None}
