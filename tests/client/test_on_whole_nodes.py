"""A bot on whole servers: rows committed to PostgreSQL, nodes that share it and Redis, nodes that go away."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest

from auth.development import DevelopmentKey
from guardwire import Account, connect
from guardwire.link import TransportName
from guardwire.state import CHANNELS
from realtime.audit.history import Limits
from realtime.store.redis_pool import connect as connect_redis
from realtime.store.snapshots import SnapshotStore
from tests.client.balancer import Balancer
from tests.client.waiting import eventually
from tests.end_to_end import tables
from tests.end_to_end.node import Node, node
from tests.end_to_end.node_process import node_process
from tests.end_to_end.ordinary import equity, row

TRANSPORTS: tuple[TransportName, ...] = ("websocket", "sse", "poll")


@pytest.fixture
async def platform(migrated_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(migrated_url)
    yield connection
    await connection.close()


@pytest.fixture
async def server(migrated_url: str, redis_url: str) -> AsyncIterator[Node]:
    async with node(migrated_url, redis_url) as server:
        yield server


def following(server: Node, user_id: UUID, **options: Any) -> Any:
    return connect(server.url, token=lambda: server.token(user_id), **options)


async def equals_the_server(account: Account, server: Node, user_id: UUID) -> bool:
    frame = await server.get("/api/v1/state", user_id)
    return bool(account.raw == frame["state"] and account.revision == frame["revision"])


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_bot_sees_the_rows_that_the_platform_commits(
    server: Node, platform: Any, transport: TransportName
) -> None:
    user_id = uuid4()
    async with following(server, user_id, transports=[transport]) as account:
        await tables.insert(platform, equity(user_id, 10_000), row(user_id))
        await eventually(lambda: price(account) == 1955.75)
        await tables.insert(platform, row(user_id, price="1960.25"))
        await eventually(lambda: price(account) == 1960.25)
        assert account.fresh
        assert await equals_the_server(account, server, user_id)


def price(account: Account) -> float | None:
    book = account.state.positions
    shown = None if book is None else book.open.get("1")
    return None if shown is None else shown.current_price


async def test_a_breach_of_the_time_without_a_connection_is_in_the_state(server: Node, platform: Any) -> None:
    user_id = uuid4()
    async with following(server, user_id) as account:
        await tables.insert(platform, equity(user_id, 10_000))
        changes = account.changes("guards", "breaches")
        assert account._connection.link is not None
        account._connection.link.abort()
        await tables.insert(platform, equity(user_id, 7_000))
        await tables.insert(platform, equity(user_id, 10_000))
        breach = await asyncio.wait_for(anext(changes), 10)
        assert breach.path[:2] == ("guards", "breaches")
        assert breach.new["kind"] == "drawdown"
        await eventually(lambda: not closing(account))
        assert account.state.guards is not None
        assert account.state.guards.breaches[breach.path[2]].cleared_at is not None


def closing(account: Account) -> bool:
    guards = account.state.guards
    return guards is not None and guards.drawdown.should_close_all


async def test_the_countdown_is_by_the_databases_clock(server: Node, platform: Any) -> None:
    user_id = uuid4()
    await tables.set_limits(platform, Limits(user_id=user_id, countdown_seconds=40))
    async with following(server, user_id, channels=["guards"]) as account:
        await tables.insert(platform, equity(user_id, 10_000), equity(user_id, 7_000))
        await eventually(lambda: closing(account))
        assert account.state.guards is not None
        assert account.state.guards.drawdown.liquidation_at is not None
        left = account.seconds_until(account.state.guards.drawdown.liquidation_at)
        assert left is not None
        assert 30 < left <= 40


@pytest.mark.fault
async def test_a_bot_whose_node_is_killed_resumes_at_another_node(
    migrated_url: str, redis_url: str, platform: Any
) -> None:
    secret, user_id, balancer = secrets.token_hex(32), uuid4(), Balancer()
    key = DevelopmentKey(secret)
    places: list[tuple[int, int]] = []
    async with (
        node_process(migrated_url, redis_url, secret) as first,
        node(migrated_url, redis_url, key=key) as second,
        balancer.listening(),
    ):
        balancer.target = first.url
        async with connect(balancer.url, token=lambda: key.issue(user_id)) as account:
            await tables.insert(platform, row(user_id), equity(user_id, 10_000))
            await eventually(lambda: price(account) == 1955.75 and equity_of(account) == 10_000)
            guards, reading = account.state.guards, asyncio.create_task(remember(account, places))
            await remembered(redis_url, user_id, account)
            balancer.target = second.url
            first.kill()
            await eventually(lambda: account.status == "stale")
            for cents in range(20):
                await tables.insert(platform, row(user_id, price=f"1956.{cents:02}"))
            await eventually(lambda: price(account) == 1956.19)
            await asyncio.wait_for(account.until_fresh(), 10)
            assert await equals_the_server(account, second, user_id)
            # It was resumed: a snapshot would have been read anew, also where nothing changed.
            assert account.state.guards is guards
            reading.cancel()
    assert places == sorted(places)


async def remembered(redis_url: str, user_id: UUID, account: Account) -> None:
    """Until Redis has what the account holds, so that any node can go on from there."""
    redis = connect_redis(redis_url)
    store = SnapshotStore(redis, channels=CHANNELS)
    async with asyncio.timeout(10):
        while True:
            stored = (await store.load([user_id])).get(user_id)
            if stored is not None and stored.snapshot.revision == account.revision:
                break
            await asyncio.sleep(0.01)
    await redis.aclose()


def equity_of(account: Account) -> float | None:
    guards = account.state.guards
    return None if guards is None else guards.drawdown.current_equity


async def remember(account: Account, places: list[tuple[int, int]]) -> None:
    async for change in account.changes():
        places.append((account.epoch, change.revision))  # noqa: PERF401 - read while it grows


async def test_every_state_that_the_server_makes_is_one_that_the_client_knows_by_type(
    server: Node, platform: Any
) -> None:
    user_id = uuid4()
    async with following(server, user_id) as account:
        assert await equals_the_server(account, server, user_id)
        await tables.insert(
            platform,
            equity(user_id, 10_000),
            row(user_id),
            row(user_id, ticket=2, matched=2, divergence_reason="volume mismatch"),
            row(
                user_id,
                ticket=3,
                event_type="guard_trigger",
                divergence_reason="price gap",
                current_price=2500,
            ),
            row(user_id, ticket=1, event_type="close", close_reason="take profit", pnl_gbp=5),
            equity(user_id, 7_000),
        )
        await eventually(lambda: closing(account))
        # Nothing of it is lost in the structs.
        raw = account.raw
        assert msgspec.json.decode(msgspec.json.encode(account.state)) == raw
        assert raw["guards"]["alerts"]
        assert raw["guards"]["breaches"]
        assert raw["status"]["divergences_detected"] == 1
