"""Faults of PostgreSQL: away, killed, silent, out of connections, and restored from a copy."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from tests.faults.ground import Site, sites_without
from tests.faults.platform import AWAY
from tests.faults.stage import Stage
from tests.machine import slowness_of_a_process

#: The promises about the database: clients know of an outage within 3 s, and are right 5 s after its end.
_STALE_SECONDS: Final = 3.0
_RIGHT_AGAIN_SECONDS: Final = 5.0
#: A canary every five seconds, two until one is missed, and the time of the observers.
_NOTICED_SECONDS: Final = 9.0
_BEFORE_SECONDS: Final = 1.0
_LOOKS: Final = 5
_AWAY_SECONDS: Final = 2.0
_BACKENDS: Final = """
SELECT pid FROM pg_stat_activity WHERE application_name LIKE $1 AND backend_type = 'client backend'
"""


async def restarted(stage: Stage) -> None:
    """An administrator restarts the server, with some seconds between stop and start."""
    await _without_server(stage, signal.SIGINT)


async def postmaster_killed(stage: Stage) -> None:
    """Kill the postmaster with SIGKILL: its children notice and end, and a new one replays the log."""
    await _without_server(stage, signal.SIGKILL)


async def _without_server(stage: Stage, number: signal.Signals) -> None:
    await _expect(stage)
    await stage.watch(_BEFORE_SECONDS)
    postgres = stage.ground.postgres
    assert postgres.pid is not None
    pid = postgres.pid
    os.kill(pid, number)
    noticed = await stage.all_know(seconds=15)
    await asyncio.to_thread(postgres.end)
    refused = await _refusal(stage)
    stage.proves(f"{number.name} to {pid}, and connecting ends in {refused}", refused is not None)
    stage.figure("stale", noticed, _STALE_SECONDS)
    await stage.watch(_AWAY_SECONDS)
    postgres.start()
    stage.healed()


async def backend_killed(stage: Stage) -> None:
    """Kill one backend with SIGKILL: PostgreSQL then ends all backends and recovers."""
    await _expect(stage)
    await stage.watch(_BEFORE_SECONDS)
    async with stage.ground.connection() as connection:
        pids: list[int] = []
        while not pids:
            pids = [row["pid"] for row in await connection.fetch(_BACKENDS, "guardwire")]
        os.kill(pids[0], signal.SIGKILL)
        stage.healed()
        with contextlib.suppress(*AWAY):
            for _ in range(100):
                await connection.execute("SELECT pg_sleep(0.05)")
        stage.proves(f"backend {pids[0]} of a node killed, ours went with it", connection.is_closed())


async def listeners_terminated(stage: Stage) -> None:
    """End the backend of every listener again and again with pg_terminate_backend; the sweep finds the lost changes."""
    await _expect(stage)
    await stage.watch(_BEFORE_SECONDS)
    found = [await site.node.metric("guardwire_sweep_found_missed_total") for site in stage.sites]
    terminated = 0
    async with stage.ground.connection() as connection:
        for _ in range(20):
            for row in await connection.fetch(_BACKENDS, "guardwire listener"):
                terminated += await connection.fetchval("SELECT pg_terminate_backend($1)", row["pid"])
            await asyncio.sleep(0.15)
    missed = [await site.node.metric("guardwire_sweep_found_missed_total") for site in stage.sites]
    stage.healed()
    stage.proves(
        f"{terminated} listeners terminated, sweeps found {sum(missed) - sum(found):.0f} changes",
        terminated >= len(stage.sites) and sum(missed) > sum(found),
    )


async def listeners_half_open(stage: Stage) -> None:
    """Keep the listeners' connections open and silent, which the canary alone can detect.

    The applier's node is left out, because its applier uses the same way, which is another fault.
    """
    await _expect(stage)
    await stage.watch(_BEFORE_SECONDS)
    leader, _ = await stage.ground.leader()
    deaf = sites_without(stage.sites, leader)
    before = await _missed(deaf)
    began = time.monotonic()
    for site in deaf:
        site.listener.go_silent("up", "down")
    noticed = await stage.until(lambda: _all_deaf(deaf), seconds=12)
    found = await _missed(deaf) - before
    stage.proves(f"sweeps of {len(deaf)} nodes found {found:.0f} changes that no listener heard", found > 0)
    stage.figure("noticed", noticed, _NOTICED_SECONDS * await slowness_of_a_process())
    await stage.watch(2)
    stage.figure("slowest push", stage.crowd.latency_ms(1.0, since=began) / 1000, _STALE_SECONDS)
    stage.healed()


async def _missed(sites: Sequence[Site]) -> float:
    return sum([await site.node.metric("guardwire_sweep_found_missed_total") for site in sites])


async def _all_deaf(sites: Sequence[Site]) -> bool:
    return not any([await site.node.metric("guardwire_listener_up") for site in sites])


async def connections_used_up(stage: Stage) -> None:
    """Take every connection of PostgreSQL, and end those of the nodes."""
    await _expect(stage)
    await stage.watch(_BEFORE_SECONDS)
    taken: list[Any] = []
    async with stage.ground.connection() as connection:
        taker = asyncio.create_task(_take_all(stage, taken), name="taker")
        await stage.until(lambda: _is_full(stage), seconds=20)
        await _turn_out(connection)
        noticed = await stage.all_know(seconds=15)
        refused = await _refusal(stage)
        taker.cancel()
        await asyncio.gather(taker, return_exceptions=True)
    stage.proves(f"{len(taken)} connections taken, one more ends in {refused}", refused is not None)
    stage.figure("stale", noticed, _STALE_SECONDS)
    for each in taken:
        each.terminate()
    stage.healed()


async def _turn_out(connection: Any) -> None:
    """End the nodes' connections until the fault has taken all of them."""
    out = 0
    while out < _LOOKS:
        backends = await connection.fetch(_BACKENDS, "guardwire%")
        for row in backends:
            await connection.fetchval("SELECT pg_terminate_backend($1)", row["pid"])
        out = 0 if backends else out + 1
        await asyncio.sleep(0.05)


