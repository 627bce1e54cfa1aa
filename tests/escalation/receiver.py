"""A real HTTP server on a free port that receives webhooks, and answers rightly, wrongly, slowly or not at all."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Self

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Received(NamedTuple):
    """One request: its first line, its headers by lower-case name, and its body."""

    line: str
    headers: dict[str, str]
    body: str


class Receiver:
    """``answer`` writes the response to each request; ``connections`` and ``requests`` are what came."""

    def __init__(self, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.connections = 0
        self.requests: list[Received] = []
        self.answer: Answer = saying(200)
        self.host = host
        self.port = 0
        self._tls = tls
        self._stopped = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self.host, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._stopped.set()

    @property
    def url(self) -> str:
        """Where it listens, by its address."""
        return self.url_of(f"[{self.host}]" if ":" in self.host else self.host)

    def url_of(self, host: str) -> str:
        """Where it listens, by any name."""
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}/hook?tenant=1"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, *rest = head.strip().split("\r\n")
            headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in rest)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            self.requests.append(Received(line, headers, body.decode()))
            # An answer that never ends is left when the server stops.
            waited = [asyncio.ensure_future(self.answer(writer)), asyncio.ensure_future(self._stopped.wait())]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            for each in waited:
                each.cancel()
            await asyncio.gather(*waited, return_exceptions=True)
        except (OSError, EOFError):
            pass
        finally:
            writer.close()


def saying(status: int, *headers: str, body: bytes = b"") -> Answer:
    """An answer with this status, and with these lines in its head."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        head = "\r\n".join([f"HTTP/1.1 {status} Word", f"Content-Length: {len(body)}", *headers, "", ""])
        writer.write(head.encode() + body)
        await writer.drain()

    return answer


async def hanging(writer: asyncio.StreamWriter) -> None:
    """An answer that never comes."""
    await asyncio.sleep(3600)


async def dripping(writer: asyncio.StreamWriter) -> None:
    """An answer whose head comes one byte at a time and never ends."""
    writer.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def pouring(writer: asyncio.StreamWriter) -> None:
    """An answer whose body never ends."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        await writer.drain()


async def swelling(writer: asyncio.StreamWriter) -> None:
    """An answer whose head never ends, at full speed."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-More: " + b"x" * 60_000 + b"\r\n")
        await writer.drain()


async def promising(writer: asyncio.StreamWriter) -> None:
    """Interim answers without end."""
    while True:
        writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.001)


async def babbling(writer: asyncio.StreamWriter) -> None:
    """An answer that is no HTTP."""
    writer.write(b"220 mail.example ESMTP\r\n")
    await writer.drain()
