"""Just enough HTTP/1.1 for the fallbacks: one connection, GET requests, bodies read as they come."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Any, Final

import h11
import msgspec

from guardwire.address import Address
from guardwire.ending import LinkEnded, lost, unreachable
from guardwire.tunnel import open_streams

OPEN_TIMEOUT_SECONDS: Final = 10.0
_READ_BYTES: Final = 65_536
_MAX_HEAD_BYTES: Final = 65_536


class Response(msgspec.Struct, frozen=True):
    """Status and headers of an answer; header names are in lower case."""

    status: int
    headers: dict[str, str]


class HttpConnection:
    """One connection, one request at a time. Raises `LinkEnded` for everything that the network does."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authority: str) -> None:
        self._reader = reader
        self._writer = writer
        self._authority = authority
        self._parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD_BYTES)

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent on it."""
        return (
            self._parser.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}
            and not self._writer.is_closing()
        )

    async def get(self, path: str, headers: dict[str, str]) -> Response:
        """Send a request and wait for status and headers; the body is read with `chunk` or `body`."""
        if self._parser.our_state is h11.DONE:
            self._parser.start_next_cycle()
        fields = {
            "Host": self._authority,
            "Accept-Encoding": "identity",
            "User-Agent": "guardwire",
            **headers,
        }
        request = h11.Request(method="GET", target=path, headers=list(fields.items()))
        try:
            self._writer.write(self._parser.send(request) or b"")
            self._writer.write(self._parser.send(h11.EndOfMessage()) or b"")
            await self._writer.drain()
        except OSError as error:
            raise lost(f"the connection was lost: {error}") from error
        while True:
            event = await self._next_event()
            if isinstance(event, h11.Response):
                return Response(
                    event.status_code,
                    {name.decode(): value.decode("latin-1") for name, value in event.headers},
                )
            if not isinstance(event, h11.InformationalResponse):
                raise lost("the server sent no HTTP response")

    async def chunk(self) -> bytes | None:
        """The next piece of the body; None at its end."""
        event = await self._next_event()
        return bytes(event.data) if isinstance(event, h11.Data) else None

    async def body(self, limit_bytes: int) -> bytes:
        """The whole body; raises LinkEnded when it is longer than ``limit_bytes``."""
        pieces = bytearray()
        while (piece := await self.chunk()) is not None:
            pieces += piece
            if len(pieces) > limit_bytes:
                raise lost("the answer is too long")
        return bytes(pieces)

    def abort(self) -> None:
        """Cut it."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """Close it; over TLS without waiting for the peer's goodbye."""
        self.abort()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _next_event(self) -> Any:
        while True:
            try:
                event = self._parser.next_event()
                if event is h11.NEED_DATA:
                    self._parser.receive_data(await self._reader.read(_READ_BYTES))
                    continue
            except h11.RemoteProtocolError as error:
                raise lost(f"not HTTP: {error}") from error
            except OSError as error:
                raise lost(f"the connection was lost: {error}") from error
            if isinstance(event, h11.ConnectionClosed):
                raise lost("the connection was closed")
            return event


async def open_http(address: Address, tls: ssl.SSLContext | None) -> HttpConnection:
    """A connection to ``address``, through the proxy that the environment names; raises LinkEnded."""
    try:
        async with asyncio.timeout(OPEN_TIMEOUT_SECONDS):
            reader, writer = await open_streams(address, tls)
    except TimeoutError as error:
        raise unreachable("no connection in time") from error
    except LinkEnded:
        raise
    except OSError as error:
        raise unreachable(str(error)) from error
    return HttpConnection(reader, writer, address.authority)
