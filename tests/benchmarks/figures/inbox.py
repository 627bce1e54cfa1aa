"""The throughput of one applier, and the effect of a backlog on accounts that are not part of it."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

from tests.benchmarks.children import Child
from tests.benchmarks.figure import Figure
from tests.benchmarks.flow import Seen
from tests.benchmarks.ground import Ground
from tests.benchmarks.platform import MOVE, MOVE_ALL, make_accounts, prices, settle
from tests.benchmarks.sockets import Sockets
from tests.inbox import wait_for_empty_inbox

_BACKLOG_ROWS = 100_000
_BACKLOG_SECONDS = 120.0
_EVERY_SECONDS = 0.2
#: The inbox holds between this many rows and twice as many.
_WAITING_ROWS = 4_000


async def measure(ground: Ground) -> list[Figure]:
    """Rows a second under a steady load, and the time until a backlog that was there at the start is applied."""
    sustained = await _sustained(ground)
    applied: list[float] = []
    shown: list[float] = []
    for _ in range(1 if ground.scale.samples < 9 else 3):
        seconds, slowest = await _backlog(ground)
        applied.append(seconds)
        shown.append(slowest)
    backlog = f"backlog of {_BACKLOG_ROWS:,} rows of {len(ground.users):,} accounts"
    return [
        Figure(
            name="rows/s that one applier applies", unit="/s", ours=sustained, limit=5000, more_is_better=True
        ),
        Figure(name=f"{backlog}, until it is applied", unit="s", ours=applied, limit=20),
        Figure(
            name=f"{backlog}, a fresh row of another account, slowest frame", unit="s", ours=shown, limit=1
        ),
    ]


async def _sustained(ground: Ground) -> list[float]:
    """The inbox is never empty and never long: one row of each account follows the other."""
    rates = []
    async with ground.node() as node:
        await settle(ground.connection)
        before = (await node.usage()).counted
        written = 0
        for _ in range(ground.scale.samples + 1):
            begun, applied = time.perf_counter(), (await node.usage()).counted
            while time.perf_counter() - begun < ground.scale.window_seconds:
                if written - ((await node.usage()).counted - before) < _WAITING_ROWS:
                    await ground.connection.execute(MOVE_ALL, ground.users, next(prices))
                    written += len(ground.users)
                else:
                    await asyncio.sleep(0.005)
            rates.append(((await node.usage()).counted - applied) / (time.perf_counter() - begun))
        await wait_for_empty_inbox(ground.connection, timeout_seconds=_BACKLOG_SECONDS)
    return rates[1:]


async def _backlog(ground: Ground) -> tuple[float, float]:
    """Seconds until a node that has just started has applied the backlog, and until the slowest frame meanwhile."""
    (fresh,) = await make_accounts(ground.connection, 1)
    for _ in range(_BACKLOG_ROWS // len(ground.users)):
        await ground.connection.execute(MOVE_ALL, ground.users, next(prices))
    await settle(ground.connection)
    async with ground.node() as node, Sockets(node.port) as sockets:
        begun = time.perf_counter()
        seen = Seen()
        sockets.on_frame = seen.on_frame
        await sockets.connect([fresh], ground.tokens([fresh]))
        stop = asyncio.Event()
        writing = asyncio.create_task(_write(ground, fresh, seen, stop), name="fresh rows")
        await _until_applied(node)
        seconds = time.perf_counter() - begun
        stop.set()
        await writing
        await seen.all_shown()
        await wait_for_empty_inbox(ground.connection, timeout_seconds=_BACKLOG_SECONDS)
    return seconds, max(seen.latencies_seconds)


async def _write(ground: Ground, user: UUID, seen: Seen, stop: asyncio.Event) -> None:
    while not stop.is_set():
        price = next(prices)
        seen.written(user, price)
        await ground.connection.execute(MOVE, user, 1001, price)
        await asyncio.sleep(_EVERY_SECONDS)


async def _until_applied(node: Child) -> None:
    async with asyncio.timeout(_BACKLOG_SECONDS):
        while (await node.usage()).counted < _BACKLOG_ROWS:
            await asyncio.sleep(0.02)
