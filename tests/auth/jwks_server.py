"""A real HTTP server on a free port that publishes keys, sends wrong answers, is slow, or is stopped."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


class JwksServer:
    """``answer`` writes the response to each request; ``requests`` counts them."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.requests = 0
        self.last_request = b""
        self.answer: Answer = self.publishing()
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://localhost:{self._port}/keys?tenant=1"

    def publish(self, *documents: dict[str, Any]) -> None:
        """Answer with these keys from now on."""
        self.answer = self.publishing(*documents)

    @staticmethod
    def publishing(*documents: dict[str, Any]) -> Answer:
        return JwksServer.saying(json.dumps({"keys": documents}).encode())

    @staticmethod
    def saying(body: bytes, *, head: bytes = b"200 OK", headers: bytes = b"") -> Answer:
        async def answer(writer: asyncio.StreamWriter) -> None:
            length = b"" if b"ransfer-" in headers else b"Content-Length: %d\r\n" % len(body)
            writer.write(b"HTTP/1.1 " + head + b"\r\n" + length + headers + b"\r\n" + body)
            await writer.drain()

        return answer

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "localhost", self._port, ssl=self._tls)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.last_request = await reader.readuntil(b"\r\n\r\n")
            self.requests += 1
            await self.answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()
