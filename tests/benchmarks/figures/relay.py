"""The relay against NOTIFY: one node, and more nodes that each have the same load."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from tests.benchmarks.children import Child
from tests.benchmarks.figure import Figure
from tests.benchmarks.flow import Flow, Write, loop, move, percentile_ms
from tests.benchmarks.ground import Ground
from tests.benchmarks.platform import settle
from tests.benchmarks.postgres import cpu_seconds
from tests.benchmarks.sockets import Sockets

_MODES: Final = ("direct", "relay")
_ROUNDS: Final = 3
_ACCOUNTS: Final = 200
_PER_SECOND: Final = 500
_FEW: Final = 3
_MANY: Final = 10
#: The accounts and changes of each node.
_NODE_ACCOUNTS: Final = 40
_NODE_PER_SECOND: Final = 40
_LOOP_SOCKETS: Final = 300
_LOOPS_PER_SECOND: Final = 30
#: The applier looks once a second whether a node listens.
_SETTLED_SECONDS: Final = 1.5
_LISTENERS: Final = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'guardwire listener'
"""


class _Cost:
    """Samples of windows with one fleet."""

    def __init__(self) -> None:
        self.p50_ms: list[float] = []
        self.p99_ms: list[float] = []
        self.server_us: list[float] = []
        self.postgres_us: list[float] = []

    async def window(
        self, ground: Ground, flow: Flow, fleet: _Fleet, write: Write = move, *, per_second: int
    ) -> None:
        """Run the flow for a window."""
        postgres, before = _postgres_cpu(ground), await fleet.cpu_seconds()
        seen = await flow.run(
            fleet.sockets, write, fleet.users, per_second=per_second, seconds=ground.scale.window_seconds
        )
        used = await fleet.cpu_seconds() - before
        self.p50_ms.append(percentile_ms(seen.latencies_seconds, 50))
        self.p99_ms.append(percentile_ms(seen.latencies_seconds, 99))
        self.server_us.append(1e6 * used / seen.commits)
        self.postgres_us.append(1e6 * (_postgres_cpu(ground) - postgres) / seen.commits)


class _Fleet:
    """Nodes, and the sockets of each; ``users`` are those of all sockets in turns."""

    def __init__(self, nodes: Sequence[Child], sockets: Sequence[Sockets], users: Sequence[UUID]) -> None:
        self.nodes, self.sockets, self.users = nodes, sockets, users

    async def cpu_seconds(self) -> float:
        """The CPU of all nodes until now."""
        return sum([(await node.usage()).cpu_seconds for node in self.nodes])

    async def counted(self) -> int:
        """The counters of all nodes."""
        return sum([(await node.usage()).counted for node in self.nodes])


@contextlib.asynccontextmanager
async def _fleet(
    ground: Ground, count: int, accounts: int, *, fanout: str, counts_reads: bool = False
) -> AsyncIterator[_Fleet]:
    """Nodes with so many accounts each."""
    async with contextlib.AsyncExitStack() as stack:
        nodes = await asyncio.gather(
            *(
                stack.enter_async_context(ground.node(fanout=fanout, counts_reads=counts_reads))
                for _ in range(count)
            )
        )
        users = ground.users[: count * accounts]
        sockets = []
        for number, node in enumerate(nodes):
            each = await stack.enter_async_context(Sockets(node.port))
            await each.connect(users[number::count], ground.tokens(users[number::count]))
            sockets.append(each)
        await _until_listening(ground, count if fanout == "direct" else 1)
        yield _Fleet(nodes, sockets, users)


