"""uvicorn's WebSocket class, extended by one thing: after the handshake the route may take the socket over.

Starlette and uvicorn do the handshake (routing, authentication, denial with a real HTTP status). Then
`Handover.take` gives the transport to a `Socket`, the ASGI task ends, and an idle connection costs a few
kilobytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from starlette.types import Scope
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import StatusLike

from realtime.delivery.headers import security_headers

_EXTENSION: Final = "guardwire.handover"
_VERSION: Final = "13"


#: Makes the next protocol of a transport, which takes messages of so many bytes; None for any size.
SocketFactory = Callable[[asyncio.Transport, int | None], asyncio.Protocol]


class Handover:
    """The right to take one accepted socket over from the ASGI server, once."""

    def __init__(self, server: HandoverProtocol) -> None:
        self._server = server

    def take(self, make: SocketFactory) -> asyncio.Protocol:
        """Give the transport to what ``make`` returns; frames that arrived since the handshake go there
        too.
        """
        return self._server.give(make)


def handover_of(scope: Scope) -> Handover:
    """The handover of a WebSocket scope; raises RuntimeError under a server that was not started with
    `HandoverProtocol`.
    """
    try:
        handover: Handover = scope["extensions"][_EXTENSION]
    except KeyError:
        raise RuntimeError(
            "serve this application with uvicorn's ws=HandoverProtocol (guardwire serve does)"
        ) from None
    return handover


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
        self._early = b""
        self.conn.reject = self._reject  # type: ignore[method-assign]

    def handle_connect(self, event: Request) -> None:
        """Begin the handshake, and read no further until it is decided: what a hasty client sends meanwhile
        would be answered and kept without any limit of ours.
        """
        super().handle_connect(event)
        self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        """Take the handshake; what came with it or in spite of the pause waits for the handover."""
        if self.handshake_initiated:
            self._early += data
        else:
            super().data_received(data)

    def _reject(self, status: StatusLike, text: str) -> Response:
        """uvicorn's own refusals (of no handshake, of a failure) carry the headers of all other answers."""
        asked = self.request.headers
        if _VERSION not in asked.get_all("Sec-WebSocket-Version"):
            status = 426  # RFC 6455, 4.2.2: whoever speaks another version is told which one is spoken here
        response = ServerProtocol.reject(self.conn, status, text)
        response.headers["Sec-WebSocket-Version"] = _VERSION
        for name, value in security_headers(asked.get("Host", "").encode()):
            response.headers[name.decode()] = value.decode()
        return response

    async def run_asgi(self) -> None:
        """Run the application with its handover in the scope."""
        extensions: dict[str, Any] = self.scope["extensions"]
        extensions[_EXTENSION] = Handover(self)
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
            # Else what is left of a handshake would hang together by circles, and wait for the garbage
            # collector: seventeen objects of each that comes, with all that they refer to.
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
        """See `Handover.take`."""
        if self.disconnected or self.transport.is_closing():
            raise ConnectionResetError("the client left during the handshake")
        self.stop_keepalive()
        transport, self.transport = self.transport, _Released()
        made = make(transport, self.conn.max_message_size)
        # uvicorn forgets the connection: who took it over drains it.
        self.connections.discard(self)
        transport.set_protocol(made)
        if self._early:
            self.loop.call_soon(made.data_received, self._early)
        transport.resume_reading()
        return made
