"""Child: receives webhooks and answers each with 204; it counts them."""

from __future__ import annotations

import asyncio
import re
from typing import Final, cast

import uvloop

from tests.benchmarks.children import announce, given

_ANSWER: Final = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


class _Request(asyncio.Protocol):
    received = 0

    def __init__(self) -> None:
        self._data = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n")
        if not end or self._transport is None or (length and len(body) < int(length[1])):
            return
        _Request.received += 1
        self._transport.write(_ANSWER)
        self._transport.close()


async def _serve() -> None:
    given()
    server = await asyncio.get_running_loop().create_server(_Request, "127.0.0.1", 0, backlog=512)
    announce(server.sockets[0].getsockname()[1], lambda: _Request.received)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())
