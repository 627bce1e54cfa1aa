"""Against the server that most people would write: every socket reads everything every second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from statistics import median
from uuid import UUID

from tests.benchmarks.children import Child
from tests.benchmarks.figure import Figure
from tests.benchmarks.ground import Ground
from tests.benchmarks.platform import MOVE, POSITIONS, prices
from tests.benchmarks.sockets import Sockets

_CHANGES_PER_SECOND = 200
_ALONE = "five milliseconds apart, each change wakes the server for itself, which is half of what it costs"


class _Cost:
    """The usage of one server, window by window."""

    def __init__(self) -> None:
        self.cpu_us: list[float] = []
        self.statements_per_second: list[float] = []
        self.crowd_seconds: list[float] = []
        self.crowd_cpu_us: list[float] = []


async def measure(ground: Ground) -> list[Figure]:
    """Server CPU per change, statements a second, and the cost of all connections at once."""
    ours, counted, naive = _Cost(), _Cost(), _Cost()
    users = ground.users
    # Counting costs our server a little, so the CPU is that of another server, which does not count.
    async with (
        ground.node() as node,
        ground.node(counts_statements=True) as counting,
        ground.naive() as peer,
    ):
        for _ in range(ground.scale.samples):
            for server, cost in ((node, ours), (counting, counted), (peer, naive)):
                await _window(ground, server, users, cost)
    owed = 3 * len(users)
    kept = median(naive.statements_per_second) / owed
    sent = (
        f"the naive server sent {kept:.0%} of the {owed:,} statements a second that it owes its clients,"
        " whose view"
        " was late by as much; had it kept its word, it would have cost more by so much"
    )
    load = f"{len(users):,} accounts, {_CHANGES_PER_SECOND} changes/s"
    return [
        Figure(
            name=f"server CPU per change, against the naive server, {load}",
            unit="µs",
            ours=ours.cpu_us,
            reference=naive.cpu_us,
            target=1 / 8,
            note=sent,
            in_the_way=_ALONE,
        ),
        Figure(
            name="statements/s, against the naive server",
            unit="/s",
            ours=counted.statements_per_second,
            reference=naive.statements_per_second,
            target=1 / 15,
            note=sent,
            in_the_way=_ALONE,
        ),
        Figure(
            name=f"{len(users):,} reconnects at once, until the last has its state, against the naive server",
            unit="s",
            ours=ours.crowd_seconds,
            reference=naive.crowd_seconds,
        ),
        Figure(
            name="server CPU for each of them",
            unit="µs",
            ours=ours.crowd_cpu_us,
            reference=naive.crowd_cpu_us,
        ),
    ]


async def _window(ground: Ground, server: Child, users: Sequence[UUID], cost: _Cost) -> None:
    """The same accounts, writes and seconds for each server; each client first gets its whole state."""
    async with Sockets(server.port) as sockets:
        before, begun = await server.usage(), time.perf_counter()
        await sockets.connect(users, ground.tokens(users), at_once=len(users))
        cost.crowd_seconds.append(time.perf_counter() - begun)
        used = (await server.usage()).cpu_seconds - before.cpu_seconds
        cost.crowd_cpu_us.append(1e6 * used / len(users))
        await write(ground, users, 0.5)
        before = await server.usage()
        seconds, changes = await write(ground, users, ground.scale.window_seconds)
        after = await server.usage()
    cost.cpu_us.append(1e6 * (after.cpu_seconds - before.cpu_seconds) / changes)
    cost.statements_per_second.append((after.counted - before.counted) / seconds)


async def write(ground: Ground, users: Sequence[UUID], seconds: float) -> tuple[float, int]:
    """Write 200 changes a second; returns the duration, which is longer on a busy machine, and their number."""
    changes = int(_CHANGES_PER_SECOND * seconds)
    begun = time.perf_counter()
    for turn in range(changes):
        await asyncio.sleep(max(0.0, begun + turn / _CHANGES_PER_SECOND - time.perf_counter()))
        await ground.connection.execute(MOVE, users[turn % len(users)], 1001 + turn % POSITIONS, next(prices))
    await asyncio.sleep(max(0.0, begun + seconds - time.perf_counter()))
    return time.perf_counter() - begun, changes
