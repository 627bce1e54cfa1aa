"""Faults by clients: they stop reading, come all at once, or vanish at any point."""

from __future__ import annotations

import asyncio
import socket
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.end_to_end import tables
from tests.end_to_end.marks import Owner
from tests.faults.bad_clients import make_fat, stuck_reader, vanish_at
from tests.faults.bot import Bot
from tests.faults.ground import Site
from tests.faults.platform import people
from tests.faults.stage import Stage

_SLOW: Final = 100
_SOCKETS_OF_ONE: Final = 9
_COST_MS: Final = 50.0
_COST_BYTES: Final = 1_048_576
#: The send deadline is 10 s, and a node checks a socket once a second.
_FREED_SECONDS: Final = 12.0
_PUSH_SECONDS: Final = 3.0
#: Less than the kernel accepts for a socket before the socket counts as full.
_HELD_BYTES: Final = 8_000
_WINDOWS: Final = 3
_WINDOW_SECONDS: Final = 2.0
_STORM: Final = 600
_STAGES: Final = 10
_RETURNING: Final = 1_000


async def fat_accounts(stage: Stage, count: int) -> list[Owner]:
    """Accounts with so many positions that a snapshot exceeds the buffers between a node and its client."""
    owners = people(count, stage.random, first=len(stage.bots) + 1000)
    async with stage.ground.connection() as connection:
        for owner in owners:
            await make_fat(connection, owner, stage.platform.marks)
    return owners


async def stuck_readers(stage: Stage, site: Site, owners: Sequence[Owner], count: int) -> list[socket.socket]:
    """Clients of ``site`` that do not read."""
    tokens = [stage.ground.token(owner) for owner in owners for _ in range(_SOCKETS_OF_ONE)][:count]
    return list(await asyncio.gather(*(stuck_reader(site.node, token) for token in tokens)))


def stuck_bytes(site: Site) -> int:
    """The bytes that the kernel holds for clients of ``site`` that do not read them."""
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = [row.split() for row in rows]
    mine = [row for row in fields if row[1].endswith(f":{site.node.port:04X}")]
    return sum(int(row[4].partition(":")[0], 16) for row in mine)


async def _is_stuck(site: Site) -> bool:
    await asyncio.sleep(0)
    return stuck_bytes(site) > _SLOW * _HELD_BYTES


