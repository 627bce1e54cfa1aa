"""The cost of idle sockets in memory, CPU and statements, against Starlette on stock uvicorn."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from uuid import UUID

from realtime.delivery.hub import WATCHED_AFTER_SECONDS
from realtime.feed.housekeeping import FORGET_SECONDS
from tests.benchmarks.children import Child
from tests.benchmarks.figure import Figure
from tests.benchmarks.ground import Ground
from tests.benchmarks.platform import GRACE_OF_A_DAY, make_accounts, settle
from tests.benchmarks.sockets import Sockets
from tests.inbox import apply_inbox

#: The first sockets also cause shared costs: caches, threads, and 12 MB of garbage before its first collection. Memory
#: is counted from the later sockets on.
_WARM_SOCKETS = 400
_STEPS = 5
#: Until the leftovers of new connections are gone: handshakes, encodings, and the records that were read.
_IDLE_SECONDS = 4 + 2 * FORGET_SECONDS
#: Until the sockets that are not measured are gone, with their watched accounts.
_SETTLED_SECONDS = WATCHED_AFTER_SECONDS + 5.0


_MEMORY = (
    "a third is the packed account, a third the transport, and the rest the socket and what is known of it"
)


async def measure(ground: Ground) -> list[Figure]:
    """For each number of sockets."""
    return [figure for count in ground.scale.idle_sockets for figure in await _measure(ground, count)]


async def _measure(ground: Ground, count: int) -> list[Figure]:
    """Sockets of as many accounts, with ten positions each."""
    users = await make_accounts(ground.connection, _WARM_SOCKETS + count)
    await ground.connection.execute(GRACE_OF_A_DAY, users)
    await apply_inbox(ground.connection)
    await settle(ground.connection)
    async with (
        ground.node(counts_statements=True) as node,
        ground.stock() as stock,
        ground.stock() as beating,
        Sockets(node.port) as ours,
        Sockets(stock.port, wants_frame=False) as theirs,
        Sockets(beating.port, path="/beating", wants_frame=False) as beaten,
    ):
        async with Sockets(node.port) as warm, Sockets(stock.port, wants_frame=False) as their_warm:
            await _grow(ground, [(node, warm), (stock, their_warm)], users[:_WARM_SOCKETS])
            steps = [users[start::_STEPS] for start in range(_WARM_SOCKETS, _WARM_SOCKETS + _STEPS)]
            grown = [await _grow(ground, [(node, ours), (stock, theirs)], step) for step in steps]
        await beaten.connect(users[:count], ground.tokens(users[:count]))
        memory = Figure(
            name=f"memory per idle socket and its account, {count:,} sockets",
            unit="KB",
            ours=[of_ours for of_ours, _ in grown],
            reference=[of_theirs for _, of_theirs in grown],
            target=0.5,
            limit=12,
            in_the_way=_MEMORY,
        )
        return [memory, *await _quiet(ground, node, beating, count)]


async def _grow(ground: Ground, sides: list[tuple[Child, Sockets]], users: Sequence[UUID]) -> list[float]:
    """KB by which each server grows for each of ``users`` that connects."""
    before = [(await server.usage()).rss_bytes for server, _ in sides]
    for _, sockets in sides:
        await sockets.connect(users, ground.tokens(users))
    await asyncio.sleep(_IDLE_SECONDS)
    after = [(await server.usage()).rss_bytes for server, _ in sides]
    return [(now - was) / len(users) / 1024 for now, was in zip(after, before, strict=True)]


async def _quiet(ground: Ground, node: Child, beating: Child, count: int) -> list[Figure]:
    """CPU and statements without any write; one period of heartbeats is a sample."""
    await asyncio.sleep(_SETTLED_SECONDS)
    our_cpu, their_cpu, counted = [], [], []
    for _ in range(ground.scale.samples):
        before = [await server.usage() for server in (node, beating)]
        # Both servers are idle but for heartbeats at the same time, because neither does enough to disturb the other.
        await asyncio.sleep(5.0)
        after = [await server.usage() for server in (node, beating)]
        ours, theirs = (20 * (b.cpu_seconds - a.cpu_seconds) for a, b in zip(before, after, strict=True))
        our_cpu.append(ours)
        their_cpu.append(theirs)
        counted.append((after[0].counted - before[0].counted) / 5.0)
    # An audit runs every ten seconds, so each window contains one.
    statements = [(one + next_one) / 2 for one, next_one in pairwise(counted)]
    return [
        Figure(
            name=f"CPU with {count:,} idle sockets, against Starlette with heartbeats",
            unit="% of a core",
            ours=our_cpu,
            reference=their_cpu,
            limit=3,
            in_the_way="half of it is a heartbeat for each socket every five seconds, most of that the"
            " kernel's writing; a sixth is the sweep of all watched accounts, and the rest leases, the audit"
            " and answers to pings",
        ),
        Figure(
            name=f"statements/s with {count:,} idle sockets",
            unit="/s",
            ours=statements,
            limit=5,
            in_the_way="1 is the sweep, 0.5 housekeeping, 2.4 the applier's lease, looks at the inbox and figures, and"
            " 0.4 the audit of an account every ten seconds; GUARDWIRE_AUDIT_SECONDS=0 ends that",
        ),
    ]
