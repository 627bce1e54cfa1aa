"""A node's housekeeper deletes old rows faster than a platform writes new ones, beside its other work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from realtime.database import engine_for
from realtime.feed.connection import KeptConnection
from realtime.feed.housekeeping import PRUNE_ROWS, Housekeeper
from tests.queries.database_writer import DatabaseWriter, connected
from tests.queries.test_housekeeping import FALL_SILENT

_ARRIVALS: Final = """
INSERT INTO guardwire.arrivals (user_id, revision, ordinal, log_id)
SELECT gen_random_uuid(), guardwire.unix_us(clock_timestamp() - interval '60 hours') + n, 1, gen_random_uuid()
FROM generate_series(1, $1::integer) AS n
"""


@asynccontextmanager
async def housekeeping(database_url: str) -> AsyncIterator[None]:
    """A housekeeper that deletes in every turn, while the context lasts."""
    engine = engine_for(database_url, pool_size=1, pooled=False)
    connection = KeptConnection(engine)
    keeper = Housekeeper(connection=connection, interval_seconds=0.05, prune_every_seconds=0)
    task = asyncio.create_task(keeper.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        await connection.close()
        await engine.dispose()


async def until(connection: Any, query: str) -> None:
    """Wait until a query returns true."""
    async with asyncio.timeout(30):
        while not await connection.fetchval(query):
            await asyncio.sleep(0.02)


async def test_more_old_arrivals_than_one_statement_deletes_are_deleted(migrated_url: str) -> None:
    async with connected(migrated_url) as connection:
        await connection.execute(_ARRIVALS, 2 * PRUNE_ROWS + 1)
        writer = DatabaseWriter(connection)
        await writer.sync()
        async with housekeeping(migrated_url):
            await until(connection, "SELECT count(*) = 1 FROM guardwire.arrivals")
        assert len(await writer.rows("arrivals")) == 1


async def test_a_platform_that_fell_silent_is_noted_although_nothing_can_be_deleted(
    migrated_url: str,
) -> None:
    async with connected(migrated_url) as connection:
        await DatabaseWriter(connection).sync()
        await connection.execute("DROP FUNCTION guardwire.prune(integer)")
        await connection.execute(FALL_SILENT)
        async with housekeeping(migrated_url):
            await until(connection, "SELECT source = 'silent' FROM guardwire.accounts")
            await connection.execute("UPDATE guardwire.accounts SET source = 'live'")
            await connection.execute(FALL_SILENT)
            await until(connection, "SELECT source = 'silent' FROM guardwire.accounts")
