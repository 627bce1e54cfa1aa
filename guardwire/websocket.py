"""The stream over a WebSocket: the best transport."""

from __future__ import annotations

import contextlib
import logging
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from guardwire.endings import LOST, LinkEnded, from_close, from_response, lost, unreachable
from guardwire.link import MAX_FRAME_BYTES, Opening, decode_frame
from guardwire.messages import SUBPROTOCOL, ClientFrame, ServerFrame, encode

_CLOSE_TIMEOUT_SECONDS: Final = 2.0

#: `websockets` logs headers and frames at DEBUG, and the token is in them.
_wire_log = logging.getLogger("guardwire.client.wire")
_wire_log.setLevel(logging.INFO)


class WebSocketTransport:
    """A `guardwire.link.Transport`."""

    is_in_band = True

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def receive(self) -> ServerFrame:
        while True:
            try:
                text = await self._connection.recv(decode=False)
            except ConnectionClosed as error:
                raise _ended(error) from error
            if (frame := decode_frame(text)) is not None:
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
    """The handshake of `websockets` without redirects: a token is meant for one address alone."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


async def open_websocket(opening: Opening) -> WebSocketTransport:
    """A connected WebSocket whose first frame is on its way; raises LinkEnded."""
    try:
        connection = await _Handshake(
            opening.address.websocket_url(channels=",".join(opening.channels), since=opening.resume_point()),
            additional_headers={"Authorization": f"Bearer {opening.token}"},
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,  # frames are small, and the server offers none
            ssl=(opening.tls or True) if opening.address.secure else None,
            open_timeout=opening.timing.open_seconds,
            # The server's heartbeats show that it is alive. A pong may come from a proxy.
            ping_interval=None,
            close_timeout=_CLOSE_TIMEOUT_SECONDS,
            max_size=MAX_FRAME_BYTES,
            logger=_wire_log,
        )
    except InvalidStatus as error:
        response = error.response
        headers = {name.lower(): value for name, value in response.headers.raw_items()}
        raise from_response(
            response.status_code, headers, bytes(response.body or b""), transport_refused=True
        ) from error
    except (WebSocketException, EOFError) as error:
        raise lost(f"no WebSocket handshake: {error}") from error
    except TimeoutError as error:
        raise lost("no WebSocket handshake in time") from error
    except OSError as error:
        raise unreachable(str(error)) from error
    return WebSocketTransport(connection)


def _ended(error: ConnectionClosed) -> LinkEnded:
    if error.rcvd is not None:
        return from_close(error.rcvd.code, error.rcvd.reason)
    # `websockets` itself closes with a code when a frame is too big or is not UTF-8.
    if error.sent is not None and error.sent.code != 1000:
        return from_close(error.sent.code, error.sent.reason)
    return from_close(LOST, "the connection was lost")
