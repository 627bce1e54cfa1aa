"""The fixtures of all tests: empty databases, and no connection left behind."""

from __future__ import annotations

import asyncio
import functools

import asyncpg
import pytest
import redis.asyncio

from realtime.embedded import EmbeddedServers
from tests.databases import ConnectionsLeft, Databases
from tests.logical_redis import LogicalRedis


async def test_each_test_gets_an_empty_database(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
        await connection.execute("CREATE TABLE left_behind ()")
    finally:
        await connection.close()


test_no_test_sees_what_another_wrote = test_each_test_gets_an_empty_database


async def test_a_connection_left_open_fails_the_test_and_the_database_is_dropped(
    servers: EmbeddedServers,
) -> None:
    with Databases(servers.database_url, is_throwaway=False, notice_seconds=0.05) as databases:
        url = databases.make()
        connection = await asyncpg.connect(url, server_settings={"application_name": "forgotten"})
        with pytest.raises(ConnectionsLeft, match="forgotten"):
            await asyncio.to_thread(databases.drop, url)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        await connection.fetchval("SELECT 1")
    await connection.close()


async def test_each_test_gets_an_empty_redis(redis_url: str) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        assert await client.dbsize() == 0
        await client.set("left", "behind")


test_no_test_sees_the_keys_of_another = test_each_test_gets_an_empty_redis


async def test_two_copies_of_the_migrated_database_know_nothing_of_each_other(
    databases: Databases, migrated_template: str, migrated_url: str
) -> None:
    other_url = databases.make(like=migrated_template)
    connection, other = await asyncpg.connect(migrated_url), await asyncpg.connect(other_url)
    try:
        await connection.execute("CREATE TABLE mine ()")
        assert await other.fetchval("SELECT to_regclass('mine')") is None
        assert await other.fetchval("SELECT to_regclass('reconciliation_logs')") is not None
    finally:
        await connection.close()
        await other.close()
        databases.drop(other_url)


async def test_a_client_of_redis_that_is_left_open_is_reported_and_disconnected(
    logical_redis: LogicalRedis, redis_url: str
) -> None:
    async with redis.asyncio.Redis.from_url(redis_url, single_connection_client=True) as client:
        await client.ping()
        send_clients_away = functools.partial(logical_redis.send_clients_away, notice_seconds=0.05)
        assert len(await asyncio.to_thread(send_clients_away)) == 1
        assert await asyncio.to_thread(send_clients_away) == []
