"""HTTP/1.1 for the fallbacks: requests on one connection, also through the proxy that the environment names."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from typing import Any, Final, cast
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import h11
import msgspec

from guardwire.endings import LinkEnded, lost, unreachable
from guardwire.link import Address, Opening

_READ_BYTES: Final = 65_536
_MAX_HEAD_BYTES: Final = 65_536
_MAX_PROXY_ANSWER_BYTES: Final = 16_384
_END_OF_HEAD: Final = b"\r\n\r\n"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Response(msgspec.Struct, frozen=True):
    """Status and headers of an HTTP answer; header names are in lower case."""

    status: int
    headers: dict[str, str]


class HttpConnection:
    """One connection, one request at a time. Every error of the network is raised as `LinkEnded`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authority: str) -> None:
        self._reader = reader
        self._writer = writer
        self._authority = authority
        self._parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD_BYTES)

    @property
    def is_reusable(self) -> bool:
        """Whether another request may be sent on it."""
        return (
            self._parser.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}
            and not self._writer.is_closing()
        )

    async def get(self, path: str, headers: dict[str, str]) -> Response:
        """Send a request and wait for status and headers; the body is read with `chunk` or `body`."""
        return await self._request("GET", path, headers, b"")

    async def post(self, path: str, headers: dict[str, str], document: bytes) -> Response:
        """Send ``document``, which is JSON, and wait for status and headers, as `get` does."""
        fields = {"Content-Type": "application/json", "Content-Length": str(len(document)), **headers}
        return await self._request("POST", path, fields, document)

    async def _request(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Response:
        if self._parser.our_state is h11.DONE:
            self._parser.start_next_cycle()
        fields = {
            "Host": self._authority,
            "Accept-Encoding": "identity",
            "User-Agent": "guardwire",
            **headers,
        }
        request = h11.Request(method=method, target=path, headers=list(fields.items()))
        try:
            self._writer.write(self._parser.send(request) or b"")
            if body:
                self._writer.write(self._parser.send(h11.Data(data=body)) or b"")
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
        """The whole body; raises LinkEnded when it has more than ``limit_bytes``."""
        pieces = bytearray()
        while (piece := await self.chunk()) is not None:
            pieces += piece
            if len(pieces) > limit_bytes:
                raise lost("the answer is too long")
        return bytes(pieces)

    def abort(self) -> None:
        """Cut the connection."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """Close the connection, without waiting for the peer's close_notify of TLS."""
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


async def open_http(opening: Opening) -> HttpConnection:
    """A connection to the server, through the proxy that the environment names; raises LinkEnded."""
    try:
        async with asyncio.timeout(opening.timing.open_seconds):
            reader, writer = await open_streams(opening.address, opening.tls)
    except TimeoutError as error:
        raise unreachable("no connection in time") from error
    except LinkEnded:
        raise
    except OSError as error:
        raise unreachable(str(error)) from error
    return HttpConnection(reader, writer, opening.address.authority)


def proxy_for(address: Address) -> SplitResult | None:
    """The proxy that ``https_proxy``, ``http_proxy`` and ``no_proxy`` name for ``address``; None for none."""
    if proxy_bypass(f"{address.host}:{address.port}"):
        return None
    url = getproxies().get("https" if address.secure else "http")
    if url is None:
        return None
    proxy = urlsplit(url if "://" in url else f"http://{url}")
    return proxy if proxy.scheme in ("http", "https") and proxy.hostname else None


async def open_streams(address: Address, tls: ssl.SSLContext | None) -> Streams:
    """Reader and writer to ``address``; raises OSError, and LinkEnded where the proxy refuses."""
    context = (tls or ssl.create_default_context()) if address.secure else None
    proxy = proxy_for(address)
    if proxy is None:
        return await asyncio.open_connection(address.host, address.port, ssl=context)
    transport = await _open_tunnel(address, proxy)
    try:
        return await _streams_over(transport, context, address.host)
    except BaseException:
        transport.abort()
        raise


async def _open_tunnel(address: Address, proxy: SplitResult) -> asyncio.Transport:
    """A transport to ``address`` by CONNECT (RFC 9110, 9.3.6); reading is paused, and nothing was read."""
    transport, connecting = await asyncio.get_running_loop().create_connection(
        lambda: _Connecting(_request(address, proxy)),
        proxy.hostname or "",
        proxy.port or (443 if proxy.scheme == "https" else 80),
        ssl=ssl.create_default_context() if proxy.scheme == "https" else None,
    )
    try:
        await connecting.connected
    except BaseException:
        transport.abort()
        raise
    return transport


async def _streams_over(transport: asyncio.Transport, context: ssl.SSLContext | None, host: str) -> Streams:
    """A reader and a writer that start after the proxy's answer: the reader holds no byte of it."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    if context is None:
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        transport.resume_reading()
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
    secure = await loop.start_tls(transport, protocol, context, server_hostname=host)
    if secure is None:
        raise unreachable("the connection was lost while TLS was agreed on")
    protocol.connection_made(secure)
    return reader, asyncio.StreamWriter(secure, protocol, reader, loop)


class _Connecting(asyncio.Protocol):
    """Sends a CONNECT request and takes the proxy's answer, and not one byte more.

    A proxy, or an attacker between here and the proxy, may send more bytes after the answer. A reader that kept them
    would give them out after the TLS handshake, as if TLS had verified them. Therefore such an answer is refused,
    reading is paused with the answer's last byte, and the TLS connection gets a new reader.
    """

    def __init__(self, request: bytes) -> None:
        #: Done when the tunnel is open; fails with LinkEnded when the proxy refuses.
        self.connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request
        self._answer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._answer += data
        end = self._answer.find(_END_OF_HEAD)
        if end >= 0:
            self._transport.pause_reading()
            self._finish(_problem_of(bytes(self._answer), end + len(_END_OF_HEAD)))
        elif len(self._answer) > _MAX_PROXY_ANSWER_BYTES:
            self._finish("the proxy gave no answer that ends")

    def connection_lost(self, error: Exception | None) -> None:
        self._finish("the proxy gave no answer")

    def _finish(self, problem: str | None) -> None:
        if self.connected.done():
            return
        if problem is None:
            self.connected.set_result(None)
        else:
            self.connected.set_exception(unreachable(problem))


def _problem_of(answer: bytes, head_bytes: int) -> str | None:
    """Why ``answer``, whose head has ``head_bytes``, opens no tunnel; None when it does."""
    if answer.split(b" ", 2)[1:2] != [b"200"]:
        return f"the proxy refused: {answer[:80]!r}"
    if len(answer) > head_bytes:
        return "bytes came after the proxy's answer to CONNECT, before any request to the server"
    return None


def _request(address: Address, proxy: SplitResult) -> bytes:
    lines = [f"CONNECT {address.authority} HTTP/1.1", f"Host: {address.authority}"]
    if proxy.username is not None:
        credentials = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(credentials.encode()).decode()}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
