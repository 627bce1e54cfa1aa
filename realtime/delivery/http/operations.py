"""The descriptions of all routes in the OpenAPI document. The examples of REST are made from one example state by the
same functions that make answers.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import msgspec

from auth.identity import ADMIN_SCOPE
from guardwire.messages import SnapshotFrame, Update
from guardwire.patch import State
from guardwire.state import CHANNELS, DEFAULT_CHANNELS
from realtime.delivery.http import documents
from realtime.delivery.http.documents import (
    GuardsStatus,
    OpenPositions,
    PositionRecord,
    ReconciliationStatus,
    TradingHealth,
)
from realtime.delivery.http.openapi import Operation
from realtime.delivery.http.parameters import SYMBOL_PATTERN
from realtime.delivery.http.problems import (
    CONTENT_TOO_LARGE,
    INVALID_PARAMETER,
    NOT_FOUND,
    TOO_MANY_REQUESTS,
    TYPES_PATH,
    ProblemDescription,
    describe_type,
)
from realtime.delivery.http.service import (
    TICKETS_AT_ONCE,
    TICKETS_PER_SECOND,
    RevocationDocument,
    RevocationRequest,
    TicketDocument,
)

_USER: Final = "5f2b7c1e-3d4a-4e8b-9c6d-0a1b2c3d4e5f"
_AS_OF: Final = "2025-01-15T10:30:12.250000Z"

EXAMPLE_STATE: Final[State] = {
    "status": {
        "status": "warning",
        "source": "live",
        "last_sync_at": "2025-01-15T10:30:10.000000Z",
        "last_sync_duration_ms": 42.5,
        "total_syncs": 8640,
        "open_positions_count": 1,
        "matched_positions": 1,
        "divergences_detected": 1,
        "recent_events": {
            "9d3c1f6a-7b2e-4c58-8a91-6e5d4c3b2a10": {
                "event_type": "divergence_detected",
                "created_at": "2025-01-15T10:30:10.000000Z",
                "symbol": "EURUSD",
                "mt5_ticket": "2147483655",
                "matched": 2,
                "divergence_reason": "volume_mismatch",
                "description": "EURUSD #2147483655 diverges from the broker: volume_mismatch",
            }
        },
    },
    "positions": {
        "total_positions": 1,
        "total_unrealized_pnl": 52.5,
        "total_unrealized_pnl_pct": 0.53,
        "currency": "USD",
        "last_updated_at": "2025-01-15T10:30:10.000000Z",
        "open": {
            "2147483648": {
                "position_id": "0b8f5a52-4f0e-4d6f-9a57-2f1c3f6a7b2e",
                "symbol": "XAUUSD",
                "direction": "buy",
                "volume": 0.1,
                "entry_price": 1950.5,
                "entry_time": "2025-01-15T09:00:00.000000Z",
                "current_price": 1955.75,
                "unrealized_pnl": 52.5,
                "unrealized_pnl_pct": 0.27,
                "pnl_currency": "USD",
                "stop_loss": 1940.0,
                "last_updated_at": "2025-01-15T10:30:10.000000Z",
            }
        },
    },
    "guards": {
        "system_status": "warning",
        "any_positions_should_close": True,
        "drawdown": {
            "alert_type": "critical",
            "should_close_all": True,
            "alert_threshold_pct": 20.0,
            "warning_pct": 15.0,
            "critical_pct": 20.0,
            "minimum_equity": 100.0,
            "current_equity": 8000.0,
            "peak_equity": 10000.0,
            "current_drawdown_pct": 20.0,
            "currency": "USD",
            "liquidation_at": "2025-01-15T10:31:00.000000Z",
            "last_checked_at": "2025-01-15T10:30:00.000000Z",
        },
        "alerts": {
            "EURUSD:bid_ask_spread": {
                "symbol": "EURUSD",
                "condition_type": "bid_ask_spread",
                "alert_type": "warning",
                "bid_ask_spread_pct": 0.6,
                "bid": 1.082,
                "ask": 1.0885,
                "should_close_positions": False,
                "detected_at": "2025-01-15T10:12:00.000000Z",
            }
        },
        "breaches": {},
    },
}
_OPEN: Final = documents.open_positions(_USER, EXAMPLE_STATE["positions"])

_SYMBOL: Final[dict[str, Any]] = {
    "name": "symbol",
    "in": "query",
    "required": False,
    "description": "Only positions of exactly this symbol, in any case. Totals are then of these; one that"
    " is unknown gives an empty list.",
    "schema": {"type": "string", "pattern": f"^{SYMBOL_PATTERN}$"},
    "example": "XAUUSD",
}
_POSITION_ID: Final[dict[str, Any]] = {
    "name": "position_id",
    "in": "path",
    "required": True,
    "description": "The position's id, or the id of any row of the platform's log that tells of it.",
    "schema": {"type": "string", "format": "uuid"},
    "example": _OPEN.positions[0].position_id,
}
_PROBLEM_NAME: Final[dict[str, Any]] = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "The last part of a problem's `type`.",
    "schema": {"type": "string"},
    "example": NOT_FOUND.name,
}

REST_OPERATIONS: Final = (
    Operation(
        path="/api/v1/reconciliation/status",
        operation_id="getReconciliationStatus",
        summary="Is the reconciliation alive, and do bot and broker agree?",
        description="`warning` while a divergence is open, else `idle` without an open position, else"
        " `healthy`; `unknown` until the account's history has been read. `source` is `silent`"
        " when no sync came in time.",
        tag="account",
        answers=ReconciliationStatus,
        example=documents.reconciliation_status(_USER, EXAMPLE_STATE["status"]),
        needs_token=True,
        is_versioned=True,
    ),
    Operation(
        path="/api/v1/positions/open",
        operation_id="listOpenPositions",
        summary="The open positions that bot and broker agree on",
        tag="account",
        answers=OpenPositions,
        example=_OPEN,
        needs_token=True,
        is_versioned=True,
        parameters=(_SYMBOL,),
        problems=(INVALID_PARAMETER,),
    ),
    Operation(
        path="/api/v1/positions/{position_id}",
        operation_id="getPosition",
        summary="One position, open or closed",
        description="Read from the database each time, and therefore limited to 20 a second and user (40 at"
        " once).",
        tag="account",
        answers=PositionRecord,
        example=_OPEN.positions[0],
        needs_token=True,
        is_versioned=True,
        parameters=(_POSITION_ID,),
        problems=(NOT_FOUND, INVALID_PARAMETER, TOO_MANY_REQUESTS),
    ),
    Operation(
        path="/api/v1/guards/status",
        operation_id="getGuardsStatus",
        summary="Drawdown and market alerts: what must make a bot act",
        description="While a countdown to liquidation runs, the seconds that remain are part of the entity"
        " tag, so that a 304 never confirms an old countdown.",
        tag="account",
        answers=GuardsStatus,
        example=documents.guards_status(
            _USER,
            EXAMPLE_STATE["guards"],
            as_of=_AS_OF,
            countdown_seconds=47,
        ),
        needs_token=True,
        is_versioned=True,
    ),
    Operation(
        path="/api/v1/trading/health",
        operation_id="getTradingHealth",
        summary="The process answers; nothing else is looked at",
        tag="service",
        answers=TradingHealth,
        example=TradingHealth(status="healthy", timestamp=_AS_OF, service="trading-api"),
    ),
    Operation(
        path="/api/v1/openapi.json",
        operation_id="getOpenApi",
        summary="This document",
        tag="service",
        answers=dict[str, Any],
        example={"openapi": "3.1.0"},
    ),
    Operation(
        path=TYPES_PATH,
        operation_id="listProblemTypes",
        summary="The types of problems, and what mends them",
        tag="service",
        answers=list[ProblemDescription],
        example=[describe_type(NOT_FOUND)],
    ),
    Operation(
        path=TYPES_PATH + "/{name}",
        operation_id="getProblemType",
        summary="One type of problem",
        tag="service",
        answers=ProblemDescription,
        example=describe_type(NOT_FOUND),
        parameters=(_PROBLEM_NAME,),
        problems=(NOT_FOUND,),
    ),
)


SERVICE_OPERATIONS: Final = (
    Operation(
        path="/api/v1/tickets",
        operation_id="issueTicket",
        method="post",
        summary="A one-time ticket, for browsers that cannot set headers",
        description="To be used once, as `?ticket=` of /api/v1/stream; it is good for seconds. A user gets"
        f" {TICKETS_AT_ONCE} at once, and {TICKETS_PER_SECOND:g} a second after that.",
        tag="credentials",
        answers=TicketDocument,
        example=TicketDocument("x" * 43, 30.0),
        needs_token=True,
        problems=(TOO_MANY_REQUESTS,),
    ),
    Operation(
        path="/api/v1/admin/revocations",
        operation_id="revoke",
        method="post",
        summary="Revoke a user's tokens, or one token",
        description=f"Needs the scope `{ADMIN_SCOPE}`. Open streams end within seconds everywhere.",
        tag="credentials",
        takes=RevocationRequest,
        takes_example=RevocationRequest(
            user_id=UUID("5f2b7c1e-3d4a-4e8b-9c6d-0a1b2c3d4e5f"), reason="lost laptop"
        ),
        answers=RevocationDocument,
        example=RevocationDocument(),
        needs_token=True,
        problems=(INVALID_PARAMETER, CONTENT_TOO_LARGE),
    ),
    Operation(
        path="/livez",
        operation_id="getLiveness",
        summary="The process is alive; nothing else is looked at",
        tag="service",
        answers=str,
        example="alive\n",
        media_type="text/plain",
    ),
    Operation(
        path="/readyz",
        operation_id="getReadiness",
        summary="Whether this node should get new clients",
        tag="service",
        answers=str,
        example="ready\n",
        media_type="text/plain",
        other_answers={
            "503": {
                "description": "It should not, and why: it is starting, draining or blind.",
                "content": {"text/plain": {"schema": {"type": "string"}, "example": "draining\n"}},
            }
        },
    ),
    Operation(
        path="/metrics",
        operation_id="getMetrics",
        summary="What this process has counted, in Prometheus' text format",
        tag="service",
        answers=str,
        example="guardwire_sockets 42\n",
        media_type="text/plain",
    ),
)


_SNAPSHOT: Final = SnapshotFrame(
    epoch=13888,
    revision=1736937012250000,
    as_of="2025-01-15T10:30:12.250000Z",
    age_ms=12,
    state={"guards": EXAMPLE_STATE["guards"]},
)

_NAMES: Final = "|".join(CHANNELS)
_CHANNELS: Final[dict[str, Any]] = {
    "name": "channels",
    "in": "query",
    "required": False,
    "description": f"A comma-separated choice of {', '.join(CHANNELS)}; {', '.join(DEFAULT_CHANNELS)} without it.",
    "schema": {"type": "string", "pattern": f"^({_NAMES})(,({_NAMES}))*$"},
    "example": "guards",
}
_SINCE: Final[dict[str, Any]] = {
    "name": "since",
    "in": "query",
    "required": False,
    "description": "The position, epoch:revision, that the caller holds.",
    "schema": {"type": "string", "pattern": "^[0-9]{1,16}:[0-9]{1,16}$"},
}
_WAIT: Final[dict[str, Any]] = {
    "name": "wait",
    "in": "query",
    "required": False,
    "description": "With `since`: how many seconds to wait for a change.",
    "schema": {"type": "number", "minimum": 0, "maximum": 55},
}
_TICKET: Final[dict[str, Any]] = {
    "name": "ticket",
    "in": "query",
    "required": False,
    "description": "A one-time ticket, where the caller cannot send a token in a header.",
    "schema": {"type": "string"},
}
_LAST_EVENT_ID: Final[dict[str, Any]] = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "The id of the last event, epoch:revision, from which to go on.",
    "schema": {"type": "string"},
}

STREAM_OPERATIONS: Final = (
    Operation(
        path="/api/v1/state",
        operation_id="getState",
        summary="The state as one frame, or with `since` the next update, waited for",
        description="Without `since` the snapshot frame. With it, one update as soon as something changed;"
        " 304 when nothing did in `wait` seconds; a snapshot where the history does not reach"
        " back.",
        tag="stream",
        answers=SnapshotFrame | Update,
        example=_SNAPSHOT,
        needs_token=True,
        is_versioned=True,
        parameters=(_CHANNELS, _SINCE, _WAIT),
        problems=(INVALID_PARAMETER, TOO_MANY_REQUESTS),
    ),
    Operation(
        path="/api/v1/stream",
        operation_id="openStream",
        summary="The stream as Server-Sent Events",
        description="The frames of the WebSocket, one an event; an event's id is the position to go on from.",
        tag="stream",
        answers=str,
        example=f"id: 13888:1736937012250000\ndata: {msgspec.json.encode(_SNAPSHOT).decode()}\n\n",
        media_type="text/event-stream",
        needs_token=True,
        parameters=(_CHANNELS, _SINCE, _TICKET, _LAST_EVENT_ID),
        problems=(INVALID_PARAMETER, TOO_MANY_REQUESTS),
    ),
)
