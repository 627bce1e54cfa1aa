"""uvicorn's WebSocket class, extended by one thing: after the handshake a route may take the connection over.

Starlette and uvicorn do the handshake (routing, authentication, denial with a real HTTP status). Then
`HandoverProtocol.give` gives the transport to a `Socket`, the ASGI task ends, and an idle connection costs a few
kilobytes.
"""

from __future__ import annotations

import asyncio
import socket
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHeader
from websockets.http11 import Request, Response
from websockets.typing import StatusLike

from realtime.delivery.http.middleware import request_id_of
from realtime.delivery.http.problems import (
    BAD_REQUEST,
    INTERNAL,
    METHOD_NOT_ALLOWED,
    UPGRADE_REQUIRED,
    ProblemResponse,
)
from realtime.delivery.security_headers import security_headers
from realtime.delivery.server.deadlines import ConnectionDeadlines
from realtime.delivery.websocket.endpoint import TAKE_OVER, SocketFactory

_VERSION: Final = "13"
_OTHER_VERSION: Final = (
    f"Version {_VERSION} of the WebSocket protocol is spoken here: send `Sec-WebSocket-Version: {_VERSION}`."
)
_OLD_HTTP: Final = (
    "A WebSocket handshake needs HTTP/1.1, and this one came over HTTP/1.0: usually a proxy in between speaks"
    " that to the server (nginx: proxy_http_version 1.1)."
)


class _Released(asyncio.Transport):
    """Stands in for the transport that was given away, so that the end of the ASGI task does not close it."""

    def close(self) -> None:
        """Nothing: the socket is another's."""

    def is_closing(self) -> bool:
        """True, so that nothing more is written."""
        return True


