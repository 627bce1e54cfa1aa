"""A proxy between the browser and the server that can block paths, hold everything, or cut connections."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import Iterator

_CHUNK_BYTES = 65_536
_REFUSAL = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Gate:
    """Forwards HTTP to ``server_port``; it runs in a thread of its own, for tests that block."""

    def __init__(self, server_port: int) -> None:
        #: Prefixes of paths that get a 403, as from a proxy that forbids them.
        self.blocked: tuple[str, ...] = ()
        self.port = 0
        self._server_port = server_port
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """The URL for browsers."""
        return f"http://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def listening(self) -> Iterator[Gate]:
        """Forward everything while the context lasts."""
        thread = threading.Thread(target=self._loop.run_forever, name="gate", daemon=True)
        thread.start()
        server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(5)
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(self._end(server), self._loop).result(5)
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    def hold(self) -> None:
        """Forward nothing in either direction, without closing anything, like a dead network."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def release(self) -> None:
        """Forward everything that was held, in its order."""
        self._loop.call_soon_threadsafe(self._open.set)

    def cut(self) -> None:
        """Cut all connections."""
        self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _listen(self) -> asyncio.Server:
        self._open.set()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _end(self, server: asyncio.Server) -> None:
        server.close()
        self._open.set()
        self._cut()
        # They end by themselves after their connections were cut.
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self._server_port)
            self._writers.add(upstream)
            answers = asyncio.create_task(self._answers(upstream_reader, writer))
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._requests(reader, writer, upstream)
            answers.cancel()
            upstream.close()
            self._writers.discard(upstream)
        writer.close()
        self._writers.discard(writer)

    async def _requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: asyncio.StreamWriter
    ) -> None:
        """Requests one by one; after an upgrade any bytes."""
        upgraded = False
        while True:
            data = await (reader.read(_CHUNK_BYTES) if upgraded else reader.readuntil(b"\r\n\r\n"))
            await self._open.wait()
            if not data:
                return
            path = b"" if upgraded else data.split(b" ", 2)[1]
            if path.decode().startswith(self.blocked or ("\0",)):
                writer.write(_REFUSAL)
                await writer.drain()
                return
            length = None if upgraded else _LENGTH.search(data)
            body = b"" if length is None else await reader.readexactly(int(length[1]))
            upgraded = upgraded or b"upgrade: websocket" in data.lower()
            upstream.write(data + body)
            await upstream.drain()

    async def _answers(self, upstream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await upstream.read(_CHUNK_BYTES):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        writer.close()
