"""A hundred clients that stop reading: what they cost, when they are gone, and what others notice of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final
from uuid import UUID, uuid4

import pytest
from websockets.asyncio.client import ClientConnection

from realtime.metrics import METRICS
from realtime.snapshot import Snapshot
from tests.delivery.stream_server import StreamServer, stream_server
from tests.snapshots import snapshot

USERS: Final = 50
STUCK_OF_A_USER: Final = 2
ROUNDS: Final = 60
MOST_BYTES: Final = 128 * 1024
#: A socket's own objects in this process, generously.
OBJECT_BYTES: Final = 12 * 1024

# Linux alone gives the kernel's memory of a socket, as nine numbers.
_SO_MEMINFO: Final = 55
_RECEIVED, _WAITING_TO_SEND, _RESERVED = 0, 5, 4

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's share is known on Linux alone")


@pytest.fixture
async def server() -> AsyncIterator[StreamServer]:
    async with stream_server(ping_seconds=20.0) as server:
        yield server


class Readers:
    """One client of each user that reads, and those that stop after the handshake."""

    def __init__(self, server: StreamServer, path: str, *, users: int = USERS) -> None:
        self.users = [uuid4() for _ in range(users)]
        self.well: dict[UUID, ClientConnection] = {}
        self._server = server
        self._path = path

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """All of them, at revision 1."""
        async with contextlib.AsyncExitStack() as stack:
            for number, user_id in enumerate(self.users):
                for _ in range(STUCK_OF_A_USER):
                    stack.enter_context(self._stuck(user_id, small=number % 2 == 0))
                connection = self._server.connect(headers=self._server.headers(user_id))
                self.well[user_id] = await stack.enter_async_context(connection)
            for user_id in self.users:
                await self._server.watched(user_id, clients=STUCK_OF_A_USER + 1)
                await self._server.opened(snapshot(1, user_id=user_id), self.well[user_id])
            yield

    @contextlib.contextmanager
    def _stuck(self, user_id: UUID, *, small: bool) -> Iterator[None]:
        """A client that never reads; its own receive buffer is ``small``, or what the system gives."""
        with socket.socket() as client:
            if small:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            host, _, port = self._server.address.partition(":")
            client.connect((host, int(port)))
            lines = [f"GET {self._path} HTTP/1.1", f"Host: {self._server.address}"]
            if self._path == "/ws":
                lines += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
                lines.append("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
            lines += [f"{name}: {value}" for name, value in self._server.headers(user_id).items()]
            client.sendall("\r\n".join([*lines, "", ""]).encode())
            yield

    async def change(self, revision: int, *, opened: int = 250) -> None:
        """Each account changes, by so many positions; who reads gets that as an update of its own."""
        for user_id in self.users:
            new, old = (_book(which, user_id, opened) for which in (revision, revision - 1))
            self._server.publish(new, old)
        for connection in self.well.values():
            frame = await _update(connection)
            assert (frame["base"], frame["revision"]) == (revision - 1, revision)


def _book(revision: int, user_id: UUID, opened: int) -> Snapshot:
    """A book of so many positions, none of which the revision before has."""
    first = 1_000 * (revision % 2)
    tickets = () if revision == 1 else tuple(range(first, first + opened))
    return snapshot(revision, user_id=user_id, tickets=tickets)


async def _update(connection: ClientConnection) -> dict[str, Any]:
    """The next update; heartbeats may come before."""
    while True:
        frame: dict[str, Any] = json.loads(await connection.recv())
        if frame["type"] == "update":
            return frame


def _pinned_bytes(transport: asyncio.Transport) -> int:
    """The bytes that wait for this peer, in the process and in the kernel."""
    raw = transport.get_extra_info("socket")
    if transport.is_closing() or raw.fileno() < 0:
        return 0
    memory = struct.unpack("9I", raw.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36))
    kernel = memory[_RECEIVED] + memory[_WAITING_TO_SEND] + memory[_RESERVED]
    return int(kernel) + transport.get_write_buffer_size() + OBJECT_BYTES


@pytest.mark.parametrize("path", ["/ws", "/api/v1/stream"])
async def test_a_hundred_that_do_not_read_cost_little_and_are_cut_while_others_get_every_change(
    server: StreamServer, path: str
) -> None:
    readers = Readers(server, path)
    cut, most_pinned = METRICS.slow_readers.get(), 0
    async with readers.connected():
        assert len(server.transports()) == USERS * (STUCK_OF_A_USER + 1)
        for revision in range(2, ROUNDS):
            await readers.change(revision)
            most_pinned = max(most_pinned, *map(_pinned_bytes, server.transports()))
        assert 2 * OBJECT_BYTES < most_pinned <= MOST_BYTES
        while METRICS.slow_readers.get() < cut + USERS * STUCK_OF_A_USER:
            await asyncio.sleep(0.05)
        while len(server.transports()) > USERS:
            await asyncio.sleep(0.05)
        await readers.change(ROUNDS)


@pytest.mark.parametrize("path", ["/ws", "/api/v1/stream"])
async def test_the_smallest_frames_which_the_kernel_packs_worst_cost_no_more(
    server: StreamServer, path: str
) -> None:
    readers, most_pinned = Readers(server, path, users=2), 0
    async with readers.connected():
        for revision in range(2, 2_000):
            await readers.change(revision, opened=1)
            most_pinned = max(most_pinned, *map(_pinned_bytes, server.transports()))
    assert 2 * OBJECT_BYTES < most_pinned <= MOST_BYTES
