"""A crowd that comes back at once, each with a token and told its whole state, against the naive server."""

from __future__ import annotations

import time

from tests.benchmarks.children import Child
from tests.benchmarks.figure import Figure
from tests.benchmarks.ground import Ground
from tests.benchmarks.sockets import Sockets


async def measure(ground: Ground) -> list[Figure]:
    """All accounts at once: when the last has its state, and the server's CPU for each."""
    ours: list[tuple[float, float]] = []
    naive: list[tuple[float, float]] = []
    async with ground.node() as node, ground.naive() as peer:
        for number in range(ground.scale.samples + 1):
            for server, taken in ((node, ours), (peer, naive)):
                measured = await _return(ground, server)
                if number:  # the first time nothing is warm
                    taken.append(measured)
    crowd = f"{len(ground.users):,} reconnects at once"
    return [
        Figure(
            name=f"{crowd}: until the last has its state, against the naive server",
            unit="s",
            ours=[seconds for seconds, _ in ours],
            reference=[seconds for seconds, _ in naive],
        ),
        Figure(
            name=f"{crowd}: server CPU for each, against the naive server",
            unit="µs",
            ours=[cpu_us for _, cpu_us in ours],
            reference=[cpu_us for _, cpu_us in naive],
        ),
    ]


async def _return(ground: Ground, server: Child) -> tuple[float, float]:
    users = ground.users
    async with Sockets(server.port) as sockets:
        before, begun = await server.usage(), time.perf_counter()
        await sockets.connect(users, ground.tokens(users), at_once=len(users))
        seconds, after = time.perf_counter() - begun, await server.usage()
    return seconds, 1e6 * (after.cpu_seconds - before.cpu_seconds) / len(users)
