"""The stream over a WebSocket: the transport of choice."""

from __future__ import annotations

import contextlib
import logging
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from guardwire.ending import LOST, LinkEnded, answered, closed, lost, unreachable
from guardwire.link import Opening, decode
from guardwire.messages import SUBPROTOCOL, ClientFrame, ServerFrame, encode

OPEN_TIMEOUT_SECONDS: Final = 10.0
CLOSE_TIMEOUT_SECONDS: Final = 2.0
#: An account of ten thousand positions is well under this.
MAX_FRAME_BYTES: Final = 16 * 1024 * 1024

#: The library logs headers and frames at DEBUG, and the token is in them.
_wire_log = logging.getLogger("guardwire.client.wire")
_wire_log.setLevel(logging.INFO)


class WebSocketLink:
    """A `guardwire.link.Link`."""

    in_band = True

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def receive(self) -> ServerFrame:
        while True:
            try:
                text = await self._connection.recv(decode=False)
            except ConnectionClosed as error:
                raise _ended(error) from error
            if (frame := decode(text)) is not None:
                return frame

    async def send(self, frame: ClientFrame) -> None:
        try:
            await self._connection.send(encode(frame), text=True)
        except ConnectionClosed as error:
            raise _ended(error) from error

    def abort(self) -> None:
        self._connection.transport.abort()

    async def close(self) -> None:
        with contextlib.suppress(WebSocketException, OSError):
            await self._connection.close()


class _Handshake(connect):
    """The library's handshake, without redirects: a token is for the one address that it was given for."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


async def open_websocket(opening: Opening) -> WebSocketLink:
    """A connected WebSocket whose first frame is on its way; raises LinkEnded."""
    try:
        connection = await _Handshake(
            opening.address.websocket_url(**opening.parameters),
            additional_headers={"Authorization": f"Bearer {opening.token}"},
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,  # frames are small, and the server offers none
            ssl=(opening.tls or True) if opening.address.secure else None,
            open_timeout=OPEN_TIMEOUT_SECONDS,
            # The server's heartbeats are the sign of life: a pong would only say that some proxy is alive.
            ping_interval=None,
            close_timeout=CLOSE_TIMEOUT_SECONDS,
            max_size=MAX_FRAME_BYTES,
            logger=_wire_log,
        )
    except InvalidStatus as error:
        response = error.response
        headers = {name.lower(): value for name, value in response.headers.raw_items()}
        raise answered(
            response.status_code, headers, bytes(response.body or b""), transport_refused=True
        ) from error
    except (WebSocketException, EOFError) as error:
        raise lost(f"no WebSocket handshake: {error}") from error
    except TimeoutError as error:
        raise lost("no WebSocket handshake in time") from error
    except OSError as error:
        raise unreachable(str(error)) from error
    return WebSocketLink(connection)


def _ended(error: ConnectionClosed) -> LinkEnded:
    if error.rcvd is not None:
        return closed(error.rcvd.code, error.rcvd.reason)
    # A code that this side sent (a frame too big, bad UTF-8) ends it as surely as one that it got.
    if error.sent is not None and error.sent.code != 1000:
        return closed(error.sent.code, error.sent.reason)
    return closed(LOST, "the connection was lost")
