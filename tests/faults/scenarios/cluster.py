"""Faults of a Redis Cluster: nodes that share one, and a primary of it that is killed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

from tests.faults.ground import Site
from tests.faults.stage import Stage
from tests.machine import slowness_of_a_process
from tests.redis_servers import RedisCluster

#: Pushes go on without Redis, so the bound is that of a run without a fault.
_SLOWEST_SECONDS: Final = 3.0
_RIGHT_AGAIN_SECONDS: Final = 5.0
#: A primary has failed after a second of silence; then comes an election.
_FOLLOWED_SECONDS: Final = 8.0
_LOST: Final = "guardwire_redis_slots_lost"
_STORED: Final = 'guardwire_snapshot_commits_total{result="stored"}'


async def failed_over(stage: Stage) -> None:
    """Kill a primary that owns a third of the slots, while clients come and go; its replica takes over."""
    stage.leases_may_run_out = True  # of the nodes that are killed to give them another Redis
    slow = await slowness_of_a_process()
    stage.right_again_seconds, stage.misled_seconds = _RIGHT_AGAIN_SECONDS * slow, _SLOWEST_SECONDS * slow
    with RedisCluster() as cluster:
        await cluster.form()
        async with _nodes_use(stage, cluster.url):
            await stage.crowd.until_all_fresh()
            began = time.monotonic()
            cluster.servers[0].kill()
            missing: set[str] = set()
            noticed = await stage.until(lambda: _all_have_lost_slots(stage, missing))
            cut = stage.sites[0].front.cut()
            followed = await stage.until(lambda: _all_slots_are_served(stage), seconds=30)
            stored = await stage.sites[-1].node.metric(_STORED)
            await stage.until(lambda: _has_stored(stage, stored))
            slowest = stage.crowd.latency_ms(1.0, since=began) / 1000
            stage.proves(
                f"after {noticed:.2f} s all nodes missed a third of the slots; {cut} clients had to come back",
                noticed < float("inf") and cut > 0,
            )
            stage.figure("followed", followed, _FOLLOWED_SECONDS * slow)
            stage.figure("slowest push", slowest, _SLOWEST_SECONDS * slow)
    await stage.crowd.until_all_fresh()
    stage.healed()


@contextlib.asynccontextmanager
async def _nodes_use(stage: Stage, redis_url: str) -> AsyncIterator[None]:
    """All nodes of the stage use another Redis meanwhile."""
    before = [site.node.settings for site in stage.sites]
    try:
        for site in stage.sites:
            site.node.settings = {**site.node.settings, "REDIS_URL": redis_url}
        await _restart(stage.sites)
        yield
    finally:
        for site, settings in zip(stage.sites, before, strict=True):
            site.node.settings = settings
        await _restart(stage.sites)


async def _restart(sites: Sequence[Site]) -> None:
    """Restart nodes at once, so that each of them gets clients: a node without any asks Redis for nothing."""
    await asyncio.gather(*(site.node.kill() for site in sites))
    await asyncio.gather(*(site.node.start() for site in sites))


async def _all_have_lost_slots(stage: Stage, missing: set[str]) -> bool:
    """Whether each node missed slots, now or at an earlier look; ``missing`` has the names of those that did."""
    for site in stage.sites:
        if await site.node.metric(_LOST) > 0:
            missing.add(site.node.name)
    return len(missing) == len(stage.sites)


async def _all_slots_are_served(stage: Stage) -> bool:
    return all([await site.node.metric(_LOST) == 0 for site in stage.sites])


async def _has_stored(stage: Stage, before: float) -> bool:
    return bool(await stage.sites[-1].node.metric(_STORED) > before)
