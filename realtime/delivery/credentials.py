"""`POST /api/v1/tickets` for browsers that cannot set headers, and `POST /api/v1/admin/revocations` for
operators.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Final
from uuid import UUID

import msgspec
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from auth.claims import is_token_id
from auth.identity import ADMIN_SCOPE, Identity
from auth.revocation import MAX_REASON_CHARACTERS, Revocations
from auth.tickets import Tickets
from realtime.delivery.answer import send_json
from realtime.delivery.rate_limit import RateLimit

Authenticate = Callable[[Scope], Awaitable[Identity]]

#: A page fetches one ticket for each event stream that it opens; each is kept in Redis for half a minute.
TICKETS_AT_ONCE: Final = 20
TICKETS_PER_SECOND: Final = 1.0

_MAX_BODY_BYTES: Final = 4096
_NO_STORE: Final = [(b"cache-control", b"no-store")]


class TicketDocument(msgspec.Struct, frozen=True):
    """A ticket, to be used once as ``?ticket=`` within ``expires_in_seconds``."""

    ticket: str
    expires_in_seconds: float


class RevocationRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Revoke all tokens that a user has so far, or the one with this ``jti``; exactly one of the two."""

    user_id: UUID | None = None
    token_id: Annotated[str, msgspec.Meta(min_length=1, max_length=256, pattern="^[ -~]+$")] | None = None
    reason: Annotated[str, msgspec.Meta(max_length=MAX_REASON_CHARACTERS)] = ""


class RevocationDocument(msgspec.Struct, frozen=True):
    """It is committed; every node ends the streams that it covers within seconds."""

    revoked: bool = True


def credential_routes(
    *, authenticate: Authenticate, tickets: Tickets, revocations: Revocations
) -> list[Route]:
    """The two routes."""
    return [
        Route("/api/v1/tickets", TicketEndpoint(authenticate, tickets), methods=["POST"], name="tickets"),
        Route(
            "/api/v1/admin/revocations",
            RevocationEndpoint(authenticate, revocations),
            methods=["POST"],
            name="revocations",
        ),
    ]


class TicketEndpoint:
    """POST /api/v1/tickets."""

    def __init__(self, authenticate: Authenticate, tickets: Tickets) -> None:
        self._authenticate = authenticate
        self._tickets = tickets
        self._limit = RateLimit(per_second=TICKETS_PER_SECOND, burst=TICKETS_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Issue a ticket to the token's user; 429 when the user has had too many lately, on this node."""
        identity = await self._authenticate(scope)
        wait_seconds = self._limit.wait_seconds(identity.user_id, time.monotonic())
        if wait_seconds:
            raise HTTPException(429, headers={"retry-after": str(wait_seconds)})
        ticket = await self._tickets.issue(identity)
        document = TicketDocument(ticket.text, ticket.expires_in_seconds)
        await send_json(scope, send, msgspec.json.encode(document), _NO_STORE)


class RevocationEndpoint:
    """POST /api/v1/admin/revocations."""

    def __init__(self, authenticate: Authenticate, revocations: Revocations) -> None:
        self._authenticate = authenticate
        self._revocations = revocations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Revoke, for an administrator."""
        identity = await self._authenticate(scope)
        identity.require_scope(ADMIN_SCOPE)
        try:
            request = msgspec.json.decode(await _body(receive), type=RevocationRequest)
        except msgspec.MsgspecError as error:
            raise HTTPException(422, f"The body is not a revocation: {error}.") from None
        if (request.user_id is None) == (request.token_id is None):
            raise HTTPException(422, "Name either `user_id` or `token_id`.")
        if request.token_id is not None and not is_token_id(request.token_id):
            raise HTTPException(422, "A token's id is 1 to 256 printable ASCII characters.")
        await self._revocations.revoke(
            user_id=request.user_id, token_id=request.token_id, reason=request.reason
        )
        await send_json(scope, send, msgspec.json.encode(RevocationDocument()), _NO_STORE)


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HTTPException(400, "The body ended early.")
        body += bytes(message.get("body", b""))
        if len(body) > _MAX_BODY_BYTES:
            raise HTTPException(413, f"The body may have {_MAX_BODY_BYTES} bytes.")
        if not message.get("more_body", False):
            return body
