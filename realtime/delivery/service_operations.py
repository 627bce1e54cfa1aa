"""What the OpenAPI document says of tickets, revocation, and what operators and their machines ask."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from auth.identity import ADMIN_SCOPE
from realtime.delivery.credentials import (
    TICKETS_AT_ONCE,
    TICKETS_PER_SECOND,
    RevocationDocument,
    RevocationRequest,
    TicketDocument,
)
from realtime.delivery.openapi import Operation
from realtime.delivery.problems import CONTENT_TOO_LARGE, INVALID_PARAMETER, TOO_MANY_REQUESTS

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
