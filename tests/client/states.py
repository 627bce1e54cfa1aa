"""States as the server sends them: small, valid, and easy to vary."""

from __future__ import annotations

from typing import Any

State = dict[str, Any]


def guards(**breaches: State) -> State:
    """Channel ``guards`` with nothing wrong but the ``breaches``, by id."""
    return {
        "system_status": "healthy",
        "any_positions_should_close": False,
        "drawdown": {
            "alert_type": "normal",
            "should_close_all": False,
            "alert_threshold_pct": 15.0,
            "warning_pct": 15.0,
            "critical_pct": 20.0,
            "minimum_equity": 100.0,
            "current_equity": 9500.0,
            "peak_equity": 10000.0,
            "current_drawdown_pct": 5.0,
        },
        "alerts": {},
        "breaches": breaches,
    }


def breach(**fields: Any) -> State:
    """A market breach that has not cleared."""
    return {"kind": "market", "raised_at": "2026-01-05T09:00:00.000000Z", "symbol": "EURUSD", **fields}


def position(**fields: Any) -> State:
    """One open position."""
    return {
        "position_id": "8c2b1d5e-0000-4000-8000-000000000001",
        "entry_time": "2026-01-05T08:00:00.000000Z",
        "last_updated_at": "2026-01-05T09:00:00.000000Z",
        "symbol": "EURUSD",
        "direction": "buy",
        "volume": 1.0,
        "current_price": 1.1,
        **fields,
    }


def positions(**tickets: State) -> State:
    """Channel ``positions``: the open ones by ticket, each key with a ``t`` before it."""
    book = {name.removeprefix("t"): fields for name, fields in tickets.items()}
    return {"total_positions": len(book), "open": book}


def status(**fields: Any) -> State:
    """Channel ``status`` of an account where all is well."""
    return {
        "status": "healthy",
        "source": "live",
        "total_syncs": 7,
        "open_positions_count": 1,
        "matched_positions": 1,
        "divergences_detected": 0,
        "recent_events": {},
        **fields,
    }


def whole(**channels: State) -> State:
    """All three channels."""
    return {"status": status(), "positions": positions(t11=position()), "guards": guards(), **channels}


def alert(**fields: Any) -> State:
    """A critical drawdown that nobody has acknowledged."""
    return {
        "generation": 1,
        "kind": "drawdown",
        "severity": "critical",
        "subject": "",
        "first_raised_at": "2026-01-05T09:00:00.000000Z",
        "raised_at": "2026-01-05T09:00:00.000000Z",
        "occurrences": 1,
        "level": 0,
        **fields,
    }


def alerts(**open_alerts: State) -> State:
    """Channel ``alerts`` of an account that nobody has to attend."""
    waiting = [each for each in open_alerts.values() if "acknowledged_by" not in each]
    return {
        "unacknowledged": len(waiting),
        "open": open_alerts,
        "attendance": {"armed": False, "status": "disarmed", "attendants": {}},
    }
