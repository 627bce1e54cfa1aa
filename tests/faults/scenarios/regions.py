"""Faults between two regions: a primary with a node that relays, a standby with a node that reads it, and bots that
move between both.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

import asyncpg

from queries.migrations.run import migrate
from tests.faults import oracle
from tests.faults.bot import Bot
from tests.faults.crowd import Crowd
from tests.faults.nodes import Node
from tests.faults.platform import Platform, SteadyMarks, people
from tests.faults.proxy import Proxy
from tests.faults.stage import Stage
from tests.regions.servers import ReplicatedPostgres, execute, paused, replayed, replicas

#: The promises of docs/regions.md: a state that is not known to be the newest is called stale within this time.
_STALE_SECONDS: Final = 3.0
#: Clients wait longer and longer before they try a region again that is not ready.
_RIGHT_AGAIN_SECONDS: Final = 20.0
_FAULT_SECONDS: Final = 4.0
_BETWEEN_SECONDS: Final = 2.0
_PATIENCE_SECONDS: Final = 60.0
_BOTS: Final = 24
_PER_SECOND: Final = 20.0
_MOVES: Final = 3
#: Logical databases of Redis that no other node of the suite uses.
_HOME_DATABASE: Final = 41
_FAR_DATABASE: Final = 42


@dataclass
class _Regions:
    """Both regions. ``link`` leads from the far node to the primary, ``stream`` from the standby to the primary, and
    ``relay`` from the far node to the Redis at home; bots come through ``fronts``.
    """

    stage: Stage
    primary: ReplicatedPostgres
    standby: ReplicatedPostgres
    link: Proxy
    stream: Proxy
    relay: Proxy
    fronts: tuple[Proxy, Proxy]
    platform: Platform
    crowd: Crowd

    @property
    def far(self) -> str:
        """The address of the far node."""
        return f"ws://127.0.0.1:{self.fronts[1].port}"

    async def move(self) -> None:
        """Cut all bots off; each goes to the other region."""
        for _ in range(_MOVES):
            for front in self.fronts:
                front.cut()
            await self.stage.watch(_BETWEEN_SECONDS)

    async def far_knows(self, began: float) -> None:
        """Wait until no bot in the far region takes its state for fresh; ``began`` is when the fault did."""
        with contextlib.suppress(TimeoutError):
            await self.crowd.until(
                lambda bot: bot.address != self.far or not bot.believes_fresh, seconds=_PATIENCE_SECONDS
            )
        self.stage.figure("the far region is stale", time.monotonic() - began, _STALE_SECONDS)


async def standby_lags(stage: Stage) -> None:
    """Pause the replay of the standby while the platform trades, and clients move between the regions."""
    async with _regions(stage) as regions:
        url = regions.standby.url
        before = await execute(url, "SELECT pg_last_wal_replay_lsn()::text")
        async with paused(url):
            began = time.monotonic()
            await regions.far_knows(began)
            await stage.watch(_FAULT_SECONDS)
            missing = await execute(
                url,
                f"SELECT pg_last_wal_receive_lsn() > '{before}' AND pg_get_wal_replay_pause_state() = 'paused'",
            )
        stage.proves("the standby received commits and replayed none", missing)


async def link_cut(stage: Stage) -> None:
    """Silence everything between the regions while the platform trades; neither end notices."""
    async with _regions(stage) as regions:
        ways = regions.link, regions.stream, regions.relay
        began = time.monotonic()
        for way in ways:
            way.go_silent("up", "down")
        await regions.far_knows(began)
        carried = [way.carried_bytes for way in ways]
        await stage.watch(_FAULT_SECONDS)
        stage.proves("nothing was carried", carried == [way.carried_bytes for way in ways])
        for way in ways:
            way.go_silent()


async def promoted(stage: Stage) -> None:
    """Promote the standby without the last commits, which clients have seen; the old primary is fenced off."""
    async with _regions(stage) as regions:
        standby_url = regions.standby.url
        regions.stream.go_silent("up", "down")
        lost_from = time.monotonic()
        await stage.watch(_BETWEEN_SECONDS)
        known = {bot: (bot.epoch, bot.revision) for bot in regions.crowd.bots}
        regions.link.target_port = regions.fronts[0].target_port = 1
        regions.link.cut()
        regions.fronts[0].cut()
        regions.platform.database_url = standby_url
        await regions.platform.close()
        await execute(standby_url, "SELECT pg_promote()")
        began = time.monotonic()
        regions.platform.forget(since=lost_from)
        connection = await asyncpg.connect(standby_url)
        revisions = dict(await connection.fetch("SELECT user_id, revision FROM guardwire.accounts"))
        await connection.close()
        lost = [bot for bot, held in known.items() if revisions[bot.owner.user_id] < held[1]]
        stage.proves(f"clients have seen {len(lost)} revisions that the promoted server lacks", bool(lost))
        await regions.crowd.until(lambda bot: bot.epoch > known[bot][0], seconds=_PATIENCE_SECONDS)
        stage.figure("every client is in a new epoch", time.monotonic() - began, _RIGHT_AGAIN_SECONDS)


@contextlib.asynccontextmanager
async def _regions(stage: Stage) -> AsyncIterator[_Regions]:
    """Two regions with bots in both, under trade; in the end every bot must agree with the log."""
    with replicas("any") as made:
        await migrate(made.primary.url)
        async with contextlib.AsyncExitStack() as stack:
            redis_port = stage.ground.redis.port
            link, stream, relay = [
                await stack.enter_async_context(Proxy(name, port))
                for name, port in (
                    ("link", made.primary.port),
                    ("stream", made.primary.port),
                    ("relay", redis_port),
                )
            ]
            standby = made.standby(stream.port)
            await replayed(made.primary.url, standby.url)
            nodes = _nodes(stage, made.primary, standby, link, relay)
            fronts = [await stack.enter_async_context(Proxy(each.name, each.port)) for each in nodes]
            await asyncio.gather(*(node.start() for node in nodes))
            for node in nodes:
                stack.push_async_callback(node.kill)
            platform, crowd = _bots(stage, made.primary.url, fronts)
            stack.push_async_callback(platform.close)
            regions = _Regions(
                stage, made.primary, standby, link, stream, relay, (fronts[0], fronts[1]), platform, crowd
            )
            await platform.final_word()
            async with crowd.following():
                await crowd.until_all_fresh(seconds=_PATIENCE_SECONDS)
                stop = asyncio.Event()
                trading = asyncio.create_task(platform.trade(stop, per_second=_PER_SECOND), name="trade")
                try:
                    await regions.move()
                    yield regions
                    await regions.move()
                finally:
                    stop.set()
                    await trading
                await _judge(regions)
    # The servers of the stage itself were not disturbed.
    stage.healed()


def _nodes(
    stage: Stage, primary: ReplicatedPostgres, standby: ReplicatedPostgres, link: Proxy, relay: Proxy
) -> tuple[Node, Node]:
    """The nodes at home and far away, with the keys of the other nodes."""
    common = {
        name: value
        for name, value in stage.sites[0].node.settings.items()
        if name not in ("LISTEN_DATABASE_URL", "GUARDWIRE_FANOUT")
    }
    redis_url, folder = stage.ground.servers.redis_url, stage.ground.folder
    home_redis = urlsplit(redis_url)._replace(path=f"/{_HOME_DATABASE}").geturl()
    either = standby.url.replace("127.0.0.1:", f"127.0.0.1:{link.port},127.0.0.1:")
    home = {
        "DATABASE_URL": primary.url,
        "REDIS_URL": home_redis,
        "GUARDWIRE_FANOUT": "relay",
        "GUARDWIRE_NODE": "home",
    }
    far = {
        "DATABASE_URL": standby.url,
        "GUARDWIRE_PRIMARY_URL": f"{either}?target_session_attrs=read-write",
        "GUARDWIRE_RELAY_URL": home_redis.replace(f":{stage.ground.redis.port}/", f":{relay.port}/"),
        "REDIS_URL": urlsplit(redis_url)._replace(path=f"/{_FAR_DATABASE}").geturl(),
        "GUARDWIRE_NODE": "far",
    }
    return (
        Node("home", {**common, **home}, folder / "node-home.log"),
        Node("far", {**common, **far}, folder / "node-far.log"),
    )


def _bots(stage: Stage, database_url: str, fronts: list[Proxy]) -> tuple[Platform, Crowd]:
    marks = SteadyMarks(stage.random)
    owners = people(_BOTS, stage.random, first=10_000)
    platform = Platform(database_url, owners, marks, stage.random)
    addresses = [f"ws://127.0.0.1:{front.port}" for front in fronts]
    bots = [Bot(owner, stage.ground.token(owner), addresses, marks) for owner in owners]
    return platform, Crowd(platform, bots)


async def _judge(regions: _Regions) -> None:
    """Every bot shows the platform's last commit, agrees with the log, and saw every promise kept."""
    stage, crowd = regions.stage, regions.crowd
    began = time.monotonic()
    revisions = await regions.platform.final_word()
    try:
        await crowd.until_all_at(revisions, seconds=_PATIENCE_SECONDS)
    except TimeoutError as error:
        stage.broken(f"left stale between regions: {error}")
    stage.figure("right again in both regions", time.monotonic() - began, _RIGHT_AGAIN_SECONDS)
    stage.figure("misled in a region", crowd.misled_seconds, _STALE_SECONDS)
    wrong = 0
    connection, since = await asyncpg.connect(regions.platform.database_url), datetime.now(UTC)
    instruments = await oracle.known_instruments(connection)
    for bot in crowd.bots:
        found = await oracle.differences(connection, instruments, bot.owner.user_id, bot.state, since=since)
        wrong += bool(found)
        for text in (*found[:1], *bot.broken[:2]):
            stage.broken(f"{bot.owner} between regions: {text}")
    await connection.close()
    stage.figure("wrong in a region", wrong, 0, f"of {len(crowd.bots)}")
