"""The same load on more nodes, each account on one of them: the CPU of all servers together."""

from __future__ import annotations

import contextlib

from tests.benchmarks.figure import Figure
from tests.benchmarks.flow import Flow, move
from tests.benchmarks.ground import Ground
from tests.benchmarks.sockets import Sockets


async def measure(ground: Ground) -> list[Figure]:
    """Against one node."""
    cpu: dict[int, list[float]] = {count: [] for count in ground.scale.nodes}
    flow = await Flow.open(ground.database_url)
    for _ in range(ground.scale.samples):
        for count, taken in cpu.items():
            taken.append(await _cpu_us(ground, flow, count))
    await flow.close()
    one, *more = ground.scale.nodes
    return [
        Figure(
            name=f"server CPU per change on {count} nodes, against one",
            unit="µs",
            ours=cpu[count],
            reference=cpu[one],
            target=1.4,
            in_the_way="each further node hears of every commit and of every delta, wakes for both, and has a sweep,"
            " a canary and a pulse of its own",
        )
        for count in more
    ]


async def _cpu_us(ground: Ground, flow: Flow, count: int) -> float:
    async with contextlib.AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(ground.node()) for _ in range(count)]
        sockets = [await stack.enter_async_context(Sockets(node.port)) for node in nodes]
        for number, each in enumerate(sockets):
            users = ground.users[number::count]
            await each.connect(users, ground.tokens(users))
        rate = min(ground.scale.changes_per_second)
        await flow.run(sockets, move, ground.users, per_second=rate, seconds=1.0)
        before = [await node.usage() for node in nodes]
        seen = await flow.run(
            sockets, move, ground.users, per_second=rate, seconds=ground.scale.window_seconds
        )
        after = [await node.usage() for node in nodes]
    used = sum(b.cpu_seconds - a.cpu_seconds for a, b in zip(before, after, strict=True))
    return 1e6 * used / len(seen.latencies_seconds)
