"""Checks that a node makes before it is ready, and the warnings that it logs."""

from __future__ import annotations

import asyncio
import resource
import secrets
from urllib.parse import urlsplit

import asyncpg
import pytest

from queries.migrations.revisions import REVISIONS
from queries.migrations.run import migrate
from realtime.cli.demo import server_login
from realtime.feed.self_test import check_clock, check_files, check_login, check_redis, check_revision
from realtime.metrics import METRICS
from realtime.store.redis_pool import connect
from tests.end_to_end.node import Node, node
from tests.queries.database_writer import connected


async def answer(server: Node, *, status: int) -> str:
    """The text of `/readyz`, as soon as it has this status."""
    async with asyncio.timeout(15):
        while (found := await server.client.get("/readyz")).status_code != status:
            await asyncio.sleep(0.02)
    return found.text


async def test_a_sound_database_makes_a_node_ready_without_a_warning(
    migrated_url: str, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await migrate(migrated_url, roles=True)
    async with node(await server_login(migrated_url), redis_url) as server:
        assert await answer(server, status=200) == "ready\n"
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == []
    for check in ("schema", "triggers", "clock", "login", "files", "redis", "notify"):
        assert METRICS.self_test_failed.get(check) == 0, check


async def test_a_login_that_may_more_than_a_node_needs_is_a_warning(migrated_url: str) -> None:
    await migrate(migrated_url, roles=True)
    login = f"node_{secrets.token_hex(4)}"
    async with connected(migrated_url) as superuser:
        warning = await check_login(superuser)
        assert warning is not None
        assert warning.startswith("this node's login is a superuser")
        await superuser.execute(f"CREATE ROLE {login} LOGIN PASSWORD 'secret' IN ROLE guardwire_server")
        parts = urlsplit(migrated_url)
        url = parts._replace(netloc=f"{login}:secret@{parts.netloc.rpartition('@')[2]}").geturl()
        async with connected(url) as connection:
            assert await check_login(connection) is None
            # A login that may become the owner has all rights of the owner.
            owner = f"{login}_owner"
            await superuser.execute(f"CREATE ROLE {owner}; ALTER TABLE guardwire.accounts OWNER TO {owner}")
            assert await check_login(connection) is None
            await superuser.execute(f"GRANT {owner} TO {login}")
            warning = await check_login(connection)
            assert warning is not None
            assert warning.startswith("this node's login is the owner of tables")
        await superuser.execute(f"DROP OWNED BY {owner} CASCADE; DROP ROLE {owner}, {login}")


async def test_a_database_that_was_never_migrated_is_waited_for(database_url: str) -> None:
    async with node(database_url) as server:
        async with asyncio.timeout(15):
            while "guardwire migrate" not in (await server.client.get("/readyz")).text:
                await asyncio.sleep(0.02)
        assert METRICS.self_test_failed.get("schema") == 1
        await migrate(database_url)
        assert await answer(server, status=200) == "ready\n"


async def test_a_disabled_trigger_keeps_a_node_from_being_ready(
    migrated_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(migrated_url) as connection:
        await connection.execute("ALTER TABLE reconciliation_logs DISABLE TRIGGER guardwire_copy")
    async with node(migrated_url) as server:
        async with asyncio.timeout(15):
            while METRICS.self_test_failed.get("triggers") != 1:
                await asyncio.sleep(0.02)
        text = await answer(server, status=503)
        assert text.startswith("starting")
        assert "trigger guardwire_copy on public.reconciliation_logs is disabled" in caplog.text
        await migrate(migrated_url)
        assert await answer(server, status=200) == "ready\n"


async def test_a_listener_that_hears_nothing_is_a_warning(
    migrated_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing listens at this address."""
    deaf = (
        migrated_url.replace("postgresql://", "postgresql://nobody:none@", 1).split("?")[0]
        + "_none?host=/nowhere"
    )
    async with node(migrated_url, listen_database_url=deaf) as server:
        assert await answer(server, status=200) == "ready\n"
    assert "NOTIFY is not heard" in caplog.text
    assert METRICS.self_test_failed.get("notify") == 1


async def test_the_schema_is_compared_with_what_this_release_reads(migrated_url: str) -> None:
    async with connected(migrated_url) as connection:
        assert await check_revision(connection) is None
        assert "and this release reads" in str(
            await check_revision(connection, [*REVISIONS, "9999"])
        ).replace(", this", ", and this")
        await connection.execute("UPDATE guardwire.migrations SET version_num = '9998'")
        assert await check_revision(connection) is None, "older nodes serve on while a newer release comes"
        assert METRICS.self_test_failed.get("schema") == 1


@pytest.mark.parametrize(("shift", "where"), [("3 seconds", "ahead of"), ("-3 seconds", "behind")])
async def test_a_clock_that_differs_is_named_with_its_figure(
    migrated_url: str, shift: str, where: str
) -> None:
    """The session's own clock_timestamp stands before the server's."""
    async with connected(migrated_url) as connection:
        assert await check_clock(connection) is None
        await connection.execute(
            "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS"
            f" $$ SELECT pg_catalog.clock_timestamp() + interval '{shift}' $$"
        )
        await connection.execute("SET search_path = public, pg_catalog")
        warning = await check_clock(connection)
        assert warning is not None
        assert f"3.0 s {where} this machine's" in warning
        assert 2.5 < abs(METRICS.clock_skew.get()) < 3.5


def test_few_open_files_are_a_warning() -> None:
    assert "may open 1024 files" in str(check_files(1024))
    assert check_files(65_536) is None
    assert check_files(resource.RLIM_INFINITY) is None


async def test_a_redis_that_will_refuse_to_remember_is_a_warning(redis_url: str) -> None:
    redis = connect(redis_url)
    held = await redis.config_get("maxmemory", "maxmemory-policy")
    try:
        assert await check_redis(redis) is None
        await redis.config_set("maxmemory-policy", "noeviction", "maxmemory", "100mb")
        assert "noeviction" in str(await check_redis(redis))
        await redis.config_set("maxmemory-policy", "volatile-lru")
        assert await check_redis(redis) is None
    finally:
        for name, value in held.items():
            await redis.config_set(str(name), str(value))
        await redis.aclose()


async def test_a_redis_that_does_not_answer_is_a_warning() -> None:
    redis = connect("redis://127.0.0.1:1/0")
    assert "Redis does not answer" in str(await check_redis(redis))
    await redis.aclose()


async def test_a_database_that_is_not_there_is_waited_for(migrated_url: str) -> None:
    missing = migrated_url.replace("guardwire_test", "guardwire_missing")
    async with node(missing) as server:
        assert (await answer(server, status=503)).startswith("starting")
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(missing)
