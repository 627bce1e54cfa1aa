"""Everything works through a transaction pooler, if LISTEN does not go through it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text
from websockets.asyncio.client import connect

from auth.development import DevelopmentKey
from auth.identity import ADMIN_SCOPE
from queries.migrations.run import migrate
from realtime.cli.database import open_database
from realtime.database import engine_for
from realtime.errors import UnavailableError
from realtime.metrics import METRICS
from realtime.settings import NodeTiming
from tests.databases import Databases
from tests.end_to_end.mirror import Mirror, mirror
from tests.end_to_end.node import Node, node
from tests.feed.node import sync
from tests.operations.pgbouncer import SERVERS, pgbouncer, set_for_sessions

USER, ADMIN = UUID(int=0xA11CE), UUID(int=0xADA)
AT_ONCE = 8
#: Sweeps are so slow that a change which arrives sooner was not found by one.
SLOW_SWEEPS = {"timing": NodeTiming(sweep_seconds=8.0, stale_seconds=30.0)}
HINTED_SECONDS = 4.0


@pytest.fixture
def pooled_url(databases: Databases, migrated_url: str, empty_folder: Path) -> Iterator[str]:
    databases.run(set_for_sessions(migrated_url))
    with pgbouncer(migrated_url, empty_folder) as pooler:
        yield pooler.url


@asynccontextmanager
async def pooled_node(
    pooled_url: str, direct_url: str, redis_url: str, **settings: Any
) -> AsyncIterator[Node]:
    pooled: dict[str, Any] = {"database_pooled": True, "listen_database_url": direct_url}
    async with node(pooled_url, redis_url, **pooled, **settings) as running:
        yield running


async def writes(database_url: str, price: float, *, is_applied: bool = False) -> None:
    """Write a price as the platform; with ``is_applied`` no node needs to apply it."""
    connection = await asyncpg.connect(database_url)
    try:
        await sync(connection, USER, price=price, is_applied=is_applied)
    finally:
        await connection.close()


async def until_shown(account: Mirror, price: float) -> None:
    """Wait until ``account`` shows this price for the position of `writes`."""

    def shown() -> object:
        return account.state["positions"]["open"].get("7", {}).get("current_price") == price

    await account.until(shown)


async def until_ready(running: Node) -> None:
    """Wait until the self-test is done."""
    async with asyncio.timeout(30):
        while (await running.client.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.05)


async def test_statements_of_many_clients_share_few_connections(pooled_url: str) -> None:
    """Each client gets its own answer, over whichever connections the pooler chooses."""
    engine = engine_for(pooled_url, pool_size=AT_ONCE, pooled=True)

    async def ask(number: int) -> None:
        pooled = await engine.raw_connection()
        driver: Any = pooled.driver_connection
        for turn in range(50):
            question = f"SELECT $1::bigint + {number}"
            assert await driver.fetchval(question, turn) == turn + number
            assert (await driver.fetchrow(question + ", $2::text", turn, "x"))[0] == turn + number
            assert [row[0] for row in await driver.fetch(question, turn)] == [turn + number]
        pooled.close()

    async def ask_by_name(number: int) -> None:
        alone = engine.execution_options(isolation_level="AUTOCOMMIT")
        for turn in range(50):
            async with alone.connect() as connection:
                question = text(f"SELECT CAST(:turn AS bigint) + {number % 3}")
                assert await connection.scalar(question, {"turn": turn}) == turn + number % 3

    try:
        await asyncio.gather(*(ask(number) for number in range(AT_ONCE)))
        await asyncio.gather(*(ask_by_name(number) for number in range(AT_ONCE)))
    finally:
        await engine.dispose()
    assert AT_ONCE > SERVERS


async def test_changes_are_applied_and_pushed_without_waiting_for_a_sweep(
    pooled_url: str, migrated_url: str, redis_url: str
) -> None:
    """The applier and the listener reach PostgreSQL by LISTEN_DATABASE_URL, past the pooler."""
    key = DevelopmentKey(secrets.token_hex(32))
    async with (
        pooled_node(pooled_url, migrated_url, redis_url, key=key, **SLOW_SWEEPS) as one,
        pooled_node(pooled_url, migrated_url, redis_url, key=key, **SLOW_SWEEPS) as two,
        mirror(one.url, one.token(USER)) as here,
        mirror(two.url, two.token(USER)) as there,
    ):
        for wakes in (True, False):
            await set_notify(migrated_url, wakes=wakes)
            for step in range(20):
                began = time.monotonic()
                price = 1900.0 + 100 * wakes + step
                await writes(migrated_url, price)
                for account in (here, there):
                    await until_shown(account, price)
                # The first row may be written before both nodes listen.
                assert (wakes and step == 0) or time.monotonic() - began < HINTED_SECONDS


async def set_notify(database_url: str, *, wakes: bool) -> None:
    """Set whether rows of the platform wake the applier by NOTIFY; otherwise it polls."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("UPDATE guardwire.configuration SET notify = $1", wakes)
    finally:
        await connection.close()