async def measure(ground: Ground) -> list[Figure]:
    """One node in both modes, turn by turn: what the way by Redis adds."""
    costs: defaultdict[str, _Cost] = defaultdict(_Cost)
    flow = await Flow.open(ground.database_url)
    await settle(ground.connection)
    for _ in range(_ROUNDS):
        for mode in _MODES:
            async with _fleet(ground, 1, _ACCOUNTS, fanout=mode) as fleet:
                await flow.run(fleet.sockets, move, fleet.users, per_second=_PER_SECOND, seconds=1.0)
                for _ in range(2):
                    await costs[mode].window(ground, flow, fleet, per_second=_PER_SECOND)
    await flow.close()
    relay, direct = costs["relay"], costs["direct"]
    load = f"one node, {_PER_SECOND} changes/s"
    return [
        Figure(
            name=f"relay: {name} beyond NOTIFY, {load}",
            unit=unit,
            ours=[ours - theirs for ours, theirs in zip(of_relay, of_direct, strict=True)],
            limit=limit,
        )
        for name, unit, of_relay, of_direct, limit in (
            ("statement → frame p50", "ms", relay.p50_ms, direct.p50_ms, 0.3),
            ("server CPU per change", "µs", relay.server_us, direct.server_us, 60),
        )
    ]


async def measure_scaling(ground: Ground) -> list[Figure]:
    """Weak scaling: ten nodes against three, each with the same accounts and changes."""
    costs: dict[int, _Cost] = {_FEW: _Cost(), _MANY: _Cost()}
    flow = await Flow.open(ground.database_url)
    await settle(ground.connection)
    for count, cost in costs.items():
        async with _fleet(ground, count, _NODE_ACCOUNTS, fanout="relay") as fleet:
            per_second = count * _NODE_PER_SECOND
            await flow.run(fleet.sockets, move, fleet.users, per_second=per_second, seconds=1.0)
            for _ in range(ground.scale.samples):
                await cost.window(ground, flow, fleet, per_second=per_second)
    await flow.close()
    many, few = costs[_MANY], costs[_FEW]
    load = f"{_MANY} nodes against {_FEW}, {_NODE_PER_SECOND} changes/s on each"
    return [
        Figure(name=f"relay: {name}, {load}", unit=unit, ours=ours, reference=reference, target=target)
        for name, unit, ours, reference, target in (
            ("server CPU per change", "µs", many.server_us, few.server_us, 1.3),
            ("PostgreSQL CPU per commit", "µs", many.postgres_us, few.postgres_us, 1.1),
            ("statement → frame p99", "ms", many.p99_ms, few.p99_ms, None),
        )
        if name != "PostgreSQL CPU per commit" or ground.postmaster is not None
    ]


async def measure_loops(ground: Ground) -> list[Figure]:
    """The platform's loop on one node, which is the applier: it is followed without a read."""
    cost, reads = _Cost(), []
    flow = await Flow.open(ground.database_url)
    await settle(ground.connection)
    async with _fleet(ground, 1, _LOOP_SOCKETS, fanout="direct", counts_reads=True) as fleet:
        # The first loop of an account is read, and the following ones are not.
        warm_seconds = ground.scale.window_seconds
        await flow.run(fleet.sockets, loop, fleet.users, per_second=_LOOPS_PER_SECOND, seconds=warm_seconds)
        for _ in range(ground.scale.samples):
            before = await fleet.counted()
            await cost.window(ground, flow, fleet, loop, per_second=_LOOPS_PER_SECOND)
            reads.append((await fleet.counted() - before) / (_LOOPS_PER_SECOND * ground.scale.window_seconds))
    await flow.close()
    load = f"{_LOOP_SOCKETS} sockets, {_LOOPS_PER_SECOND} loops/s, levels unchanged"
    return [
        Figure(name=f"statements that read accounts, per loop, {load}", unit="", ours=reads, limit=0),
        Figure(
            name=f"server CPU per loop, applier included, {load}", unit="µs", ours=cost.server_us, limit=400
        ),
    ]


async def _until_listening(ground: Ground, count: int) -> None:
    """Wait until so many nodes listen to PostgreSQL: in relay mode the applier alone."""
    async with asyncio.timeout(30):
        while await ground.connection.fetchval(_LISTENERS) != count:
            await asyncio.sleep(0.1)
    await asyncio.sleep(_SETTLED_SECONDS)


def _postgres_cpu(ground: Ground) -> float:
    """NaN where the server's processes are not visible."""
    bare = urlsplit(ground.bare_url).path.removeprefix("/")
    return float("nan") if ground.postmaster is None else cpu_seconds(ground.postmaster, without=bare)
