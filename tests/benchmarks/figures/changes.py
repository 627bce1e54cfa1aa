"""From a statement to the frame that shows it, against NOTIFY and a raw write: time, and the server's"
" CPU."""

from __future__ import annotations

import time
from collections import defaultdict

from tests.benchmarks.children import Child
from tests.benchmarks.figure import Figure
from tests.benchmarks.flow import Flow, Seen, Write, hint, move, percentile_ms
from tests.benchmarks.ground import Ground
from tests.benchmarks.platform import FLOOR_MOVE_ALL, MOVE_ALL, prices
from tests.benchmarks.sockets import Sockets

_BURSTS = 7
_CPU = (
    "of the server's samples a third is the writing to the socket and the driver's hearing, as in the floor;"
    " another third makes the state, the patch and the frame; the rest is the interpreter's, the pulse, the"
    " sweep and Redis"
)
_LATENCY = (
    "the statement that is measured writes a row and its capture before its commit can be heard, and that is"
    " most of it; with writers, PostgreSQL and the server on two cores the slowest hundredth waits"
    " for its turn"
)
_BURST = (
    "a thousand accounts are told in two dozen notifications and made one after the other on one core: 20 µs"
    " of each is the kernel's writing, as in the floor, and 40 the interpreter's making of state, patch and"
    " frame, half of it waiting for memory that was not used lately"
)


class _Side:
    """One of the two servers, and what was measured of it, by changes a second."""

    def __init__(self, server: Child, sockets: Sockets, write: Write, burst: str) -> None:
        self.server, self.sockets, self.write, self.burst = server, sockets, write, burst
        self.p50_ms: defaultdict[int, list[float]] = defaultdict(list)
        self.p99_ms: defaultdict[int, list[float]] = defaultdict(list)
        self.cpu_us: defaultdict[int, list[float]] = defaultdict(list)
        self.last_ms: list[float] = []

    async def flow(self, ground: Ground, flow: Flow, *, per_second: int) -> None:
        before = await self.server.usage()
        seen = await flow.run(
            [self.sockets],
            self.write,
            ground.users,
            per_second=per_second,
            seconds=ground.scale.window_seconds,
        )
        after = await self.server.usage()
        latencies = seen.latencies_seconds
        self.p50_ms[per_second].append(percentile_ms(latencies, 50))
        self.p99_ms[per_second].append(percentile_ms(latencies, 99))
        self.cpu_us[per_second].append(1e6 * (after.cpu_seconds - before.cpu_seconds) / len(latencies))

    async def burst_once(self, ground: Ground) -> None:
        seen, price = Seen(), next(prices)
        self.sockets.on_frame = seen.on_frame
        begun = time.perf_counter()
        for user in ground.users:
            seen.written(user, price)
        await ground.connection.execute(self.burst, ground.users, price)
        committed = time.perf_counter()
        await seen.all_shown()
        # From the commit, because writing a thousand rows is the platform's work; a frame may come before its
        # writer hears of the commit.
        self.last_ms.append(1000 * max(0.0, begun + max(seen.latencies_seconds) - committed))


async def measure(ground: Ground) -> list[Figure]:
    """Latency, CPU and the last frame of a burst."""
    async with (
        ground.node() as node,
        ground.floor() as floor,
        Sockets(node.port) as our_sockets,
        Sockets(floor.port, wants_frame=False) as floor_sockets,
    ):
        ours = _Side(node, our_sockets, move, MOVE_ALL)
        least = _Side(floor, floor_sockets, hint, FLOOR_MOVE_ALL)
        for side in (ours, least):
            await side.sockets.connect(ground.users, ground.tokens(ground.users))
        flow = await Flow.open(ground.database_url)
        for side in (ours, least):
            await flow.run([side.sockets], side.write, ground.users, per_second=200, seconds=2)
        for _ in range(ground.scale.samples):
            for per_second in ground.scale.changes_per_second:
                for side in (ours, least):
                    await side.flow(ground, flow, per_second=per_second)
        for _ in range(_BURSTS):
            for side in (ours, least):
                await side.burst_once(ground)
        await flow.close()
    return _figures(ground, ours, least)


def _figures(ground: Ground, ours: _Side, least: _Side) -> list[Figure]:
    figures = []
    most = max(ground.scale.changes_per_second)
    for rate in ground.scale.changes_per_second:
        # What is promised is promised at the greater rate; the smaller shows what a change costs alone.
        load = f"{rate:,} changes/s"
        figures += [
            Figure(
                name=f"{name}, {load}",
                unit=unit,
                ours=taken[rate],
                reference=floor[rate],
                target=target if rate == most else None,
                in_the_way=in_the_way,
            )
            for name, unit, taken, floor, target, in_the_way in (
                ("statement → frame p50", "ms", ours.p50_ms, least.p50_ms, 3, _LATENCY),
                ("statement → frame p99", "ms", ours.p99_ms, least.p99_ms, 3, _LATENCY),
                ("server CPU per change", "µs", ours.cpu_us, least.cpu_us, 4, _CPU),
            )
        ]
    burst = f"commit → last frame, burst of {ground.scale.accounts:,} accounts"
    last = Figure(
        name=burst, unit="ms", ours=ours.last_ms, reference=least.last_ms, target=3, in_the_way=_BURST
    )
    return [*figures, last]