async def test_revocation_and_tickets_work(pooled_url: str, migrated_url: str, redis_url: str) -> None:
    key = DevelopmentKey(secrets.token_hex(32))
    token = key.issue(USER, now=time.time() - 5)
    bearer = {"Authorization": f"Bearer {token}"}
    async with pooled_node(pooled_url, migrated_url, redis_url, key=key) as running:
        ticket = (await running.client.post("/api/v1/tickets", headers=bearer)).json()["ticket"]
        async with running.client.stream("GET", f"/api/v1/stream?ticket={ticket}") as stream:
            assert stream.status_code == 200
        address = f"{running.url.replace('http', 'ws')}/ws"
        async with connect(address, additional_headers=bearer) as connection:
            assert '"welcome"' in str(await connection.recv())
            admin = {"Authorization": f"Bearer {key.issue(ADMIN, scopes=[ADMIN_SCOPE])}"}
            asked = await running.client.post(
                "/api/v1/admin/revocations", headers=admin, json={"user_id": str(USER)}
            )
            assert asked.status_code == 200, asked.text
            async with asyncio.timeout(10):
                await connection.wait_closed()
            assert connection.close_code == 4403


async def test_the_epoch_is_raised_for_another_server(
    pooled_url: str, migrated_url: str, redis_url: str
) -> None:
    async def epoch() -> int:
        async with (
            pooled_node(pooled_url, migrated_url, redis_url) as running,
            mirror(running.url, running.token(USER)) as account,
        ):
            return account.epoch

    before = await epoch()
    connection = await asyncpg.connect(migrated_url)
    await connection.execute("UPDATE guardwire.epoch SET system_identifier = 'another'")
    raises = METRICS.epoch_raises.get()
    try:
        async with asyncio.timeout(20):
            while await epoch() == before:
                pass
    finally:
        await connection.close()
    assert METRICS.epoch_raises.get() == raises + 1


async def test_a_node_that_knows_only_the_pooler_shows_what_others_apply(
    pooled_url: str, migrated_url: str, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The node receives nothing and cannot be the applier: its sweeps find changes, and the log names the setting."""
    found = METRICS.sweep_found.get()
    caplog.set_level("INFO")
    async with (
        node(pooled_url, redis_url, database_pooled=True) as running,
        mirror(running.url, running.token(USER)) as account,
    ):
        await writes(migrated_url, 1950.0, is_applied=True)
        await until_shown(account, 1950.0)
        assert METRICS.listener_up.get() == METRICS.applier_term.get() == 0
        await writes(migrated_url, 1960.0)
        await account.until(lambda: account.frames[-1].frame.get("stale"))
        await until_ready(running)
    assert METRICS.sweep_found.get() > found
    about = [each for each in caplog.records if "LISTEN_DATABASE_URL" in each.getMessage()]
    # One of the listener or the applier, one of the self-test, which looks for 5 s; the other part shares the first.
    assert [each.levelname for each in about if each.name == "realtime.feed.trouble"] == ["WARNING", "INFO"]
    assert [each.levelname for each in about if each.name == "realtime.feed.self_test"] == ["WARNING"]


async def test_a_listener_behind_a_pooler_that_takes_settings_hears_nothing_and_says_so_once(
    migrated_url: str, empty_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A pooler in transaction mode accepts LISTEN, and no notification passes."""
    missed = METRICS.canary_misses.get()
    ignored = "search_path,default_transaction_isolation,statement_timeout,jit"
    with pgbouncer(migrated_url, empty_folder, ignored=ignored) as pooler:
        async with node(migrated_url, listen_database_url=pooler.url):
            async with asyncio.timeout(30):
                while METRICS.canary_misses.get() < missed + 3:
                    await asyncio.sleep(0.05)
    assert caplog.text.count("set LISTEN_DATABASE_URL") == 1


@pytest.mark.parametrize("search_path", ['"$user", public', "pg_catalog"])
async def test_a_search_path_that_lends_names_to_others_is_a_warning(
    migrated_url: str, empty_folder: Path, caplog: pytest.LogCaptureFixture, search_path: str
) -> None:
    await set_for_sessions(migrated_url)
    with pgbouncer(migrated_url, empty_folder, search_path=search_path) as pooler:
        async with node(pooler.url, database_pooled=True, listen_database_url=migrated_url) as running:
            await until_ready(running)
    is_safe = search_path == "pg_catalog"
    assert ("ALTER ROLE … SET search_path = pg_catalog" in caplog.text) is not is_safe
    assert METRICS.self_test_failed.get("search_path") == float(not is_safe)


async def test_commands_behind_a_pooler_want_a_search_path_that_is_safe(
    migrated_url: str, empty_folder: Path
) -> None:
    with pgbouncer(migrated_url, empty_folder) as pooler:
        connection = await open_database(pooler.url)
        assert await connection.fetchval("SHOW search_path") == "pg_catalog"
        await connection.close()
        with pytest.raises(UnavailableError, match="give PostgreSQL's own address"):
            await open_database(pooler.url, session={"statement_timeout": "1s"})
        with pytest.raises(UnavailableError, match="give PostgreSQL's own address"):
            await migrate(pooler.url)
    with (
        pgbouncer(migrated_url, empty_folder, search_path='"$user", public') as pooler,
        pytest.raises(UnavailableError, match="ALTER ROLE … SET search_path = pg_catalog"),
    ):
        await open_database(pooler.url)
