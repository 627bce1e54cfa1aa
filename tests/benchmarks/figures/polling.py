"""Against the same server and accounts, polled every second over REST."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from uuid import UUID

from tests.benchmarks.children import Child
from tests.benchmarks.figure import Figure
from tests.benchmarks.figures.peer import write
from tests.benchmarks.figures.rest import get
from tests.benchmarks.ground import Ground
from tests.benchmarks.sockets import Sockets

_CONNECTIONS = 20
_EVERY_SECONDS = 1.0


async def measure(ground: Ground) -> list[Figure]:
    """Server CPU a second, in total, with the same accounts, writes and seconds."""
    pushing: list[float] = []
    polled: list[float] = []
    async with ground.node() as node, ground.node() as asked, Sockets(node.port) as sockets:
        await sockets.connect(ground.users, ground.tokens(ground.users))
        for number in range(ground.scale.samples + 1):
            pushed = await _window(ground, node)
            pollers = [
                asyncio.create_task(_poll(asked.port, ground, ground.users[each::_CONNECTIONS]))
                for each in range(_CONNECTIONS)
            ]
            await asyncio.sleep(_EVERY_SECONDS)
            taken = await _window(ground, asked)
            for poller in pollers:
                poller.cancel()
            await asyncio.gather(*pollers, return_exceptions=True)
            if number:
                pushing.append(pushed)
                polled.append(taken)
    return [
        Figure(
            name=f"server CPU, {len(ground.users):,} accounts pushed, against the same polled every second",
            unit="% of a core",
            ours=pushing,
            reference=polled,
            note="200 changes/s; who polls learns of a change half a second late",
        )
    ]


async def _window(ground: Ground, server: Child) -> float:
    before = await server.usage()
    seconds, _ = await write(ground, ground.users, ground.scale.window_seconds)
    return 100 * ((await server.usage()).cpu_seconds - before.cpu_seconds) / seconds


async def _poll(port: int, ground: Ground, users: Sequence[UUID]) -> None:
    """Poll for each of ``users`` once a second, evenly spread, on one connection that is kept."""
    requests = [
        f"GET /api/v1/state HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n".encode()
        for token in ground.tokens(users)
    ]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    begun = time.perf_counter()
    try:
        turn = 0
        while True:
            due = begun + turn * _EVERY_SECONDS / len(requests)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await get(reader, writer, requests[turn % len(requests)])
            turn += 1
    finally:
        writer.close()
