"""Faults of the relay: all nodes run in relay mode, and its applier, its Redis or a message fails."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from typing import Final

from tests.faults.scenarios.appliers import bound_of, kill_appliers
from tests.faults.stage import Stage
from tests.machine import slowness_of_a_process

#: A node listens to PostgreSQL after 3 s without the relay; to connect and to notice that takes some time.
_LISTENS_SECONDS: Final = 5.0
_RELAYED_SECONDS: Final = 10.0
_SLOWEST_SECONDS: Final = 3.0
_BEFORE_SECONDS: Final = 1.0
_PATIENCE_SECONDS: Final = 30.0
_KILLS: Final = 2
_HEARD: Final = "guardwire_relay_heard"
_LISTENS: Final = "guardwire_listener_up"


async def applier_killed(stage: Stage) -> None:
    """Kill the node that relays with SIGKILL, twice, at random points of its work."""
    bound = await bound_of(stage)
    async with _relayed(stage):
        slowest = await kill_appliers(stage, times=_KILLS)
        again = await stage.until(lambda: _is_relayed(stage), seconds=_PATIENCE_SECONDS)
        stage.figure("another applies", slowest, bound)
        stage.figure("all nodes relayed, one listens", again, _RELAYED_SECONDS)
    stage.healed()


async def redis_gone(stage: Stage) -> None:
    """Stop Redis for a while; it comes back empty."""
    bound = await bound_of(stage)
    async with _relayed(stage):
        began = time.monotonic()
        await asyncio.to_thread(stage.ground.redis.end)
        try:
            await _until_listening(stage, began, bound)
        finally:
            stage.ground.redis.start()
        await _until_relayed(stage)
    stage.healed()


async def redis_stopped(stage: Stage) -> None:
    """Stop Redis with SIGSTOP: its connections stay open and carry nothing."""
    bound = await bound_of(stage)
    async with _relayed(stage):
        assert stage.ground.redis.pid is not None
        began = time.monotonic()
        os.kill(stage.ground.redis.pid, signal.SIGSTOP)
        try:
            await _until_listening(stage, began, bound)
        finally:
            os.kill(stage.ground.redis.pid, signal.SIGCONT)
        await _until_relayed(stage)
    stage.healed()


async def _until_listening(stage: Stage, began: float, bound: float) -> None:
    listens = await stage.until(lambda: _all_listen(stage), seconds=_PATIENCE_SECONDS)
    await stage.watch(2)
    found = await _heard(stage)
    stage.proves(f"no node hears the relay, and {len(stage.sites)} listen to PostgreSQL", found == 0)
    stage.figure("all listen", listens, _LISTENS_SECONDS * await slowness_of_a_process())
    stage.figure(
        "slowest push", stage.crowd.latency_ms(1.0, since=began) / 1000, max(_SLOWEST_SECONDS, bound)
    )


async def _until_relayed(stage: Stage) -> None:
    again = await stage.until(lambda: _is_relayed(stage), seconds=_PATIENCE_SECONDS)
    stage.figure(
        "all nodes relayed again, one listens", again, _RELAYED_SECONDS * await slowness_of_a_process()
    )


@contextlib.asynccontextmanager
async def _relayed(stage: Stage) -> AsyncIterator[None]:
    """All nodes in relay mode; afterwards in their own mode again."""
    stage.leases_may_run_out = True
    kept = [site.node.settings for site in stage.sites]
    for site in stage.sites:
        site.node.settings = {**site.node.settings, "GUARDWIRE_FANOUT": "relay"}
    try:
        await _restart(stage)
        seconds = await stage.until(lambda: _is_relayed(stage), seconds=_PATIENCE_SECONDS)
        stage.proves(
            f"{len(stage.sites)} nodes heard the relay after {seconds:.1f} s, and one of them listened",
            seconds < float("inf"),
        )
        await stage.watch(_BEFORE_SECONDS)
        yield
    finally:
        for site, settings in zip(stage.sites, kept, strict=True):
            site.node.settings = settings
        await _restart(stage)


async def _restart(stage: Stage) -> None:
    await asyncio.gather(*(site.node.kill() for site in stage.sites))
    await asyncio.gather(*(site.node.start() for site in stage.sites))
    await stage.crowd.until_all_fresh()


async def _heard(stage: Stage) -> float:
    return sum([await site.node.metric(_HEARD) for site in stage.sites])


async def _is_relayed(stage: Stage) -> bool:
    listening = sum([await site.node.metric(_LISTENS) for site in stage.sites])
    return await _heard(stage) == len(stage.sites) and listening == 1


async def _all_listen(stage: Stage) -> bool:
    return all([await site.node.metric(_LISTENS) for site in stage.sites])
