"""Child: pushes to the sockets that connect, alternately by the server's own hub and sockets and by raw writes.

Each request for its usage is answered after a round: ``counted`` is the CPU of one push in nanoseconds.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import time
from typing import Any, Final, cast
from uuid import UUID, uuid4

import uvloop

from auth.identity import Identity
from guardwire.state import DEFAULT_CHANNELS
from realtime.delivery.hub import Hub
from realtime.delivery.stream import Stream, Timing
from realtime.delivery.websocket.connection import Callbacks, Socket
from realtime.history import Step
from realtime.snapshot import Freshness, Snapshot
from tests.benchmarks.children import announce, given

_ROUNDS: Final = 200
_SWITCHING: Final = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
_AS_OF: Final = "2026-01-01T00:00:00.000000Z"
_ACCOUNT: Final = uuid4()


class _Accepting(asyncio.Protocol):
    def __init__(self, transports: list[asyncio.Transport]) -> None:
        self._transports = transports

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's.
        transport = cast("asyncio.Transport", transport)
        transport.write(_SWITCHING)
        self._transports.append(transport)


def _snapshot(revision: int) -> Snapshot:
    state: Any = {
        "status": {"status": "healthy", "source": "live", "total_syncs": revision, "last_sync_at": _AS_OF},
        "positions": {
            "total_positions": 10,
            "open": {
                str(ticket): {
                    "symbol": "XAUUSD",
                    "volume": 0.1,
                    "current_price": 1950.0,
                    "unrealized_pnl": 1.0,
                }
                for ticket in range(1001, 1011)
            },
        },
        "guards": {"system_status": "healthy", "alerts": {}, "breaches": {}},
        "alerts": {"unacknowledged": 0, "open": {}},
    }
    moved = state["positions"]["open"]
    moved["1003"] = {**moved["1003"], "current_price": float(revision), "unrealized_pnl": revision / 10}
    return Snapshot(user_id=_ACCOUNT, epoch=8, revision=revision, as_of=_AS_OF, state=copy.deepcopy(state))


class Pusher:
    """Both ways to push, over the same connections."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transports: list[asyncio.Transport]) -> None:
        self._loop = loop
        self._transports = transports
        self._hub = Hub(mark_dirty=_nothing, stale_seconds=1e9)
        self._revisions = itertools.count(2)
        self._newest = _snapshot(1)
        self._begun = False
        self._turns = itertools.cycle((self._ours, self._raw))

    def counted(self) -> int:
        """Called from another thread: the CPU of one push in nanoseconds, alternately ours and raw."""
        return asyncio.run_coroutine_threadsafe(next(self._turns)(), self._loop).result()

    async def _ours(self) -> int:
        self._begin()
        used = 0
        for revision in itertools.islice(self._revisions, _ROUNDS):
            base, self._newest = self._newest, _snapshot(revision)
            step = Step(self._newest, base)
            begun = time.process_time_ns()
            self._hub.publish([step], as_of=_AS_OF, read_at=time.monotonic())
            await asyncio.sleep(0)
            used += time.process_time_ns() - begun
            await asyncio.sleep(0.001)
        return used // (_ROUNDS * len(self._transports))

    async def _raw(self) -> int:
        frame = bytes(300)
        used = 0
        for _ in range(_ROUNDS):
            begun = time.process_time_ns()
            for transport in self._transports:
                transport.write(b"\x82\x7e\x01\x2c" + frame)
            await asyncio.sleep(0)
            used += time.process_time_ns() - begun
            await asyncio.sleep(0.001)
        return used // (_ROUNDS * len(self._transports))

    def _begin(self) -> None:
        if self._begun:
            return
        self._begun = True
        for transport in self._transports:
            now = time.monotonic()
            stream = Stream(now, Timing(), 0, _identity())
            socket = Socket(
                transport,
                stream,
                callbacks=Callbacks(
                    lambda _socket, _asked: None, lambda _socket, _asked: None, lambda _socket: None
                ),
                max_frame_bytes=16_384,
                frames_per_second=10,
            )
            socket.watch(self._hub.attach(_ACCOUNT, socket))
            socket.perform(stream.open(self._newest, Freshness(_AS_OF, 0), now, channels=DEFAULT_CHANNELS))


def _identity() -> Identity:
    return Identity(
        user_id=_ACCOUNT, subject="", issuer="", audience="", token_id="", key_fingerprint=b"",
        issued_at=time.time(), expires_at=time.time() + 3600,
    )  # fmt: skip


def _nothing(_user: UUID) -> None:
    """There is nothing to evaluate here."""


async def _serve() -> None:
    given()
    loop = asyncio.get_running_loop()
    transports: list[asyncio.Transport] = []
    server = await loop.create_server(lambda: _Accepting(transports), "127.0.0.1", 0)
    announce(server.sockets[0].getsockname()[1], Pusher(loop, transports).counted)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())
