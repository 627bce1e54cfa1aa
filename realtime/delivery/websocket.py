"""`GET /ws`: who may connect is decided before the upgrade, with a real HTTP status; then the socket is
handed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket
from websockets.server import ServerProtocol

from auth.identity import Identity
from realtime.delivery.handover import handover_of
from realtime.delivery.problems import TOO_MANY_REQUESTS, ProblemResponse, problem_of, unavailable
from realtime.delivery.selection import channels_parameter, since_parameter
from realtime.delivery.socket import Socket
from realtime.delivery.streams import Streams
from realtime.errors import AuthenticationError
from realtime.messages import SUBPROTOCOL
from realtime.metrics import METRICS

_LEASE_SECONDS: Final = 15

#: The identity of a handshake's header, None without one; raises AuthenticationError, for a forbidden Origin
#: too.
Authenticate = Callable[[Scope], Awaitable[Identity | None]]


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
            channels = channels_parameter(websocket.query_params)
            resume = since_parameter(websocket.query_params)
        except (AuthenticationError, HTTPException) as error:
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


def _refusal(error: AuthenticationError | HTTPException) -> ProblemResponse:
    if isinstance(error, AuthenticationError):
        METRICS.auth_failures.add(1, error.reason)
    response = problem_of(error)
    assert response is not None
    return response
