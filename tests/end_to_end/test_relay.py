"""Nodes in relay mode on real PostgreSQL and Redis: which of them listen, and what they hear of."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from decimal import Decimal
from functools import partial
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import asyncpg
import pytest

from auth.development import DevelopmentKey
from queries.delta import mac_of
from realtime.metrics import METRICS
from tests.end_to_end import tables
from tests.end_to_end.mirror import Mirror, mirror
from tests.end_to_end.node import Node, node
from tests.end_to_end.node_process import node_process
from tests.end_to_end.ordinary import equity, price, row
from tests.faults.proxy import Proxy

#: The connections that PostgreSQL wakes for each commit of the platform.
_LISTENERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'guardwire listener'
"""
_LEADER = "SELECT holder FROM guardwire.applier WHERE shard = 0"
_CHANGES = 5


@pytest.fixture
async def database(migrated_url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(migrated_url)
    yield connection
    await connection.close()


class Scene:
    """An account, and a mirror of it on each node."""

    def __init__(self, database: asyncpg.Connection[Any], user_id: UUID, accounts: list[Mirror]) -> None:
        self.database = database
        self.user_id = user_id
        self.accounts = accounts
        self._cents = 0

    async def change(self, *, seconds: float = 10.0) -> None:
        """Write a loop as the platform does, and wait until every mirror shows it."""
        self._cents += 1
        new = Decimal(1900) + Decimal(self._cents) / 100
        async with self.database.transaction():
            await tables.insert(
                self.database, row(self.user_id, str(new)), equity(self.user_id, 10_000, balance=10_000)
            )
        for account in self.accounts:
            await account.until(partial(_shows, account, float(new)), seconds=seconds)

    async def until_followed(self) -> None:
        """Change the account until all mirrors show a change without a read and without a sweep's help."""
        async with asyncio.timeout(15):
            while True:
                before = METRICS.followed.get(), METRICS.sweep_found.get()
                await self.change()
                if (METRICS.followed.get() - before[0], METRICS.sweep_found.get()) == (
                    len(self.accounts),
                    before[1],
                ):
                    return

    async def until_listeners(self, count: int, *, seconds: float = 15.0) -> None:
        """Wait until so many nodes listen to PostgreSQL."""
        async with asyncio.timeout(seconds):
            while await self.database.fetchval(_LISTENERS) != count:
                await asyncio.sleep(0.02)


def _shows(account: Mirror, shown: float) -> bool:
    return price(account) == shown


@contextlib.asynccontextmanager
async def scene(database: asyncpg.Connection[Any], *nodes: Node) -> AsyncIterator[Scene]:
    user_id = uuid4()
    async with contextlib.AsyncExitStack() as stack:
        accounts = [await stack.enter_async_context(mirror(each.url, each.token(user_id))) for each in nodes]
        made = Scene(database, user_id, accounts)
        await made.change()
        yield made


def through(proxy: Proxy, redis_url: str) -> str:
    parts = urlsplit(redis_url)
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{proxy.port}"))


async def test_only_the_applier_listens_and_every_node_follows_what_it_watches(
    migrated_url: str, redis_url: str, database: asyncpg.Connection[Any]
) -> None:
    async with (
        node(migrated_url, redis_url, fanout="relay") as one,
        node(migrated_url, redis_url, fanout="relay", key=one.key) as two,
        scene(database, one, two) as watched,
    ):
        await watched.until_followed()
        await watched.until_listeners(1)
        followed, found = METRICS.followed.get(), METRICS.sweep_found.get()
        evaluated = METRICS.evaluated.get()
        for _ in range(_CHANGES):
            await watched.change()
        assert METRICS.followed.get() == followed + 2 * _CHANGES
        assert METRICS.evaluated.get() == evaluated
        # Others than the applier change accounts too, and notify: the applier passes the notice on.
        revision = await database.fetchval(
            "SELECT guardwire.set_arming($1, true, NULL, NULL, 'owner')", watched.user_id
        )
        assert revision is not None
        wanted = await database.fetchval(
            "SELECT revision FROM guardwire.accounts WHERE user_id = $1", watched.user_id
        )
        for account in watched.accounts:
            await account.until_revision(wanted)
        assert METRICS.sweep_found.get() == found
        assert await database.fetchval(_LISTENERS) == 1
        assert METRICS.relay_heard.get() == 1


async def test_without_redis_nodes_listen_within_seconds_and_with_it_they_are_relayed_again(
    migrated_url: str, redis_url: str, database: asyncpg.Connection[Any]
) -> None:
    async with (
        Proxy("memory", urlsplit(redis_url).port or 6379) as proxy,
        node(migrated_url, through(proxy, redis_url), fanout="relay") as one,
        node(migrated_url, through(proxy, redis_url), fanout="relay", key=one.key) as two,
        scene(database, one, two) as watched,
    ):
        await watched.until_followed()
        await watched.until_listeners(1)
        target, proxy.target_port = proxy.target_port, 1
        assert proxy.cut()
        # A sweep every 200 ms finds the changes, until both nodes listen.
        await watched.change(seconds=3)
        await watched.until_listeners(2, seconds=10)
        await watched.until_followed()
        assert not any(account.stale for account in watched.accounts)
        proxy.target_port = target
        await watched.until_listeners(1)
        await watched.until_followed()
        assert await database.fetchval(_LISTENERS) == 1


async def test_a_forged_message_in_redis_changes_nothing_and_is_counted(
    migrated_url: str, redis_url: str, database: asyncpg.Connection[Any]
) -> None:
    import redis.asyncio

    forged = METRICS.forged_notifications.get()
    async with (
        node(migrated_url, redis_url, fanout="relay") as one,
        scene(database, one) as watched,
        redis.asyncio.Redis.from_url(redis_url) as attacker,
    ):
        await watched.until_followed()
        (account,) = watched.accounts
        state, revision = account.state, account.revision
        text = f"1 {watched.user_id} {revision} {revision + 1} 9 0 0 0 1 1 0 1 0|1 1 1.0 1.0 1.0 0"
        channel = f"guardwire:{urlsplit(redis_url).path[1:]}:{{{watched.user_id}}}:changes"
        for message in (text, f"{mac_of(b'guessed', text)}#{text}"):
            assert await attacker.publish(channel, message) == 1
        async with asyncio.timeout(10):
            while METRICS.forged_notifications.get() < forged + 2:
                await asyncio.sleep(0.01)
        assert (account.state, account.revision) == (state, revision)
        await watched.change()


async def test_when_the_applier_is_killed_another_node_relays(
    migrated_url: str, redis_url: str, database: asyncpg.Connection[Any]
) -> None:
    secret = secrets.token_hex(32)
    async with node_process(migrated_url, redis_url, secret, fanout="relay") as victim:
        async with asyncio.timeout(15):
            while await database.fetchval(_LEADER) is None:
                await asyncio.sleep(0.02)
        key = DevelopmentKey(secret)
        async with (
            node(migrated_url, redis_url, fanout="relay", key=key) as one,
            node(migrated_url, redis_url, fanout="relay", key=key) as two,
            scene(database, one, two) as watched,
        ):
            await watched.until_followed()
            assert METRICS.applier_term.get() == 0, "the other process relays"
            victim.kill()
            await watched.change()
            await watched.until_followed()
            await watched.until_listeners(1)
            assert METRICS.applier_term.get() > 0


async def test_nodes_in_both_modes_are_right_together_whoever_is_the_applier(
    migrated_url: str, redis_url: str, database: asyncpg.Connection[Any]
) -> None:
    key = DevelopmentKey(secrets.token_hex(32))
    async with node(migrated_url, redis_url, fanout="relay", key=key) as relayed:
        async with (
            node(migrated_url, redis_url, key=key) as direct,
            scene(database, relayed, direct) as watched,
        ):
            # The applier relays, and goes on to notify while a node listens.
            await watched.until_followed()
            await watched.until_listeners(2)
            await watched.until_followed()
        await watched.until_listeners(1)
    async with (
        node(migrated_url, redis_url, key=key) as direct,
        node(migrated_url, redis_url, fanout="relay", key=key) as relayed,
        scene(database, relayed, direct) as watched,
    ):
        # The applier does not relay, so the other node listens too.
        await watched.until_listeners(2)
        await watched.until_followed()
