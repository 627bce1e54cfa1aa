"""Many WebSocket clients in one process at the least cost: they note the arrival of frames."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, cast
from uuid import UUID

#: Payload and time of arrival (`time.perf_counter`).
OnFrame = Callable[[UUID, bytes, float], None]

_AT_ONCE: Final = 40
_READY_SECONDS: Final = 60.0
_PING: Final = 9
#: With a mask that changes nothing. Stock uvicorn disconnects a client that does not return the bytes of its pings.
_PONG: Final = b"\x8a%c\x00\x00\x00\x00%b"


class _Client(asyncio.Protocol):
    __slots__ = ("_buffer", "_on_frame", "_upgraded", "ready", "request", "transport", "user", "wants_frame")

    def __init__(self, user: UUID, request: bytes, on_frame: OnFrame, *, wants_frame: bool) -> None:
        self.user = user
        self.request = request
        self.wants_frame = wants_frame
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None
        self._buffer = b""
        self._on_frame = on_frame
        self._upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's.
        transport = cast("asyncio.Transport", transport)
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self._buffer += data
        if not self._upgraded:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            if b" 101 " not in head.split(b"\r\n", 1)[0]:
                self.ready.set_exception(ConnectionError(head.decode(errors="replace")))
                return
            self._upgraded, self._buffer = True, rest
            if not self.wants_frame:
                self._is_ready()
        while self._take(now):
            pass

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(exc or ConnectionError("the server hung up"))

    def _take(self, now: float) -> bool:
        """Take one frame from the buffer, if it is complete."""
        buffer = self._buffer
        if len(buffer) < 2:
            return False
        length, start = buffer[1] & 0x7F, 2
        if length >= 126:
            start = 4 if length == 126 else 10
            length = int.from_bytes(buffer[2:start], "big")
        if len(buffer) < start + length or len(buffer) < start:
            return False
        payload, self._buffer = buffer[start : start + length], buffer[start + length :]
        if buffer[0] & 0x0F == _PING and self.transport is not None:
            self.transport.write(_PONG % (0x80 | length, payload))
        elif buffer[0] & 0x0F == 1:
            self._on_frame(self.user, payload, now)
            if not self.ready.done() and b'"snapshot"' in payload[:40]:
                self._is_ready()
        return True

    def _is_ready(self) -> None:
        if not self.ready.done():
            self.ready.set_result(None)


def ignore(_user: UUID, _payload: bytes, _now: float) -> None:
    """For sockets whose frames do not matter."""


class Sockets:
    """Open sockets to one server; a context manager that closes them."""

    def __init__(self, port: int, *, path: str = "/ws", wants_frame: bool = True) -> None:
        self._port = port
        self._path = path
        self._wants_frame = wants_frame
        self._clients: list[_Client] = []
        #: Called for every frame from now on.
        self.on_frame: OnFrame = ignore

    async def __aenter__(self) -> Sockets:
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            if client.transport is not None:
                client.transport.abort()
        await asyncio.sleep(0)

    def send(self, user: UUID, payload: bytes) -> None:
        """Send a frame of 126 to 65,535 bytes, or a shorter one, on the socket of ``user``."""
        (client,) = (each for each in self._clients if each.user == user)
        assert client.transport is not None
        # With a mask that changes nothing.
        size = (
            bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
        )
        client.transport.write(b"\x81" + size + b"\0\0\0\0" + payload)

    async def connect(self, users: Iterable[UUID], tokens: Sequence[str], *, at_once: int = _AT_ONCE) -> None:
        """Open one socket for each user; return when each has its first frame."""
        pairs = list(zip(users, tokens, strict=True))
        for start in range(0, len(pairs), at_once):
            await asyncio.gather(*(self._connect(*pair) for pair in pairs[start : start + at_once]))

    async def _connect(self, user: UUID, token: str) -> None:
        request = (
            f"GET {self._path} HTTP/1.1\r\nhost: 127.0.0.1:{self._port}\r\nupgrade: websocket\r\n"
            "connection: upgrade\r\nsec-websocket-version: 13\r\n"
            "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            f"x-user: {user}\r\nauthorization: Bearer {token}\r\n\r\n"
        ).encode()

        def on_frame(user: UUID, payload: bytes, now: float) -> None:
            self.on_frame(user, payload, now)

        async with asyncio.timeout(_READY_SECONDS):
            while True:
                try:
                    self._clients.append(await self._open(user, request, on_frame))
                except ConnectionError:
                    # An overloaded server rejects some connections, and clients come back.
                    await asyncio.sleep(0.1)
                else:
                    return

    async def _open(self, user: UUID, request: bytes, on_frame: OnFrame) -> _Client:
        _, client = await asyncio.get_running_loop().create_connection(
            lambda: _Client(user, request, on_frame, wants_frame=self._wants_frame), "127.0.0.1", self._port
        )
        await client.ready
        return client
