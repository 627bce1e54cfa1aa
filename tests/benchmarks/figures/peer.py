"""Against the server that most people would write: every socket asks for everything, every second."""

from __future__ import annotations

import asyncio
import time

from tests.benchmarks.children import Child
from tests.benchmarks.figure import Figure
from tests.benchmarks.flow import Flow, move
from tests.benchmarks.ground import Ground
from tests.benchmarks.platform import MOVE, POSITIONS, prices
from tests.benchmarks.sockets import Sockets

_CHANGES_PER_SECOND = 200


class _Cost:
    def __init__(self) -> None:
        self.cpu_us: list[float] = []
        self.statements_per_second: list[float] = []


async def measure(ground: Ground) -> list[Figure]:
    """Server CPU per change, and statements a second."""
    ours, naive = _Cost(), _Cost()
    flow = await Flow.open(ground.database_url)
    async with ground.node(counts_statements=True) as node, ground.naive() as peer:
        for _ in range(ground.scale.samples):
            await _our_window(ground, node, flow, ours)
            await _naive_window(ground, peer, naive)
    await flow.close()
    load = f"{ground.scale.accounts:,} accounts, {_CHANGES_PER_SECOND} changes/s"
    return [
        Figure(
            name=f"server CPU per change, against the naive server, {load}",
            unit="µs",
            ours=ours.cpu_us,
            reference=naive.cpu_us,
            target=1 / 8,
        ),
        Figure(
            name="statements/s, against the naive server",
            unit="/s",
            ours=ours.statements_per_second,
            reference=naive.statements_per_second,
            target=1 / 15,
        ),
    ]


async def _our_window(ground: Ground, node: Child, flow: Flow, cost: _Cost) -> None:
    seconds = ground.scale.window_seconds
    async with Sockets(node.port) as sockets:
        await sockets.connect(ground.users, ground.tokens(ground.users))
        await flow.run([sockets], move, ground.users, per_second=_CHANGES_PER_SECOND, seconds=0.5)
        before = await node.usage()
        seen = await flow.run([sockets], move, ground.users, per_second=_CHANGES_PER_SECOND, seconds=seconds)
        after = await node.usage()
    changes = len(seen.latencies_seconds)
    cost.cpu_us.append(1e6 * (after.cpu_seconds - before.cpu_seconds) / changes)
    cost.statements_per_second.append((after.counted - before.counted) / seconds)


async def _naive_window(ground: Ground, peer: Child, cost: _Cost) -> None:
    seconds = ground.scale.window_seconds
    changes = int(_CHANGES_PER_SECOND * seconds)
    async with Sockets(peer.port) as sockets:
        await sockets.connect(ground.users, ground.tokens(ground.users))
        before = await peer.usage()
        await _write(ground, changes, seconds)
        after = await peer.usage()
    cost.cpu_us.append(1e6 * (after.cpu_seconds - before.cpu_seconds) / changes)
    cost.statements_per_second.append((after.counted - before.counted) / seconds)


async def _write(ground: Ground, changes: int, seconds: float) -> None:
    """The same writes; nobody waits until they are shown, for that would take the naive server's second."""
    begun = time.perf_counter()
    for turn in range(changes):
        await asyncio.sleep(max(0.0, begun + turn * seconds / changes - time.perf_counter()))
        user = ground.users[turn % len(ground.users)]
        await ground.connection.execute(MOVE, user, 1001 + turn % POSITIONS, next(prices))
    await asyncio.sleep(max(0.0, begun + seconds - time.perf_counter()))
