"""A node at a standby hears of changes from a replica of the Redis at home, and reads what the relay does not bring."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Final

import pytest
import redis

from auth.development import DevelopmentKey
from realtime import settings
from realtime.embedded import EmbeddedServers
from realtime.embedded.account import server_account
from realtime.embedded.folder import OwnedFolder
from realtime.embedded.programs import find_redis
from realtime.embedded.redis import Redis
from realtime.metrics import METRICS
from tests.conftest import _environment
from tests.end_to_end.mirror import Mirror, mirror
from tests.end_to_end.node import node
from tests.faults.proxy import Proxy
from tests.queries.database_writer import DatabaseWriter
from tests.regions.conftest import Pair, until_equity
from tests.regions.servers import paused
from tests.waiting import wait_until

PRICES: Final = 20


@pytest.fixture(scope="session")
def redis_replica(pytestconfig: pytest.Config, servers: EmbeddedServers) -> Iterator[Redis]:
    """A replica of the Redis of this run."""
    account = server_account()
    program = find_redis(account, source=settings.read(pytestconfig.stash[_environment]).server_binaries)
    folder = OwnedFolder.make_throwaway(account)
    replica = Redis(program, account=account, owned=folder)
    replica.start()
    try:
        _replicate(servers, replica.url)
        yield replica
    finally:
        replica.end()
        folder.release()


def _replicate(servers: EmbeddedServers, replica_url: str) -> None:
    with redis.Redis.from_url(servers.redis_url) as home, redis.Redis.from_url(replica_url) as replica:
        if servers.redis is not None:
            home.config_set("repl-diskless-sync", "yes")
            home.config_set("repl-diskless-sync-delay", 0)
        # The account of the server may write no file.
        replica.config_set("repl-diskless-load", "swapdb")
        address = home.connection_pool.connection_kwargs
        replica.config_set("masterauth", address.get("password") or "")
        replica.execute_command("REPLICAOF", address["host"], address["port"])
        wait_until(lambda: replica.info("replication")["master_link_status"] == "up", seconds=20)


@pytest.fixture
def relay_url(redis_url: str, redis_replica: Redis) -> str:
    """URL of the same logical database on the replica."""
    return redis_replica.url.rpartition("/")[0] + "/" + redis_url.rpartition("/")[2]


class Regions:
    """A node at the primary that relays, and one at the standby; mirrors of one account in both regions."""

    def __init__(self, near: Mirror, far: Mirror, link: Proxy) -> None:
        self.near, self.far, self.link = near, far, link
        self._moves = itertools.count(1)

    async def move_price(self, writer: DatabaseWriter) -> None:
        """Let the price move, and wait until both regions show that."""
        move = next(self._moves)
        await writer.sync(seconds(writer), current_price=str(2000 + move))

        def is_shown() -> bool:
            return all(price_of(account) == 2000 + move for account in (self.near, self.far))

        await self.near.until(lambda: price_of(self.near) == 2000 + move)
        await self.far.until(is_shown)

    async def until_told(self, writer: DatabaseWriter) -> None:
        """Let the price move until both nodes follow it without a read."""
        followed = -1.0
        while METRICS.followed.get() != followed + 2:
            followed = METRICS.followed.get()
            await self.move_price(writer)


@contextlib.asynccontextmanager
async def relaying(
    pair: Pair, redis_url: str, relay_url: str, writer: DatabaseWriter
) -> AsyncIterator[Regions]:
    """Both nodes, as soon as the far one hears the relay."""
    key = DevelopmentKey(secrets.token_hex(32))
    host, _, rest = relay_url.rpartition(":")
    port, _, database = rest.partition("/")
    writer.begun = datetime.now(UTC)
    await writer.equity(10_000)
    async with (
        Proxy("relay", int(port)) as link,
        node(pair.primary, redis_url, key=key, fanout="relay", heartbeat_seconds=0.5) as home,
        node(
            pair.standby,
            key=key,
            primary_url=pair.primary,
            relay_url=f"{host}:{link.port}/{database}",
            heartbeat_seconds=0.5,
        ) as region,
        mirror(home.url, key.issue(writer.user_id)) as near,
        mirror(region.url, key.issue(writer.user_id)) as far,
    ):
        await until_equity(10_000, near, far)
        regions = Regions(near, far, link)
        await regions.until_told(writer)
        yield regions


def seconds(writer: DatabaseWriter) -> float:
    """The present, as the writer counts. Rows of the past would soon be overdue, and nodes read what that changes."""
    return (datetime.now(UTC) - writer.begun).total_seconds()


def price_of(account: Mirror) -> float | None:
    position = account.state["positions"]["open"].get("1")
    return None if position is None else position["current_price"]


async def test_what_a_far_node_is_told_costs_no_statement(
    pair: Pair, redis_url: str, relay_url: str, writer: DatabaseWriter
) -> None:
    async with relaying(pair, redis_url, relay_url, writer) as regions:
        counters = METRICS.evaluated, METRICS.followed, METRICS.sweep_found
        before = [counter.get() for counter in counters]
        for _ in range(PRICES):
            await regions.move_price(writer)
        read, followed, found = [counter.get() - at for counter, at in zip(counters, before, strict=True)]
        # On a busy machine a sweep may find a change before the message about it arrives.
        assert read <= found
        assert followed >= 2 * PRICES - found
        assert found <= PRICES / 4
        assert regions.far.state == regions.near.state


async def test_what_a_far_node_is_not_told_is_read_as_soon_as_it_is_replayed(
    pair: Pair, redis_url: str, relay_url: str, writer: DatabaseWriter
) -> None:
    async with relaying(pair, redis_url, relay_url, writer) as regions:
        await writer.equity(7_000, seconds(writer))
        await until_equity(7_000, regions.near, regions.far)
        async with paused(pair.standby):
            await writer.sync(seconds(writer), ticket=2)
            await regions.near.until(lambda: "2" in regions.near.state["positions"]["open"])
            await asyncio.sleep(0.1)
            assert "2" not in regions.far.state["positions"]["open"]
            await regions.far.until(lambda: regions.far.stale)
        await regions.far.until(lambda: "2" in regions.far.state["positions"]["open"])
        await regions.far.until(lambda: not regions.far.stale)
        assert regions.far.state == regions.near.state


async def test_told_steps_go_on_while_nothing_is_replayed_and_are_called_stale(
    pair: Pair, redis_url: str, relay_url: str, writer: DatabaseWriter
) -> None:
    async with relaying(pair, redis_url, relay_url, writer) as regions:
        async with paused(pair.standby):
            for _ in range(PRICES):
                await regions.move_price(writer)
            await regions.far.until(lambda: regions.far.stale)
        await regions.far.until(lambda: not regions.far.stale)
        assert regions.far.state == regions.near.state
        assert regions.far.resyncs == 0


async def test_without_the_relay_sweeps_find_the_changes(
    pair: Pair, redis_url: str, relay_url: str, writer: DatabaseWriter
) -> None:
    async with relaying(pair, redis_url, relay_url, writer) as regions:
        replica_port, regions.link.target_port = regions.link.target_port, 1
        regions.link.cut()
        found = METRICS.sweep_found.get()
        for _ in range(PRICES):
            await regions.move_price(writer)
        assert METRICS.sweep_found.get() > found
        assert not regions.far.stale
        regions.link.target_port = replica_port
        await regions.until_told(writer)
