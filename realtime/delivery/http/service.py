"""The routes of the service itself: tickets, revocations, health, metrics, and the dashboard's files."""

from __future__ import annotations

import html
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final
from uuid import UUID

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from auth.claims import is_token_id
from auth.identity import ADMIN_SCOPE
from auth.origins import host_is_loopback
from auth.revocation import MAX_REASON_CHARACTERS, Revocations
from auth.tickets import Tickets
from realtime.delivery.http.bodies import decode_body, read_body
from realtime.delivery.http.parameters import Authenticate
from realtime.delivery.http.responses import send_json
from realtime.delivery.limits import RateLimit
from realtime.metrics import METRICS

#: A page fetches one ticket for each event stream that it opens; each is kept in Redis for half a minute.
TICKETS_AT_ONCE: Final = 20
TICKETS_PER_SECOND: Final = 1.0

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
    """The answer once a revocation is committed; every node ends the streams that it covers within seconds."""

    revoked: bool = True


def credential_routes(
    *, authenticate: Authenticate, tickets: Tickets, revocations: Revocations
) -> list[Route]:
    """The routes of tickets and revocations."""
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
        """Revoke tokens; the caller must be an administrator."""
        identity = await self._authenticate(scope)
        identity.require_scope(ADMIN_SCOPE)
        request = decode_body(await read_body(receive), RevocationRequest, "revocation")
        if (request.user_id is None) == (request.token_id is None):
            raise HTTPException(422, "Name either `user_id` or `token_id`.")
        if request.token_id is not None and not is_token_id(request.token_id):
            raise HTTPException(422, "A token's id is 1 to 256 printable ASCII characters.")
        await self._revocations.revoke(
            user_id=request.user_id, token_id=request.token_id, reason=request.reason
        )
        await send_json(scope, send, msgspec.json.encode(RevocationDocument()), _NO_STORE)


_NOT_STORED: Final = {"cache-control": "no-store"}
_PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"


def operation_routes(*, not_ready: Callable[[], str | None]) -> list[Route]:
    """`/livez`, `/readyz` and `/metrics`; ``not_ready`` says why this node should get no new clients, or
    None.
    """

    async def livez(_: Request) -> Response:
        return PlainTextResponse("alive\n", headers=_NOT_STORED)

    async def readyz(_: Request) -> Response:
        why = not_ready()
        return PlainTextResponse(f"{why or 'ready'}\n", status_code=503 if why else 200, headers=_NOT_STORED)

    async def metrics(_: Request) -> Response:
        return PlainTextResponse(METRICS.text(), headers=_NOT_STORED, media_type=_PROMETHEUS)

    return [Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics)]


#: A browser may keep a file, and asks each time whether it has changed, so that a new release is seen at once.
_REVALIDATE: Final = {"cache-control": "no-cache"}
_DEMO_PATH: Final = "/demo/token"
_META: Final = '<meta name="guardwire-token-url" content="">'
_MAIN: Final = "<main>"


class _Modules(StaticFiles):
    def file_response(self, *args: object, **kwargs: object) -> Response:
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers.update(_REVALIDATE)
        return response


def page_routes(
    folder: Path, *, demo_token: Callable[[], str] | None, token_url: str = "", panel: str = ""
) -> list[BaseRoute]:
    """`/` and `/static`; `/demo/token` too when ``demo_token`` makes one, which production never has.

    ``token_url`` is the path at which the page gets its tokens; without it somebody pastes one.
    ``panel`` is markup that stands before the board.
    """
    page = _page(folder, token_url if demo_token is None else _DEMO_PATH.lstrip("/"), panel)

    async def dashboard(_: Request) -> Response:
        return HTMLResponse(page, headers=_REVALIDATE)

    async def token(request: Request) -> Response:
        # Another site could let its own name resolve to this machine, and its page would then count as ours.
        if demo_token is None or not host_is_loopback(request.headers.raw):
            raise HTTPException(404)
        return JSONResponse({"token": demo_token()}, headers={"cache-control": "no-store"})

    routes: list[BaseRoute] = [Route("/", dashboard), Mount("/static", _Modules(directory=folder))]
    if demo_token is not None:
        routes.append(Route(_DEMO_PATH, token))
    return routes


def _page(folder: Path, token_url: str, panel: str) -> str:
    """The dashboard, which reads from its head where tokens are."""
    page = (folder / "index.html").read_text("utf-8")
    assert page.count(_META) == page.count(_MAIN) == 1
    page = page.replace(_META, _META.replace('""', f'"{html.escape(token_url)}"'))
    return page.replace(_MAIN, panel + _MAIN)
