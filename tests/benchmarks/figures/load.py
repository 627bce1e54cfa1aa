"""The platform's loop at a steady rate: its cost in PostgreSQL and in the server, and the time until its frame."""

from __future__ import annotations

from collections import defaultdict
from urllib.parse import urlsplit

from tests.benchmarks.children import Child
from tests.benchmarks.figure import Figure
from tests.benchmarks.flow import Flow, Seen, hint, loop, percentile_ms
from tests.benchmarks.ground import Ground
from tests.benchmarks.platform import settle
from tests.benchmarks.postgres import cpu_seconds
from tests.benchmarks.sockets import Sockets
from tests.inbox import wait_for_empty_inbox

#: Loops a second, and the bound of a loop's PostgreSQL CPU as a multiple of bare rows.
_TARGETS = {30: 2.5, 240: 2.0}
_APPLIED_SECONDS = 60.0
_BATCHES = (
    "a batch of one loop costs nearly as much as a batch of several: the fewer loops come at once, the less the"
    " applier's statements are shared"
)


class _Side:
    """Costs and latencies of loops of one kind, by loops a second."""

    def __init__(self) -> None:
        self.postgres_ms: defaultdict[int, list[float]] = defaultdict(list)
        self.wal_bytes: defaultdict[int, list[float]] = defaultdict(list)
        self.server_us: defaultdict[int, list[float]] = defaultdict(list)
        self.frame_ms: defaultdict[int, list[float]] = defaultdict(list)


async def measure(ground: Ground) -> list[Figure]:
    """Bare rows; ours with a client for each account; and the floor with as many clients."""
    bare, ours, floor = _Side(), _Side(), _Side()
    async with (
        ground.node() as node,
        ground.floor() as least,
        Sockets(node.port) as our_sockets,
        Sockets(least.port, wants_frame=False) as floor_sockets,
    ):
        for sockets in (our_sockets, floor_sockets):
            await sockets.connect(ground.users, ground.tokens(ground.users))
        writing, writing_bare = await Flow.open(ground.database_url), await Flow.open(ground.bare_url)
        await settle(ground.connection)
        await writing.run([our_sockets], loop, ground.users, per_second=30, seconds=1.0)
        for _ in range(ground.scale.samples):
            for rate in _TARGETS:
                await _loops(ground, bare, writing_bare, rate)
                await _loops(ground, ours, writing, rate, node=node, sockets=our_sockets)
                await _hints(ground, floor, writing, rate, node=least, sockets=floor_sockets)
        await writing.close()
        await writing_bare.close()
    return _figures(ground, bare, ours, floor)


async def _loops(
    ground: Ground,
    side: _Side,
    flow: Flow,
    rate: int,
    *,
    node: Child | None = None,
    sockets: Sockets | None = None,
) -> None:
    """One window, until everything is applied and shown."""
    other = urlsplit(ground.database_url if node is None else ground.bare_url).path.removeprefix("/")
    postgres, wal = _postgres_cpu(ground, other), await _wal_bytes(ground)
    used = 0.0 if node is None else (await node.usage()).cpu_seconds
    seen = await flow.run(
        [] if sockets is None else [sockets],
        loop,
        ground.users,
        per_second=rate,
        seconds=ground.scale.window_seconds,
    )
    if node is not None:
        await wait_for_empty_inbox(ground.connection, timeout_seconds=_APPLIED_SECONDS)
        _note_server(side, rate, seen, (await node.usage()).cpu_seconds - used)
    side.postgres_ms[rate].append(1000 * (_postgres_cpu(ground, other) - postgres) / seen.commits)
    side.wal_bytes[rate].append((await _wal_bytes(ground) - wal) / seen.commits)


async def _hints(
    ground: Ground, side: _Side, flow: Flow, rate: int, *, node: Child, sockets: Sockets
) -> None:
    before = await node.usage()
    seen = await flow.run([sockets], hint, ground.users, per_second=rate, seconds=ground.scale.window_seconds)
    _note_server(side, rate, seen, (await node.usage()).cpu_seconds - before.cpu_seconds)


def _note_server(side: _Side, rate: int, seen: Seen, used_seconds: float) -> None:
    side.server_us[rate].append(1e6 * used_seconds / seen.commits)
    side.frame_ms[rate].append(percentile_ms(seen.latencies_seconds, 50))


def _postgres_cpu(ground: Ground, without: str) -> float:
    """NaN where the server's processes are not visible."""
    return float("nan") if ground.postmaster is None else cpu_seconds(ground.postmaster, without=without)


async def _wal_bytes(ground: Ground) -> int:
    written: int = await ground.connection.fetchval("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
    return written


def _figures(ground: Ground, bare: _Side, ours: _Side, floor: _Side) -> list[Figure]:
    figures = [
        Figure(
            name="loop, WAL bytes, without whole pages after checkpoints",
            unit="bytes",
            ours=ours.wal_bytes[30],
            reference=bare.wal_bytes[30],
            target=3,
        )
    ]
    for rate, target in _TARGETS.items():
        if ground.postmaster is not None:
            figures.append(
                Figure(
                    name=f"loop, PostgreSQL CPU, applier included, {rate} loops/s",
                    unit="ms",
                    ours=ours.postgres_ms[rate],
                    reference=bare.postgres_ms[rate],
                    target=target,
                    in_the_way=_BATCHES,
                )
            )
        figures += [
            Figure(
                name=f"loop, COMMIT issued → frame p50, {rate} loops/s",
                unit="ms",
                ours=ours.frame_ms[rate],
                reference=floor.frame_ms[rate],
                limit=4 if rate == 30 else None,
            ),
            Figure(
                name=f"loop, server CPU, {rate} loops/s",
                unit="µs",
                ours=ours.server_us[rate],
                reference=floor.server_us[rate],
            ),
        ]
    return figures
