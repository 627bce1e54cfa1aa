"""`GET /ws`: who may connect is decided before the upgrade, with a real HTTP status; then the socket is
handed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from auth.identity import Identity
from guardwire.messages import SUBPROTOCOL, Resume
from realtime.delivery.admission import RETRY_AFTER_SECONDS, TOO_MANY
from realtime.delivery.handover import handover_of
from realtime.delivery.problems import (
    TOO_MANY_REQUESTS,
    UPGRADE_REQUIRED,
    ProblemResponse,
    problem_of,
    unavailable,
)
from realtime.delivery.selection import channels_parameter, since_parameter
from realtime.delivery.socket import Socket
from realtime.delivery.strangers import address_of
from realtime.delivery.streams import Streams
from realtime.errors import AuthenticationError
from realtime.metrics import METRICS
from realtime.store.snapshot import Channels

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
        if self._streams.draining:
            await _deny(websocket, unavailable("The server is restarting; connect again."))
        elif identity is None:
            await self._open_for_a_stranger(websocket)
        else:
            await self._open_for(websocket, identity, channels, resume)

    async def _open_for_a_stranger(self, websocket: WebSocket) -> None:
        address = address_of(websocket.scope)
        refusal = self._streams.strangers.refusal(address)
        if refusal is not None:
            await _deny(websocket, refusal)
            return
        # Counted before anything is waited for, so that many at once cannot all pass.
        self._streams.strangers.enter(address)
        try:
            await _accept(websocket)
            socket = self._take_over(websocket.scope)
        except BaseException:
            self._streams.strangers.leave(address)
            raise
        self._streams.open_stranger(socket, address)

    async def _open_for(
        self, websocket: WebSocket, identity: Identity, channels: Channels, resume: Resume | None
    ) -> None:
        admission = self._streams.admission
        lease = await admission.admit(identity.user_id)
        if lease is None:
            headers = {"retry-after": str(RETRY_AFTER_SECONDS)}
            await _deny(websocket, ProblemResponse(TOO_MANY_REQUESTS, detail=TOO_MANY, headers=headers))
            return
        try:
            await _accept(websocket)
            socket = self._take_over(websocket.scope)
        except BaseException:
            admission.leave(lease)
            raise
        self._streams.open_for(socket, identity, lease, channels, resume)

    def _take_over(self, scope: Scope) -> Socket:
        def make(transport: asyncio.Transport, max_frame_bytes: int | None) -> Socket:
            return Socket(
                transport,
                self._streams,
                max_frame_bytes=max_frame_bytes,
                frames_per_second=self._streams.max_frames_per_second,
            )

        socket = handover_of(scope).take(make)
        assert isinstance(socket, Socket)
        return socket


class UpgradeRequired:
    """`GET /ws` without a handshake, as an ASGI application: a proxy that drops ``Upgrade`` makes such a
    request of a good one.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {"upgrade": "websocket", "connection": "upgrade", "sec-websocket-version": "13"}
        await ProblemResponse(UPGRADE_REQUIRED, headers=headers)(scope, receive, send)


async def _accept(websocket: WebSocket) -> None:
    offered = websocket.scope.get("subprotocols", [])
    await websocket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)


async def _deny(websocket: WebSocket, response: ASGIApp) -> None:
    await response(websocket.scope, websocket.receive, websocket.send)


def _refusal(error: AuthenticationError | HTTPException) -> ProblemResponse:
    if isinstance(error, AuthenticationError):
        METRICS.auth_failures.add(1, error.reason)
    response = problem_of(error)
    assert response is not None
    return response