async def slow_readers(stage: Stage) -> None:
    """A hundred clients of one node stop reading; the other clients and the node's memory must not suffer."""
    site = stage.sites[0]
    name = "guardwire_slow_readers_total"
    owners = await fat_accounts(stage, -(-_SLOW // _SOCKETS_OF_ONE))
    beside = stage.sites[1]
    # The clients of the other node read: it has the same accounts to read and to push, and no slow reader.
    tokens = [(owner, stage.ground.token(owner)) for owner in owners]
    stage.crowd.join([Bot(owner, token, [beside.address], stage.platform.marks) for owner, token in tokens])
    await stage.crowd.until_all_fresh()
    freed_before, rss = await site.node.metric(name), (await site.node.ask("report"))["rss_bytes"]
    readers = await stuck_readers(stage, site, owners, _SLOW)
    # The cost of a hundred new connections at once is not part of this figure.
    await stage.until(lambda: _is_stuck(site), seconds=10)
    stuck_since, waiting = time.monotonic(), stuck_bytes(site)
    cost_ms = await _cost_ms(stage, site, beside, owners)
    cost_bytes = ((await site.node.ask("report"))["rss_bytes"] - rss) / _SLOW
    await stage.until(lambda: _freed(site, freed_before + _SLOW), seconds=20)
    freed_seconds = time.monotonic() - stuck_since
    freed = await site.node.metric(name) - freed_before
    stage.platform.owners = [*stage.platform.owners, *owners]
    stage.healed()
    stage.proves(
        f"{waiting // 1024} KB waited in the kernel; {freed:.0f} took nothing until the send deadline",
        freed >= _SLOW and waiting > _SLOW * _HELD_BYTES,
    )
    stage.figure("others' p99 beyond the node beside", max(0.0, cost_ms), _COST_MS, "ms")
    stage.figure("memory of each", max(0.0, cost_bytes) / 1024, _COST_BYTES / 1024, "KB")
    stage.figure("freed", freed_seconds, _FREED_SECONDS)
    for reader in readers:
        reader.close()


async def _cost_ms(stage: Stage, site: Site, beside: Site, owners: Sequence[Owner]) -> float:
    """The p99 of a push by ``site`` beyond that by ``beside``, while changes for the slow readers arrive."""
    costs_ms = []
    async with stage.ground.connection() as connection:
        for _ in range(_WINDOWS):
            began = time.monotonic()
            while time.monotonic() < began + _WINDOW_SECONDS:
                await tables.LOG.insert(connection, [stage.platform.marks.log_row(owner) for owner in owners])
                await stage.watch(0.5)
            slow_ms, beside_ms = (
                stage.crowd.latency_ms(0.99, since=began, by=[each.address]) for each in (site, beside)
            )
            costs_ms.append(slow_ms - beside_ms)
    # The median, because slow readers cost time in every round, and other work of the machine does not.
    return statistics.median(costs_ms)


async def _freed(site: Site, count: float) -> bool:
    return await site.node.metric("guardwire_slow_readers_total") >= count


async def homecoming(stage: Stage) -> None:
    """Cut every connection at once; all clients come back."""
    each = _RETURNING // len(stage.bots)
    more = [owner for owner in stage.platform.owners for _ in range(each)]
    more = more[: max(0, _RETURNING - len(stage.bots))]
    await stage.rest()
    await stage.platform.final_word()
    # Without a proxy, because each client would then take three files of one process.
    direct = [f"ws://127.0.0.1:{site.node.port}" for site in stage.sites]
    bots = [Bot(owner, stage.ground.token(owner), direct, stage.platform.marks) for owner in more]
    stage.crowd.join(bots)
    await stage.crowd.until_all_fresh(seconds=60)
    await stage.trade()
    await stage.watch(1)
    lost = [(bot.connection, bot) for bot in stage.bots]
    cut = sum(site.front.cut() for site in stage.sites)
    for bot in bots:
        if bot.connection is not None:
            bot.connection.transport.abort()
            cut += 1
    stage.healed()
    await stage.all_know(seconds=5)
    began = time.monotonic()
    await stage.crowd.until(lambda bot: bot.believes_fresh, seconds=60)
    new = sum(bot.connection is not connection for connection, bot in lost)
    stage.proves(
        f"{cut} connections reset, {new} clients have new ones", new == len(stage.bots) >= _RETURNING
    )
    stage.figure("all fresh", time.monotonic() - began, 15)
    stage.figure("resumed", -_resumed_share(stage), -0.5, "(share, negative)")


def _resumed_share(stage: Stage) -> float:
    seen = stage.crowd.counted("seen")
    return seen["resumed"] / len(stage.bots)


async def storm(stage: Stage) -> None:
    """Hundreds of clients connect, and vanish at every point of the conversation."""
    site = stage.sites[0]
    owners = people(60, stage.random)
    tokens = [stage.ground.token(owner) for owner in owners]
    began = time.monotonic()
    for start in range(0, _STORM, 50):
        numbers = range(start, start + 50)
        await asyncio.gather(
            *(vanish_at(site.node, n % _STAGES, tokens[(n // _STAGES) % len(tokens)]) for n in numbers)
        )
    seconds = time.monotonic() - began
    await stage.watch(1)
    stage.healed()
    accepted = await site.node.metric("guardwire_watched_accounts")
    stage.proves(
        f"{_STORM} clients vanished at {_STAGES} points in {seconds:.1f} s; {accepted:.0f} accounts watched",
        accepted >= len(tokens),
    )
    stage.figure("slowest push", stage.crowd.latency_ms(1.0, since=began) / 1000, _PUSH_SECONDS)
