"""`GET /ws`: who may connect is decided before the upgrade, with a real HTTP status; then the socket is
handed over.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket
from websockets.server import ServerProtocol

from auth.identity import Identity
from realtime.delivery.handover import handover_of
from realtime.delivery.problems import (
    INVALID_PARAMETER,
    TOO_MANY_REQUESTS,
    ProblemResponse,
    problem_of,
    unavailable,
)
from realtime.delivery.session import channels_in_order
from realtime.delivery.socket import Socket
from realtime.delivery.streams import Streams
from realtime.errors import AuthenticationError
from realtime.messages import SUBPROTOCOL, Resume
from realtime.metrics import METRICS
from realtime.state import CHANNELS
from realtime.store.snapshot import Channels

_POSITION: Final = re.compile(r"(\d{1,16}):(\d{1,16})")
_LEASE_SECONDS: Final = 15

#: The identity of a handshake's header, None without one; raises AuthenticationError, for a forbidden Origin
#: too.
Authenticate = Callable[[Scope], Awaitable[Identity | None]]


class BadQuery(Exception):
    """A query parameter that cannot be understood; the sentence says which, and what it may be."""


class WebSocketEndpoint:
    """The `/ws` endpoint, as an ASGI application."""

    def __init__(self, *, streams: Streams, authenticate: Authenticate) -> None:
        self._streams = streams
        self._authenticate = authenticate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the handshake, or accept it and hand the socket over."""
        websocket = WebSocket(scope, receive, send)
        try:
            identity = await self._authenticate(scope)
            channels = read_channels(websocket.query_params.get("channels"))
            resume = read_position(websocket.query_params.get("since"))
        except (AuthenticationError, BadQuery) as error:
            await _deny(websocket, _refusal(error))
            return
        hurdle = self._hurdle(identity)
        if hurdle is not None:
            await _deny(websocket, hurdle)
            return
        offered = scope.get("subprotocols", [])
        await websocket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
        self._streams.open(self._take_over(scope), identity, channels, resume)

    def _hurdle(self, identity: Identity | None) -> ProblemResponse | None:
        if self._streams.draining:
            return unavailable("The server is restarting; connect again.")
        if identity is not None and self._streams.too_many(identity):
            return ProblemResponse(
                TOO_MANY_REQUESTS,
                detail="Too many connections of this user: close one first.",
                headers={"retry-after": str(_LEASE_SECONDS)},
            )
        return None

    def _take_over(self, scope: Scope) -> Socket:
        def make(transport: asyncio.Transport, parser: ServerProtocol) -> Socket:
            return Socket(
                transport, parser, self._streams, frames_per_second=self._streams.max_frames_per_second
            )

        socket = handover_of(scope).take(make)
        assert isinstance(socket, Socket)
        return socket


async def _deny(websocket: WebSocket, response: ASGIApp) -> None:
    await response(websocket.scope, websocket.receive, websocket.send)


def _refusal(error: AuthenticationError | BadQuery) -> ProblemResponse:
    if isinstance(error, BadQuery):
        return ProblemResponse(INVALID_PARAMETER, detail=str(error))
    METRICS.auth_failures.add(1, error.reason)
    response = problem_of(error)
    assert response is not None
    return response


def read_channels(text: str | None) -> Channels:
    """The channels of a ``channels=`` parameter, all without one; raises BadQuery."""
    if text is None:
        return CHANNELS
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or set(names) - set(CHANNELS):
        raise BadQuery(f"`channels` must be a comma-separated choice of {', '.join(CHANNELS)}.")
    return channels_in_order(names)


def read_position(text: str | None) -> Resume | None:
    """The position of a ``since=`` parameter, None without one; raises BadQuery."""
    if text is None:
        return None
    match = _POSITION.fullmatch(text)
    if match is None:
        raise BadQuery("`since` must be epoch:revision, two whole numbers of a frame that you hold.")
    return Resume(epoch=int(match[1]), revision=int(match[2]))