async def _take_all(stage: Stage, taken: list[Any]) -> None:
    while True:
        try:
            taken.append(await asyncpg.connect(stage.ground.database_url, timeout=5))
        except AWAY:
            await asyncio.sleep(0.001)


async def _is_full(stage: Stage) -> bool:
    return await _refusal(stage) == "TooManyConnectionsError"


async def hanging(stage: Stage) -> None:
    """The way to the database carries nothing: connections stay open, and no answer comes."""
    await _expect(stage)
    await stage.watch(_BEFORE_SECONDS)
    ways = [way for site in stage.sites for way in (site.database, site.listener)]
    for way in ways:
        way.go_silent("up", "down")
    carried = [way.carried_bytes for way in ways]
    noticed = await stage.all_know(seconds=15)
    still = [way.carried_bytes for way in ways]
    held = sum(len(way.ends) for way in ways)
    stage.proves(
        f"{held} ends are open, and carried nothing more",
        held > 0 and all(now["down"] <= then["down"] for now, then in zip(still, carried, strict=True)),
    )
    stage.figure("stale", noticed, _STALE_SECONDS)
    # Commits go on, and a client that knows of the outage is not misled by them.
    await stage.watch(_AWAY_SECONDS)
    for way in ways:
        way.go_silent()
    stage.healed()


async def restored(stage: Stage) -> None:
    """Restore a copy of the cluster: the changes that were delivered after the copy are gone."""
    await _expect(stage)
    postgres, copy = stage.ground.postgres, stage.ground.folder / "copy"
    await stage.watch(_BEFORE_SECONDS)
    await stage.rest()
    await asyncio.to_thread(_stop, postgres)
    copied_at = time.monotonic()
    await asyncio.to_thread(shutil.copytree, postgres.cluster, copy)
    await asyncio.to_thread(_give_like, postgres.cluster, copy)
    postgres.start()
    await stage.crowd.until_all_fresh()
    await stage.trade()
    await stage.watch(2.5)
    await stage.rest()
    delivered = {bot: (bot.epoch, bot.revision) for bot in stage.bots}
    await asyncio.to_thread(_stop, postgres)
    await asyncio.to_thread(shutil.rmtree, postgres.cluster)
    copy.rename(postgres.cluster) if _same_disk(copy, postgres.cluster) else _move(copy, postgres.cluster)
    postgres.start()
    stage.platform.forget(since=copied_at)
    stage.healed()
    async with stage.ground.connection() as connection:
        rows = await connection.fetch("SELECT user_id, revision FROM guardwire.accounts")
    revisions = {row["user_id"]: row["revision"] for row in rows}
    behind = {bot for bot in stage.bots if revisions[bot.owner.user_id] < delivered[bot][1]}
    stage.proves(f"{len(behind)} accounts are back at revisions older than delivered ones", bool(behind))
    # The history of the other accounts is the same, so their clients learn of the epoch with the next change.
    await stage.crowd.until(lambda bot: bot not in behind or bot.epoch > delivered[bot][0], seconds=20)
    stage.figure("new epoch", time.monotonic() - stage.healed_at, _RIGHT_AGAIN_SECONDS)


def _stop(postgres: Any) -> None:
    """Stop the server in good order, so that its files are complete."""
    pid = postgres.pid
    os.kill(pid, signal.SIGINT)
    deadline = time.monotonic() + 20
    while postgres.pid is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    postgres.end()


def _give_like(original: Any, copy: Any) -> None:
    """Give ``copy`` the owner and the modes of ``original``."""
    for path in (copy, *copy.rglob("*")):
        like = (original / path.relative_to(copy)).stat()
        os.chown(path, like.st_uid, like.st_gid)
        path.chmod(like.st_mode)


def _same_disk(one: Any, other: Any) -> bool:
    return bool(one.stat().st_dev == other.parent.stat().st_dev)


def _move(copy: Any, cluster: Any) -> None:
    shutil.copytree(copy, cluster)
    _give_like(copy, cluster)
    shutil.rmtree(copy)


async def _expect(stage: Stage) -> None:
    stage.right_again_seconds = _RIGHT_AGAIN_SECONDS * await slowness_of_a_process()
    stage.misled_seconds = _STALE_SECONDS


async def _refusal(stage: Stage) -> str | None:
    """The error of an attempt to connect; None when it succeeds."""
    try:
        connection = await asyncpg.connect(stage.ground.database_url, timeout=5)
    except AWAY as error:
        return type(error).__name__
    connection.terminate()
    return None
