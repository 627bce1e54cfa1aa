"""What the OpenAPI document says of the stream's transports over plain HTTP; PROTOCOL.md says what frames
mean.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from guardwire.messages import Snapshot, Update
from guardwire.state import CHANNELS
from realtime.delivery.openapi import Operation
from realtime.delivery.problems import INVALID_PARAMETER, TOO_MANY_REQUESTS
from realtime.delivery.rest_operations import EXAMPLE_STATE

_SNAPSHOT: Final = Snapshot(
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
    "description": f"A comma-separated choice of {', '.join(CHANNELS)}; all of them without it.",
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
        answers=Snapshot | Update,
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
