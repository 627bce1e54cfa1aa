"""A TCP balancer: one address, and behind it whichever server a test names."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

#: The balancer reads only this much from a server whose client does not read.
_HELD_BYTES = 4_096


class Balancer:
    """``url`` leads to ``target``, the base URL of a server; open connections stay where they are.

    While ``passing`` is cleared, clients get nothing and servers notice that no client reads.
    """

    def __init__(self) -> None:
        self.url = ""
        self.target = ""
        self.connections = 0
        self.passing = asyncio.Event()
        self.passing.set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield
        finally:
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        target = urlsplit(self.target)
        try:
            there = await _connected(target.hostname or "", target.port or 0)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._pump(reader, there[1]), self._pump(there[0], writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(65_536):
                await self.passing.wait()
                writer.write(piece)
                await writer.drain()
        writer.close()


async def _connected(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _HELD_BYTES)
    connection.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(connection, (host, port))
    except OSError:
        connection.close()
        raise
    return await asyncio.open_connection(sock=connection, limit=_HELD_BYTES)
