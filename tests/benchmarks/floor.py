"""Child: the floor. A NOTIFY comes in, and one raw write of a ready frame goes out; no server can do less.

It knows no tokens, no state and no protocol. A client names the account of its frames in a header.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

import asyncpg
import uvloop

from tests.benchmarks.children import announce, given

_SWITCHING: Final = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
#: About as long as the server's own update of one moved price.
_BODY: Final = b'{"type":"update","current_price":%d,"filling":"' + b"." * 320 + b'"}'


class _Raw(asyncio.Protocol):
    def __init__(self, transports: dict[str, asyncio.Transport]) -> None:
        self._transports = transports
        self._head = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's.
        transport = cast("asyncio.Transport", transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._head += data
        if b"\r\n\r\n" not in self._head or self._transport is None:
            return
        user = self._head.split(b"x-user: ", 1)[1].split(b"\r\n", 1)[0].decode()
        self._head = b""
        self._transports[user] = self._transport
        self._transport.write(_SWITCHING)


def _frame(price: int) -> bytes:
    body = _BODY % price
    return b"\x81\x7e" + len(body).to_bytes(2, "big") + body


async def _serve() -> None:
    values = given()
    transports: dict[str, asyncio.Transport] = {}

    def on_notification(_connection: object, _pid: int, _channel: str, payload: object) -> None:
        for item in str(payload).split(","):
            user, _, price = item.partition("=")
            transport = transports.get(user)
            if transport is not None:
                transport.write(_frame(int(price)))

    connection = await asyncpg.connect(values["database_url"])
    await connection.add_listener(values["notify_channel"], on_notification)
    server = await asyncio.get_running_loop().create_server(lambda: _Raw(transports), "127.0.0.1", 0)
    announce(server.sockets[0].getsockname()[1])
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())
