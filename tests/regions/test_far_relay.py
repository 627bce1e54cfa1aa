"""A node at a standby hears of changes from a replica of the Redis at home, and reads only what it is not told."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Final

import pytest
import redis

from auth.development import DevelopmentKey
from realtime import settings
from realtime.embedded.account import server_account
from realtime.embedded.folder import OwnedFolder
from realtime.embedded.programs import find_redis
from realtime.embedded.redis import Redis
from realtime.metrics import METRICS
from tests.conftest import _environment
from tests.end_to_end.mirror import Mirror, mirror
from tests.end_to_end.node import Node, node
from tests.faults.proxy import Proxy
from tests.queries.database_writer import DatabaseWriter
from tests.regions.conftest import Pair, until_equity
from tests.regions.servers import paused
from tests.waiting import until

PRICES: Final = 20


@pytest.fixture(scope="session")
def redis_replica(pytestconfig: pytest.Config) -> Iterator[Redis]:
    """A server that becomes a replica of each test's Redis."""
    account = server_account()
    program = find_redis(account, source=settings.read(pytestconfig.stash[_environment]).server_binaries)
    folder = OwnedFolder.make_throwaway(account)
    server = Redis(program, account=account, owned=folder)
    server.start()
    yield server
    server.end()
    folder.release()


@pytest.fixture
def relay_url(redis_url: str, redis_replica: Redis) -> Iterator[str]:
    """URL of the same database on a replica."""
    home = redis.Redis.from_url(redis_url)
    at_home = home.connection_pool.connection_kwargs
    with redis.Redis.from_url(redis_replica.url) as replica:
        replica.config_set("masterauth", at_home["password"])
        replica.execute_command("REPLICAOF", at_home["host"], at_home["port"])
    home.close()
    yield redis_replica.url.rpartition("/")[0] + f"/{at_home['db']}"
    with redis.Redis.from_url(redis_replica.url) as replica:
        replica.execute_command("REPLICAOF", "NO", "ONE")


class Regions:
    """A node at the primary that relays, and one at the standby; mirrors of one account in both regions."""

    def __init__(self, near: Mirror, far: Mirror, link: Proxy, far_node: Node) -> None:
        self.near, self.far, self.link, self.far_node = near, far, link, far_node


@contextlib.asynccontextmanager
async def relaying(
    pair: Pair, redis_url: str, relay_url: str, writer: DatabaseWriter
) -> AsyncIterator[Regions]:
    """Both nodes, as soon as the far one hears the relay."""
    key = DevelopmentKey(secrets.token_hex(32))
    host, _, rest = relay_url.rpartition(":")
    port, _, database = rest.partition("/")
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
        ) as far_node,
        mirror(home.url, key.issue(writer.user_id)) as near,
        mirror(far_node.url, key.issue(writer.user_id)) as far,
    ):
        await until_equity(10_000, near, far)
        await writer.sync(1)
        await until_price("1955.75", near, far)
        await until(lambda: METRICS.relay_heard.get() == 1)
        yield Regions(near, far, link, far_node)


def price_of(account: Mirror) -> float | None:
    position = account.state["positions"]["open"].get("1")
    return None if position is None else position["current_price"]


async def until_price(price: str, *accounts: Mirror) -> None:
    for account in accounts:

        def is_shown(account: Mirror = account) -> bool:
            return price_of(account) == float(price)

        await account.until(is_shown)


async def move_prices(writer: DatabaseWriter, *accounts: Mirror) -> None:
    """Let the price move and wait until it is shown, again and again."""
    for number in range(PRICES):
        price = str(1960 + number)
        await writer.sync(2 + number / 10, current_price=price)
        await until_price(price, *accounts)


async def test_what_a_far_node_is_told_costs_no_statement(
    pair: Pair, redis_url: str, relay_url: str, writer: DatabaseWriter
) -> None:
    async with relaying(pair, redis_url, relay_url, writer) as regions:
        await move_prices(writer, regions.near, regions.far)  # the first may still be found by a sweep
        read, followed = METRICS.evaluated.get(), METRICS.followed.get()
        await move_prices(writer, regions.near, regions.far)
        assert METRICS.evaluated.get() == read
        assert METRICS.followed.get() == followed + 2 * PRICES
        assert regions.far.state == regions.near.state


async def test_what_a_far_node_is_not_told_is_read_as_soon_as_it_is_replayed(
    pair: Pair, redis_url: str, relay_url: str, writer: DatabaseWriter
) -> None:
    async with relaying(pair, redis_url, relay_url, writer) as regions:
        await writer.equity(7_000, 3)
        await until_equity(7_000, regions.near, regions.far)
        async with paused(pair.standby):
            await writer.sync(4, ticket=2)
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
            await move_prices(writer, regions.near, regions.far)
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
        await move_prices(writer, regions.near, regions.far)
        assert METRICS.sweep_found.get() > found
        assert not regions.far.stale
        regions.link.target_port = replica_port
        followed = METRICS.followed.get()
        number = 0
        while METRICS.followed.get() < followed + 2:
            number += 1
            await writer.sync(5 + number / 100, current_price=str(2000 + number))
            await until_price(str(2000 + number), regions.near, regions.far)