class HandoverProtocol(WebSocketsSansIOProtocol):
    """For uvicorn's ``ws=``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._early_frames = b""
        self._handshake_deadlines: ConnectionDeadlines | None = None
        self.conn.reject = self._reject  # type: ignore[method-assign]

    def begin(self, request: Request, early: bytes, undecided: ConnectionDeadlines) -> None:
        """Begin the handshake, and read no further until it is decided. Frames that a hasty client sends meanwhile, or
        has sent already (``early``), would be answered and kept without any limit.

        The connection is in ``undecided``, which cuts it in time, until a socket has taken it over or it is
        gone.
        """
        self._handshake_deadlines = undecided
        undecided.enter(self.transport, self.loop)
        self._early_frames = early
        self.transport.pause_reading()
        self.handle_connect(request)

    def data_received(self, data: bytes) -> None:
        """Keep frames that come in spite of the pause until the handover."""
        self._early_frames += data

    def connection_lost(self, exc: Exception | None) -> None:
        """The client left during the handshake, or was sent away."""
        self._leave_deadlines()
        super().connection_lost(exc)

    async def send(self, message: Any) -> None:
        """ASGI's ``send``."""
        await super().send(message)
        if message["type"] == "websocket.accept":
            self._leave_deadlines()

    def _leave_deadlines(self) -> None:
        if self._handshake_deadlines is not None:
            self._handshake_deadlines.leave(self.transport)
            self._handshake_deadlines = None

    def _reject(self, status: StatusLike, text: str) -> Response:
        """The answer to what is no handshake, or to a failure: a problem document, with the headers of all
        other answers, in place of the library's text.
        """
        scope = {
            "type": "websocket",
            "path": unquote(self.request.path.partition("?")[0]),
            "headers": [
                (b"x-request-id", value.encode("latin-1")) for value in self._header_values("X-Request-Id")
            ],
        }
        answer = self._problem(HTTPStatus(status)).response(scope)
        headers = [
            *answer.headers,
            (b"connection", b"close"),
            (b"x-request-id", request_id_of(scope).encode()),
            *security_headers(b"".join(value.encode("latin-1") for value in self._header_values("Host"))),
        ]
        lines = [(name.decode(), value.decode("latin-1")) for name, value in headers]
        return Response(answer.status, HTTPStatus(answer.status).phrase, Headers(lines), answer.body)

    def _problem(self, status: HTTPStatus) -> ProblemResponse:
        upgrade = {"upgrade": "websocket", "sec-websocket-version": _VERSION}
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            return ProblemResponse(METHOD_NOT_ALLOWED, headers={"allow": "GET"})
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            return ProblemResponse(INTERNAL)
        if status == HTTPStatus.HTTP_VERSION_NOT_SUPPORTED:
            return ProblemResponse(UPGRADE_REQUIRED, detail=_OLD_HTTP, headers=upgrade)
        if _VERSION not in self._header_values("Sec-WebSocket-Version"):
            # RFC 6455, 4.2.2: the answer to another version names the one that is spoken here.
            return ProblemResponse(UPGRADE_REQUIRED, detail=_OTHER_VERSION, headers=upgrade)
        if status == HTTPStatus.UPGRADE_REQUIRED:
            return ProblemResponse(UPGRADE_REQUIRED, headers=upgrade)
        return ProblemResponse(BAD_REQUEST, detail=_malformed(self.conn.handshake_exc))

    def _header_values(self, name: str) -> list[str]:
        return self.request.headers.get_all(name)

    async def run_asgi(self) -> None:
        """Run the application with its handover in the scope."""
        extensions: dict[str, Any] = self.scope["extensions"]
        extensions[TAKE_OVER] = self.give
        application = self.app

        async def handing_over(scope: Any, receive: Any, send: Any) -> None:
            await application(scope, receive, send)
            # uvicorn takes a handshake that was answered with an HTTP status for an unfinished one, and logs
            # an error.
            self.handshake_complete = self.handshake_complete or self.initial_response is not None

        self.app = handing_over
        try:
            await super().run_asgi()
        finally:
            # Without this the objects of a handshake, seventeen and all that they refer to, would form circles and stay
            # until the garbage collector runs.
            self.app = application
            extensions.clear()
            del self.conn.reject

    def shutdown(self) -> None:
        """The server is ending. A handshake under way is answered by its route, which knows why it cannot be
        (uvicorn would say 500 in its place).
        """
        if self.handshake_complete or self.close_sent:
            super().shutdown()

    def give(self, make: SocketFactory) -> asyncio.Protocol:
        """Give the transport to the protocol that ``make`` returns, with frames that arrived since the handshake."""
        if self.disconnected or self.transport.is_closing():
            raise ConnectionResetError("the client left during the handshake")
        self.stop_keepalive()
        self._leave_deadlines()
        transport, self.transport = self.transport, _Released()
        keep_buffers_small(transport)
        made = make(transport, self.conn.max_message_size)
        # uvicorn forgets the connection: who took it over drains it.
        self.connections.discard(self)
        transport.set_protocol(made)
        if self._early_frames:
            self.loop.call_soon(made.data_received, self._early_frames)
        transport.resume_reading()
        return made


def _malformed(error: BaseException | None) -> str | None:
    """The header that is wrong with a handshake, without its value; None where ``error`` names no header."""
    if isinstance(error, InvalidHeader):
        return f"The handshake's `{error.name}` header is missing, malformed or there twice."
    return None


_PROCESS_BYTES: Final = 32_768
_NOT_SENT_BYTES: Final = 16_384
#: The kernel doubles these, for what it needs beside the data.
_SEND_BYTES: Final = 16_384
_RECEIVE_BYTES: Final = 8_192


def keep_buffers_small(transport: asyncio.Transport) -> None:
    """Make the buffers of a connection small: a stuck peer is noticed early, and pins 100 KB in all instead of
    megabytes.
    """
    transport.set_write_buffer_limits(high=_PROCESS_BYTES)
    raw = transport.get_extra_info("socket")
    if raw is None or raw.family not in (socket.AF_INET, socket.AF_INET6):
        return
    not_sent: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if not_sent is not None:
        raw.setsockopt(socket.IPPROTO_TCP, not_sent, _NOT_SENT_BYTES)
    # The mark above counts neither bytes that were sent and are not acknowledged, nor received ones.
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
