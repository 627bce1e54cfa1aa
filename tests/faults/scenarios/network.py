"""Faults of the network: slow, cut, and silent in one direction or both."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import httpx

from tests.faults.ground import Site
from tests.faults.stage import Stage

_LONGEST_DEADLINE_SECONDS: Final = 12.0
_DELAY_SECONDS: Final = 0.15
#: A client that receives nothing notices after 15 s; the observers need half a second.
_BLIND_SECONDS: Final = 15.5
#: With pings every 4 s (`Ground.settings`) a node waits for two of them, a second until it checks the socket, and 5 s
#: for the client's answer to its close.
_CLOSED_SECONDS: Final = 2 * 4 + 2
_GIVEN_UP_SECONDS: Final = _CLOSED_SECONDS + 5
_PUSH_SECONDS: Final = 3.0


async def none(stage: Stage) -> None:
    """No fault at all: the figures of faults have a meaning only when the bounds hold without one."""
    connections = [bot.connection for bot in stage.bots]
    began = time.monotonic()
    # Longer than any deadline of a client that works.
    await stage.watch(_LONGEST_DEADLINE_SECONDS)
    seen = sum(at >= began for _, at, _ in stage.crowd.latencies)
    kept = sum(bot.connection is connection for bot, connection in zip(stage.bots, connections, strict=True))
    stage.healed()
    stage.proves(f"{seen} changes were seen in {time.monotonic() - began:.0f} s", seen > 0)
    stage.figure("lost connections", len(stage.bots) - kept, 0, f"of {len(stage.bots)}")
    stage.figure("p99 of a push", stage.crowd.latency_ms(0.99, since=began) / 1000, 1)
    stage.figure("gaps", stage.crowd.counted("seen")["gap"], 0, "")


async def slow(stage: Stage) -> None:
    """Delay every way in both directions."""
    for site in stage.sites:
        for way in site.ways:
            way.delay_seconds = _DELAY_SECONDS if way is site.front else _DELAY_SECONDS / 3
    began = time.monotonic()
    took = [await _round_trip(site) for site in stage.sites]
    stage.proves(f"an answer takes {min(took):.2f} s", min(took) >= 2 * _DELAY_SECONDS)
    await stage.watch(3)
    stage.figure("slowest push", stage.crowd.latency_ms(1.0, since=began + 1) / 1000, _PUSH_SECONDS)
    stage.healed()


async def _round_trip(site: Site) -> float:
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        await client.get(f"http://127.0.0.1:{site.front.port}/livez")
        began = time.monotonic()
        await client.get(f"http://127.0.0.1:{site.front.port}/livez")
        return time.monotonic() - began


async def cut(stage: Stage) -> None:
    """Reset all connections at once, three times: those of clients, pools and listeners."""
    stage.leases_may_run_out = True  # the leases that could not be released in Redis
    count = 0
    for _ in range(3):
        await stage.watch(1)
        count += sum(way.cut() for site in stage.sites for way in site.ways)
    lost = stage.crowd.counted("ends").total()
    stage.healed()
    stage.proves(f"{count} connections reset, clients lost theirs {lost} times", lost >= len(stage.bots))


async def half_open(stage: Stage) -> None:
    """Nothing passes between the clients and one node, in either direction, and no connection is closed."""
    await stage.watch(1)
    site = stage.sites[0]
    held = stage.crowd.on(site.address)
    before = (await site.node.ask("report"))["clients"]
    site.front.go_silent("up", "down")
    carried = site.front.carried_bytes
    know = asyncio.create_task(stage.all_know(seconds=20, among=held))
    given_up = await stage.until(lambda: _no_clients(site), seconds=40)
    stage.figure("node gives up", given_up, _GIVEN_UP_SECONDS)
    stage.figure("all know", await know, _BLIND_SECONDS)
    stage.proves(
        f"{before} connections of clients open at the node, and nothing carried",
        before >= len(held) > 0 and site.front.carried_bytes["down"] <= carried["down"],
    )
    site.front.go_silent()
    stage.healed()


async def _no_clients(site: Site) -> bool:
    return not await site.node.metric("guardwire_sockets")


async def one_way(stage: Stage) -> None:
    """The frames of one node are lost, and the clients of another one cannot answer."""
    await stage.watch(1)
    unheard, deaf = stage.sites[0], stage.sites[1]
    lost, mute = stage.crowd.on(unheard.address), stage.crowd.on(deaf.address)
    no_pong = await deaf.node.metric('guardwire_closes_total{code="4009"}')
    unheard.front.go_silent("down")
    deaf.front.go_silent("up")
    carried = unheard.front.carried_bytes["down"]
    mutes = asyncio.create_task(stage.all_know(seconds=20, among=mute))
    stage.figure("all know that nothing comes", await stage.all_know(seconds=20, among=lost), _BLIND_SECONDS)
    stage.figure("the mute are closed", await mutes, _CLOSED_SECONDS)
    closed = await deaf.node.metric('guardwire_closes_total{code="4009"}') - no_pong
    stage.proves(
        f"{len(lost)} bots got nothing more, {closed:.0f} others were closed with 4009",
        bool(lost) and unheard.front.carried_bytes["down"] <= carried and closed >= len(mute) > 0,
    )
    for site in (unheard, deaf):
        site.front.go_silent()
    stage.healed()
