"""What sockets cost while nothing happens: memory, CPU and statements, against Starlette on stock uvicorn."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from tests.benchmarks.children import Child
from tests.benchmarks.figure import Figure
from tests.benchmarks.ground import Ground
from tests.benchmarks.platform import make_accounts, settle
from tests.benchmarks.sockets import Sockets

#: The first sockets pay for what all share; memory is counted from the next on.
_WARM_SOCKETS = 100
_SETTLED_SECONDS = 5.0
_SOME_ARE_NOT_SILENT_YET = "SELECT EXISTS (SELECT FROM guardwire.accounts WHERE source = 'live')"


async def measure(ground: Ground) -> list[Figure]:
    """For each number of sockets."""
    return [figure for count in ground.scale.idle_sockets for figure in await _measure(ground, count)]


async def _measure(ground: Ground, count: int) -> list[Figure]:
    """Sockets of as many accounts, with ten positions each."""
    users = await make_accounts(ground.connection, count)
    await settle(ground.connection)
    tokens = ground.tokens(users)
    async with (
        ground.node(counts_statements=True) as node,
        ground.stock() as stock,
        ground.stock() as beating,
        Sockets(node.port) as ours,
        Sockets(stock.port, wants_frame=False) as theirs,
        Sockets(beating.port, path="/beating", wants_frame=False) as beaten,
    ):
        sides = ((node, ours, list[float]()), (stock, theirs, list[float]()))
        step = (len(users) - _WARM_SOCKETS) // ground.scale.samples
        for start in (0, *range(_WARM_SOCKETS, _WARM_SOCKETS + step * ground.scale.samples, step)):
            many = _WARM_SOCKETS if start == 0 else step
            for server, sockets, taken in sides:
                before = await server.usage()
                await sockets.connect(users[start : start + many], tokens[start : start + many])
                await asyncio.sleep(0.2)
                taken.append(((await server.usage()).rss_bytes - before.rss_bytes) / many / 1024)
        await beaten.connect(users, tokens)
        (_, _, our_memory), (_, _, their_memory) = sides
        memory = Figure(
            name=f"memory per idle socket and its account, {count:,} sockets",
            unit="KB",
            ours=our_memory[1:],
            reference=their_memory[1:],
            target=0.5,
            limit=12,
            in_the_way="an account with ten positions is kept as the objects that its next change is"
            " compared with, and as"
            " the rows that they were made of",
        )
        return [memory, *await _quiet(ground, node, beating, count)]


async def _quiet(ground: Ground, node: Child, beating: Child, count: int) -> list[Figure]:
    """CPU and statements while nothing is written; one period of heartbeats is a sample."""
    # After a minute each platform is noted to have fallen silent: a change of each account, and no rest.
    while await ground.connection.fetchval(_SOME_ARE_NOT_SILENT_YET):
        await asyncio.sleep(1.0)
    await asyncio.sleep(_SETTLED_SECONDS)
    our_cpu, their_cpu, counted = [], [], []
    for _ in range(ground.scale.samples):
        before = [await server.usage() for server in (node, beating)]
        # Both rest and beat side by side: neither does enough to be in the other's way.
        await asyncio.sleep(5.0)
        after = [await server.usage() for server in (node, beating)]
        ours, theirs = (20 * (b.cpu_seconds - a.cpu_seconds) for a, b in zip(before, after, strict=True))
        our_cpu.append(ours)
        their_cpu.append(theirs)
        counted.append((after[0].counted - before[0].counted) / 5.0)
    # An audit comes every ten seconds: each window of that has one.
    statements = [(one + next_one) / 2 for one, next_one in pairwise(counted)]
    return [
        Figure(
            name=f"CPU with {count:,} idle sockets, against Starlette with heartbeats",
            unit="% of a core",
            ours=our_cpu,
            reference=their_cpu,
            limit=3,
            in_the_way="two fifths are the writing of a heartbeat to each socket every five seconds, a"
            " quarter the sweep's arrays of all watched accounts, and the rest the pulse, leases, the hub and"
            " answers to pings",
        ),
        Figure(
            name=f"statements/s with {count:,} idle sockets",
            unit="/s",
            ours=statements,
            limit=2,
            in_the_way="1 is the sweep, 0.5 housekeeping, 0.2 the canary, and 0.4 the audit of an account"
            " every ten seconds; GUARDWIRE_AUDIT_SECONDS=0 ends that",
        ),
    ]
