"""From a statement to its frame, against NOTIFY and a raw write: time, and the server's CPU."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence

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
    "the row is committed, the applier hears of it, applies it and commits again: two commits and two ways between"
    " processes where the floor has one of each"
)
_BURST = (
    "a thousand accounts are applied in one batch, and their frames are made one after the other on one core:"
    " 20 µs of each is the kernel's writing, as in the floor, and 40 the interpreter's making of state, patch and"
    " frame"
)
#: In release 0.1.0 the median of a single price at 200 changes/s was 2.36 times the floor's.
_BEFORE = 2.36
_RATE = 200


class _Side:
    """One of the two servers with its measurements, by changes a second."""

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
        # Measured from the commit, because writing a thousand rows is the platform's work. A frame may arrive before
        # its writer gets the answer to the commit.
        self.last_ms.append(1000 * max(0.0, begun + max(seen.latencies_seconds) - committed))


async def measure(ground: Ground) -> list[Figure]:
    """Latency, CPU and the last frame of a burst; then latency on a node that is not the applier."""
    async with (
        ground.node() as node,
        ground.floor() as floor,
        Sockets(floor.port, wants_frame=False) as floor_sockets,
    ):
        flow = await Flow.open(ground.database_url)
        least = _Side(floor, floor_sockets, hint, FLOOR_MOVE_ALL)
        await floor_sockets.connect(ground.users, ground.tokens(ground.users))
        async with Sockets(node.port) as sockets:
            ours = _Side(node, sockets, move, MOVE_ALL)
            await sockets.connect(ground.users, ground.tokens(ground.users))
            await _alternate(ground, flow, (ours, least), ground.scale.changes_per_second)
            for _ in range(_BURSTS):
                for side in (ours, least):
                    await side.burst_once(ground)
        figures = _figures(ground, ours, least)
        # The first node holds the applier's lease, and keeps it.
        async with ground.node() as other, Sockets(other.port) as sockets:
            elsewhere, again = _Side(other, sockets, move, ""), _Side(floor, floor_sockets, hint, "")
            await sockets.connect(ground.users, ground.tokens(ground.users))
            await _alternate(ground, flow, (elsewhere, again), [_RATE])
        await flow.close()
    figures.append(
        Figure(
            name=f"statement → frame p50, {_RATE:,} changes/s, on a node that is not the applier",
            unit="ms",
            ours=elsewhere.p50_ms[_RATE],
            reference=again.p50_ms[_RATE],
            target=1.5 * _BEFORE,
            in_the_way=_LATENCY,
        )
    )
    return figures


async def _alternate(ground: Ground, flow: Flow, sides: Sequence[_Side], rates: Sequence[int]) -> None:
    for side in sides:
        await flow.run([side.sockets], side.write, ground.users, per_second=_RATE, seconds=2)
    for _ in range(ground.scale.samples):
        for per_second in rates:
            for side in sides:
                await side.flow(ground, flow, per_second=per_second)


def _figures(ground: Ground, ours: _Side, least: _Side) -> list[Figure]:
    figures = []
    most = max(ground.scale.changes_per_second)
    for rate in ground.scale.changes_per_second:
        load = f"{rate:,} changes/s"
        figures += [
            Figure(
                name=f"{name}, {load}",
                unit=unit,
                ours=taken[rate],
                reference=floor[rate],
                target=target if rate == most else alone,
                in_the_way=in_the_way,
            )
            for name, unit, taken, floor, target, alone, in_the_way in (
                ("statement → frame p50", "ms", ours.p50_ms, least.p50_ms, 3, 1.2 * _BEFORE, _LATENCY),
                ("statement → frame p99", "ms", ours.p99_ms, least.p99_ms, 3, None, _LATENCY),
                ("server CPU per change", "µs", ours.cpu_us, least.cpu_us, 4, None, _CPU),
            )
        ]
    burst = f"commit → last frame, burst of {ground.scale.accounts:,} accounts"
    last = Figure(
        name=burst, unit="ms", ours=ours.last_ms, reference=least.last_ms, target=4.1, in_the_way=_BURST
    )
    return [*figures, last]
