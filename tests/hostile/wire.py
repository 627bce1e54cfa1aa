"""A client that sends any bytes, and reports how the server reacted."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from typing import Final, NamedTuple, Self

MASK: Final = b"\x37\xfa\x21\x3d"
#: How long a server may take to close.
GOODBYE_SECONDS: Final = 15.0

TEXT, BINARY, CLOSE, PING, PONG, CONT = 0x1, 0x2, 0x8, 0x9, 0xA, 0x0


class Goodbye(NamedTuple):
    """The end of a connection: ``code`` is None when it was cut, or closed without a close frame."""

    code: int | None
    reason: str


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    reserved: int = 0,
    mask: bool = True,
    length: int | None = None,
    width: int | None = None,
) -> bytes:
    """One frame (RFC 6455, 5.2), as wrong as the arguments make it.

    ``length`` is the length in the header and ``width`` its number of bytes (0, 2 or 8); both follow from ``payload``
    when None.
    """
    claimed = len(payload) if length is None else length
    if width is None:
        width = 0 if claimed < 126 else 2 if claimed < 65_536 else 8
    short = {2: 126, 8: 127}.get(width, claimed)
    head = bytes([fin << 7 | reserved << 4 | opcode, mask << 7 | short])
    head += claimed.to_bytes(width, "big") if width else b""
    return head + (MASK + masked(payload) if mask else payload)


def masked(payload: bytes) -> bytes:
    """``payload`` under `MASK`."""
    return bytes(byte ^ MASK[index % 4] for index, byte in enumerate(payload))


def close(code: int | None = None, reason: bytes = b"") -> bytes:
    """A close frame with any code."""
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


class Wire:
    """One connection after its WebSocket handshake."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, address: str, headers: Mapping[str, str] | None = None, *, path: str = "/ws", small: bool = False
    ) -> AsyncIterator[Self]:
        """Connect while the context lasts; ``small``: with the smallest possible receive buffer."""
        async with connection(address, small=small) as (reader, writer):
            writer.write(handshake(address, headers, path=path))
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), GOODBYE_SECONDS)
            assert head.startswith(b"HTTP/1.1 101 "), head
            yield cls(reader, writer)

    async def send(self, data: bytes) -> None:
        """Send ``data`` unchanged; an error because the server has hung up is ignored."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def frames(self) -> AsyncIterator[tuple[int, bytes]]:
        """Every frame until the connection ends."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                first, second = await self.reader.readexactly(2)
                length = second & 0x7F
                if length > 125:
                    length = int.from_bytes(await self.reader.readexactly(2 if length == 126 else 8), "big")
                yield first & 0x0F, await self.reader.readexactly(length)

    async def goodbye(self) -> Goodbye:
        """Read until the connection ends, and return how it did."""
        said = Goodbye(None, "")
        async with asyncio.timeout(GOODBYE_SECONDS):
            async for opcode, payload in self.frames():
                if opcode == CLOSE:
                    code = struct.unpack("!H", payload[:2])[0] if payload else 1005
                    said = Goodbye(code, payload[2:].decode())
        return said


@contextlib.asynccontextmanager
async def connection(
    address: str, *, small: bool = False
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A bare TCP connection while the context lasts; at the end it is cut and not closed."""
    host, _, port = address.partition(":")
    raw = socket.socket()
    if small:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=raw, limit=2**12 if small else 2**16)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def handshake(address: str, headers: Mapping[str, str] | None = None, *, path: str = "/ws") -> bytes:
    """A good opening handshake with further headers."""
    lines = {
        "Host": address,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        **(headers or {}),
    }
    return request(f"GET {path} HTTP/1.1", lines)


def request(line: str, headers: Mapping[str, str]) -> bytes:
    """The head of a request."""
    return "\r\n".join([line, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode(
        "latin-1"
    )


async def answer(address: str, data: bytes) -> bytes:
    """The head of the server's answer to ``data``; empty when the connection ends before."""
    async with connection(address) as (reader, writer):
        writer.write(data)
        async with asyncio.timeout(GOODBYE_SECONDS):
            with contextlib.suppress(ConnectionError):
                return await reader.readuntil(b"\r\n\r\n")
    return b""
