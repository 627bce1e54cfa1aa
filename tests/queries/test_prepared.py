"""A server where transactions are prepared and changes replicated: rows that arrive in these ways are copied too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from queries.migrations.run import migrate
from realtime.embedded import EmbeddedServers
from tests.data_folders import open_folder
from tests.databases import Databases
from tests.queries.database_writer import DatabaseWriter, connected
from tests.queries.test_inbox import notified
from tests.queries.test_lease import renew

SETTINGS = {"max_prepared_transactions": "10", "wal_level": "logical"}


@pytest.fixture(scope="module")
def own_databases() -> Iterator[Databases]:
    """Databases of a server that has these settings, which take a start."""
    with open_folder() as folder, EmbeddedServers.start(folder, redis_url="redis://unused") as servers:
        assert servers.postgres is not None
        with Databases(servers.database_url, is_throwaway=False) as databases:
            for name, value in SETTINGS.items():
                databases.run(_execute(servers.database_url, f"ALTER SYSTEM SET {name} = '{value}'"))
        servers.postgres.end()
        servers.postgres.start()
        with Databases(servers.database_url, is_throwaway=False) as databases:
            yield databases


async def _execute(url: str, statement: str) -> None:
    async with connected(url) as connection:
        await connection.execute(statement)


@pytest.fixture(scope="module")
def own_template(own_databases: Databases) -> str:
    url = own_databases.make()
    own_databases.run(migrate(url))
    return url


@pytest.fixture
def url(own_databases: Databases, own_template: str) -> Iterator[str]:
    """A migrated database of that server."""
    url = own_databases.make(like=own_template)
    yield url
    own_databases.drop(url)


@pytest.fixture
async def writer(url: str) -> AsyncIterator[DatabaseWriter]:
    """Here a test says when the inbox is applied."""
    async with connected(url) as connection:
        yield DatabaseWriter(connection, applies=False)


async def prepare(writer: DatabaseWriter, name: str) -> None:
    """Prepare a transaction with a row of every kind."""
    await writer.connection.execute("BEGIN")
    await writer.sync(ticket=7)
    await writer.equity(1000)
    await writer.rate("EUR", "USD", 1)
    await writer.set_limits(minimum_equity=5)
    await writer.execute("TRUNCATE public.instruments")
    await writer.connection.execute(f"PREPARE TRANSACTION '{name}'")


# ---------------------------------------------------------------- prepared transactions


async def test_a_prepared_transaction_is_applied_when_it_commits(writer: DatabaseWriter) -> None:
    await prepare(writer, "to commit")
    assert await writer.apply() == 0
    await writer.connection.execute("COMMIT PREPARED 'to commit'")
    assert await writer.apply() == 5
    state = await writer.state()
    assert list(state["positions"]["open"]) == ["7"]
    assert state["guards"]["drawdown"]["minimum_equity"] == 5


async def test_a_prepared_transaction_that_is_rolled_back_never_was(writer: DatabaseWriter) -> None:
    await prepare(writer, "to roll back")
    await writer.connection.execute("ROLLBACK PREPARED 'to roll back'")
    await writer.of().sync()
    assert await writer.apply() == 1
    assert await renew(writer.connection) == 6
    assert await writer.revision() == 0


async def test_rows_of_a_prepared_transaction_that_the_scan_passed_are_found_when_it_is_committed(
    writer: DatabaseWriter, url: str
) -> None:
    """The session that prepared it is long gone."""
    async with connected(url) as connection:
        await prepare(DatabaseWriter(connection, writer.user_id, applies=False), "to wait")
    for second in range(3):
        await writer.sync(second)
        await writer.apply()
        assert await renew(writer.connection) == 6 + second
    await writer.connection.execute("COMMIT PREPARED 'to wait'")
    assert await writer.apply() == 5
    assert set(await writer.book()) == {"1", "7"}
    assert await renew(writer.connection) == 8


async def test_where_transactions_may_be_prepared_nobody_is_woken(writer: DatabaseWriter, url: str) -> None:
    """A transaction that has notified cannot be prepared, so the applier polls."""
    async with connected(url) as listener:
        assert await notified(listener, writer.sync) == []
        assert await notified(listener, lambda: writer.execute("TRUNCATE public.instruments")) == []
    assert len(await writer.inbox()) == 2


# ---------------------------------------------------------------- logical replication


@pytest.fixture
async def publisher(own_databases: Databases, own_template: str, url: str) -> AsyncIterator[DatabaseWriter]:
    """Writes to a database whose tables another one, ``url``, subscribes to."""
    published = own_databases.make(like=own_template)
    async with connected(published) as connection, connected(url) as subscriber:
        await connection.execute(
            "CREATE PUBLICATION p FOR TABLE public.reconciliation_logs, public.equity_snapshots,"
            " public.guard_limits, public.instruments, public.fx_rates;"
        )
        # Within one server a subscription cannot make its own slot.
        await connection.execute("SELECT pg_create_logical_replication_slot('s', 'pgoutput')")
        await subscriber.execute("TRUNCATE public.instruments")
        await subscriber.execute(
            f"CREATE SUBSCRIPTION s CONNECTION '{published}' PUBLICATION p"
            " WITH (slot_name = 's', create_slot = false)"
        )
        try:
            yield DatabaseWriter(connection, applies=False)
        finally:
            await subscriber.execute("ALTER SUBSCRIPTION s DISABLE")
            await subscriber.execute("ALTER SUBSCRIPTION s SET (slot_name = NONE); DROP SUBSCRIPTION s")
            await _drop_slot(connection)
    own_databases.drop(published)


async def _drop_slot(connection: Any) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                await connection.execute("SELECT pg_drop_replication_slot('s')")
            except asyncpg.ObjectInUseError:
                await asyncio.sleep(0.05)
            else:
                return


async def _until(writer: DatabaseWriter, query: str, *arguments: Any) -> None:
    async with asyncio.timeout(30):
        while not await writer.connection.fetchval(query, *arguments):
            await asyncio.sleep(0.02)


async def test_rows_that_a_subscription_applies_are_copied(
    publisher: DatabaseWriter, writer: DatabaseWriter
) -> None:
    """Those of the initial copy too, which are instruments here."""
    shown = writer.of(publisher.user_id)
    await _until(writer, "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel HAVING count(*) = 5")
    async with publisher.connection.transaction():
        row_id = await publisher.sync()
        await publisher.equity(10_000)
        await publisher.set_limits(minimum_equity=5)
    await publisher.update(row_id, matched=2)
    await publisher.rate("EUR", "USD", 1)
    await publisher.execute("DELETE FROM reconciliation_logs")
    await publisher.execute("TRUNCATE public.guard_limits")
    await _until(writer, "SELECT count(*) FROM guardwire.inbox WHERE source = 'g' AND operation = 't'")
    await writer.apply()
    position = await shown.position()
    assert (position["position_id"], position["matched"]) == (row_id, 2)
    assert position["contract_size"] == 100
    assert (await shown.account())["equity"] == 10_000
    assert (await shown.drawdown())["minimum_equity"] == 100
    assert await writer.value("SELECT base FROM guardwire.fx_current") == "EUR"
    assert await writer.set_aside() == []
