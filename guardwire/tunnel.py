"""A byte stream to the server: direct, or through the HTTP proxy that the environment names (CONNECT, RFC
9110, 9.3.6).
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from typing import Final, cast
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from guardwire.address import Address
from guardwire.ending import unreachable

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_MAX_ANSWER_BYTES: Final = 16_384
_END_OF_HEAD: Final = b"\r\n\r\n"


def proxy_for(address: Address) -> SplitResult | None:
    """The proxy to use for ``address`` by the environment's ``https_proxy``, ``http_proxy`` and ``no_proxy``;
    None for none.
    """
    if proxy_bypass(f"{address.host}:{address.port}"):
        return None
    url = getproxies().get("https" if address.secure else "http")
    if url is None:
        return None
    proxy = urlsplit(url if "://" in url else f"http://{url}")
    return proxy if proxy.scheme in ("http", "https") and proxy.hostname else None


async def open_streams(address: Address, tls: ssl.SSLContext | None) -> Streams:
    """Reader and writer to ``address``; raises OSError, and LinkEnded where a proxy refuses."""
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
    """A transport to ``address`` that nothing has been read from, with reading paused."""
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
    """A reader and a writer that begin behind the proxy's answer: no byte of the proxy's is in the reader."""
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

    A proxy, or somebody between here and the proxy, may send bytes behind the answer. Bytes kept from before
    the TLS handshake would be read as the server's, as if TLS had verified them. Therefore such an answer is
    refused, reading is paused with the last byte of the answer, and the TLS connection gets a reader of its
    own.
    """

    def __init__(self, request: bytes) -> None:
        #: Done when the tunnel stands; fails with LinkEnded when there is none.
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
        elif len(self._answer) > _MAX_ANSWER_BYTES:
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
    """Why ``answer``, of which the first ``head_bytes`` are its head, opens no tunnel; None when it does."""
    if answer.split(b" ", 2)[1:2] != [b"200"]:
        return f"the proxy refused: {answer[:80]!r}"
    if len(answer) > head_bytes:
        return "bytes came behind the proxy's answer to CONNECT, before the server was asked anything"
    return None


def _request(address: Address, proxy: SplitResult) -> bytes:
    lines = [f"CONNECT {address.authority} HTTP/1.1", f"Host: {address.authority}"]
    if proxy.username is not None:
        credentials = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(credentials.encode()).decode()}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
