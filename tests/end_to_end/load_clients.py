"""Thousands of clients in a process of their own, as cheap as possible: they read first frames alone.

Run as a module. The first line on standard input lists the tokens. Each further line is the address of a node, to which
all clients connect at once, from their present position. When all are fresh, the process prints a line with the result.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

_ROOT: Final = Path(__file__).parents[2]
_LINE_BYTES: Final = 2**24
_AGAIN_SECONDS: Final = 0.5
_FRESH_MS: Final = 15_000

_EPOCH: Final = re.compile(rb'"epoch":(\d+)')
_REVISION: Final = re.compile(rb'"revision":(\d+)')
_AGE_MS: Final = re.compile(rb'"age_ms":(\d+)')


@dataclass(frozen=True)
class Arrival:
    """The result: seconds until all were fresh, the revision of each, how many were resumed, and the reasons and
    numbers of further attempts.
    """

    seconds: float
    revisions: list[int]
    resumed: int
    again: dict[str, int]


class LoadClients:
    """The running process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def arrive(self, url: str, *, seconds: float) -> Arrival:
        """Connect all clients at once, and wait until all are fresh."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{url}\n".encode())
        async with asyncio.timeout(seconds):
            line = await self._process.stdout.readline()
        assert line, "the process of the clients has ended"
        return Arrival(**json.loads(line))


@contextlib.asynccontextmanager
async def load_clients(tokens: Sequence[str]) -> AsyncIterator[LoadClients]:
    """A process with a client for each token, not connected yet; it ends with the context."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.end_to_end.load_clients",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(_ROOT)},
        limit=_LINE_BYTES,
    )
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(list(tokens)).encode() + b"\n")
        yield LoadClients(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


# The code of the process.


class _Client:
    """One client's position in the stream; `fresh` is done when the client knows that its state is current."""

    __slots__ = ("again", "epoch", "fresh", "resumed", "revision", "token")

    def __init__(self, token: str) -> None:
        self.token = token
        self.epoch = self.revision = -1
        self.resumed = False
        self.again: list[str] = []
        self.fresh: asyncio.Future[None]

    def request(self) -> bytes:
        since = f"?since={self.epoch}:{self.revision}" if self.revision >= 0 else ""
        return (
            f"GET /ws{since} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            f"Authorization: Bearer {self.token}\r\n\r\n"
        ).encode()

    def take(self, payload: bytes) -> None:
        if payload.startswith(b'{"type":"welcome"'):
            self.epoch = _number(_EPOCH, payload)
            self.resumed = b'"resumed":true' in payload
            return
        self.revision = _number(_REVISION, payload)
        if _number(_AGE_MS, payload) < _FRESH_MS and b'"stale":true' not in payload and not self.fresh.done():
            self.fresh.set_result(None)

    async def arrive(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        self.fresh = loop.create_future()
        while not self.fresh.done():
            connection = _Connection(self)
            try:
                await loop.create_connection(lambda connection=connection: connection, host, port)  # type: ignore[misc]
                await asyncio.wait((self.fresh, connection.lost), return_when=asyncio.FIRST_COMPLETED)
            except OSError as error:
                connection.said = type(error).__name__
            if not self.fresh.done():
                self.again.append(connection.said)
                await asyncio.sleep(_AGAIN_SECONDS)


def _number(pattern: re.Pattern[bytes], payload: bytes) -> int:
    match = pattern.search(payload)
    assert match is not None, payload[:200]
    return int(match[1])


class _Connection(asyncio.Protocol):
    """Passes the first frames of a connection to its client, and ignores later ones."""

    def __init__(self, client: _Client) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._client = client
        self._buffer = b""
        self._upgraded = False
        #: The first line of a refusal, or the reason of a close.
        self.said = "lost"
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._client.request())

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self._client.fresh.done():
            return
        self._buffer += data
        if not self._upgraded:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            if b" 101 " not in head[:20]:
                assert self._transport is not None
                self.said = head.split(b"\r\n", 1)[0].decode()
                self._transport.abort()
                return
            self._upgraded, self._buffer = True, rest
        while (payload := self._frame()) is not None:
            self._client.take(payload)

    def _frame(self) -> bytes | None:
        """The next frame's payload, if it is complete and text."""
        buffer = self._buffer
        if len(buffer) < 4:
            return None
        length, start = buffer[1], 2
        if length >= 126:
            start = 4 if length == 126 else 10
            length = int.from_bytes(buffer[2:start], "big")
        if len(buffer) < start + length:
            return None
        self._buffer = buffer[start + length :]
        if buffer[0] != 0x81:
            self.said = f"closed with {int.from_bytes(buffer[start : start + 2])}"
            return None
        return buffer[start : start + length]


async def _serve() -> None:
    reader = asyncio.StreamReader(limit=_LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    clients = [_Client(token) for token in json.loads(await reader.readline())]
    while line := await reader.readline():
        host, _, port = line.decode().strip().removeprefix("http://").partition(":")
        for client in clients:
            client.again, client.resumed = [], False
        began = time.monotonic()
        await asyncio.gather(*(client.arrive(host, int(port)) for client in clients))
        told: dict[str, Any] = {
            "seconds": time.monotonic() - began,
            "revisions": [client.revision for client in clients],
            "resumed": sum(client.resumed for client in clients),
            "again": Counter(reason for client in clients for reason in client.again),
        }
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    import uvloop

    from realtime.cli.process import allow_many_connections, collect_garbage_seldom

    allow_many_connections()
    collect_garbage_seldom()
    uvloop.run(_serve())
