"""`GET /ws`: the handshake is accepted, or refused with a real HTTP status before the upgrade. Then the connection is
handed over to a `Socket`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import ClassVar, Final, Literal

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from auth.identity import Identity
from guardwire.messages import SUBPROTOCOL, Resume
from realtime.delivery.http.parameters import channels_parameter, since_parameter
from realtime.delivery.http.problems import (
    TOO_MANY_REQUESTS,
    UPGRADE_REQUIRED,
    ProblemResponse,
    problem_of,
    unavailable,
)
from realtime.delivery.limits import ANONYMOUS_RETRY_AFTER_SECONDS, RETRY_AFTER_SECONDS, TOO_MANY, address_of
from realtime.delivery.websocket.connection import Socket
from realtime.delivery.websocket.conversation import OpenSockets
from realtime.errors import AuthenticationError
from realtime.metrics import METRICS
from realtime.snapshot import Channels

#: The extension of a WebSocket scope that gives the accepted connection to another protocol (`server/handover.py`).
TAKE_OVER: Final = "guardwire.take_over"
#: Makes the next protocol of a transport, for messages of at most so many bytes; None for any size.
SocketFactory = Callable[[asyncio.Transport, int | None], asyncio.Protocol]

_TOO_MANY_OF_ADDRESS: Final = (
    "Too many sockets of this address have not said who they are: send the token in the Authorization header,"
    " or come back later."
)
_TOO_MANY_ANONYMOUS: Final = "Too many sockets have not said who they are; come back in a few seconds."

#: Gives the identity in a handshake's header, None without one; raises AuthenticationError, for a forbidden Origin too.
AuthenticateHandshake = Callable[[Scope], Awaitable[Identity | None]]


class WebSocketEndpoint:
    """The `/ws` endpoint, as an ASGI application. Other protocols over WebSocket extend it."""

    subprotocol: ClassVar[str] = SUBPROTOCOL

    def __init__(self, *, sockets: OpenSockets, authenticate: AuthenticateHandshake) -> None:
        self._sockets = sockets
        self._authenticate = authenticate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the handshake, or accept it and hand the socket over."""
        websocket = WebSocket(scope, receive, send)
        try:
            identity = await self._authenticate(scope)
            channels, resume = self._wanted(websocket)
        except (AuthenticationError, HTTPException) as error:
            await _deny(websocket, _refusal(error))
            return
        if self._sockets.drain.begun:
            await _deny(websocket, unavailable("The server is restarting; connect again."))
        elif identity is None:
            await self._open_anonymous(websocket)
        else:
            await self._open_for(websocket, identity, channels, resume)

    def _wanted(self, websocket: WebSocket) -> tuple[Channels, Resume | None]:
        """The channels that the URL asks for, and the position from which to resume; raises HTTPException."""
        query = websocket.query_params
        return channels_parameter(query), since_parameter(query)

    async def _open_anonymous(self, websocket: WebSocket) -> None:
        address = address_of(websocket.scope)
        exceeded = self._sockets.anonymous.refusal(address)
        if exceeded is not None:
            await _deny(websocket, _too_many_anonymous(exceeded))
            return
        # Counted before anything is waited for, so that many at once cannot all pass.
        self._sockets.anonymous.enter(address)
        try:
            await self._accept(websocket)
            socket = self._take_over(websocket.scope)
        except BaseException:
            self._sockets.anonymous.leave(address)
            raise
        self._sockets.open_anonymous(socket, address)

    async def _open_for(
        self, websocket: WebSocket, identity: Identity, channels: Channels, resume: Resume | None
    ) -> None:
        admission = self._sockets.admission
        lease = await admission.admit(identity.user_id)
        if lease is None:
            headers = {"retry-after": str(RETRY_AFTER_SECONDS)}
            await _deny(websocket, ProblemResponse(TOO_MANY_REQUESTS, detail=TOO_MANY, headers=headers))
            return
        try:
            await self._accept(websocket)
            socket = self._take_over(websocket.scope)
        except BaseException:
            admission.leave(lease)
            raise
        self._sockets.open_for(socket, identity, lease, channels, resume)

    def _take_over(self, scope: Scope) -> Socket:
        socket = _take_over_of(scope)(self._make)
        assert isinstance(socket, Socket)
        return socket

    def _make(self, transport: asyncio.Transport, max_frame_bytes: int | None) -> Socket:
        return self._sockets.take_over(transport, max_frame_bytes)

    async def _accept(self, websocket: WebSocket) -> None:
        offered = websocket.scope.get("subprotocols", [])
        await websocket.accept(subprotocol=self.subprotocol if self.subprotocol in offered else None)


class UpgradeRequired:
    """`GET /ws` without a handshake, as an ASGI application: a proxy that drops ``Upgrade`` makes such a
    request of a good one.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {"upgrade": "websocket", "connection": "upgrade", "sec-websocket-version": "13"}
        await ProblemResponse(UPGRADE_REQUIRED, headers=headers)(scope, receive, send)


def _too_many_anonymous(exceeded: Literal["all", "address"]) -> ProblemResponse:
    if exceeded == "all":
        return unavailable(_TOO_MANY_ANONYMOUS, retry_after_seconds=ANONYMOUS_RETRY_AFTER_SECONDS)
    headers = {"retry-after": str(ANONYMOUS_RETRY_AFTER_SECONDS)}
    return ProblemResponse(TOO_MANY_REQUESTS, detail=_TOO_MANY_OF_ADDRESS, headers=headers)


def _take_over_of(scope: Scope) -> Callable[[SocketFactory], asyncio.Protocol]:
    try:
        take_over: Callable[[SocketFactory], asyncio.Protocol] = scope["extensions"][TAKE_OVER]
    except KeyError:
        raise RuntimeError(
            "serve this application with uvicorn's ws=HandoverProtocol (guardwire serve does)"
        ) from None
    return take_over


async def _deny(websocket: WebSocket, response: ASGIApp) -> None:
    await response(websocket.scope, websocket.receive, websocket.send)


def _refusal(error: AuthenticationError | HTTPException) -> ProblemResponse:
    if isinstance(error, AuthenticationError):
        METRICS.auth_failures.add(1, error.reason)
    response = problem_of(error)
    assert response is not None
    return response
