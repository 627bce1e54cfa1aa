"""History that was there before the capture: read account by account, while the platform goes on writing."""

from __future__ import annotations

import asyncio
from typing import Any

from queries.capture import backfill, list_accounts, rebuild
from queries.migrations.run import migrate
from tests.queries import legacy
from tests.queries.platform import Platform, at, connected

OWN = {"revision", "sync_due_at", "last_sync_arrived_at", "source"}


async def _everything(connection: Any) -> dict[str, list[dict[str, Any]]]:
    """All derived rows, without what only the capture of the moment can know."""
    found = {}
    for table, order in (
        ("accounts", "user_id"),
        ("positions", "user_id, ticket"),
        ("events", "user_id, event_id"),
    ):
        rows = await connection.fetch(f"SELECT * FROM guardwire.{table} ORDER BY {order}")
        found[table] = [{k: v for k, v in row.items() if k not in OWN} for row in rows]
    return found


async def test_history_makes_what_the_capture_would_have_made(migrated_url: str, platform: Platform) -> None:
    for second, volume in enumerate(["0.1", "0.1", "0.2", "0.2"]):
        await platform.sync(created_at=at(second), updated_at=at(second + 0.5), volume=volume)
    await platform.close(8, created_at=at(3))
    await platform.sync(9, created_at=at(1), status="failed", error_message="no")
    captured = await _everything(platform.connection)
    # Without arrivals it is history that nobody saw.
    await platform.connection.execute("TRUNCATE guardwire.arrivals")
    assert await rebuild(platform.connection, platform.user) == 6
    read = await _everything(platform.connection)
    own = {"state_revision", "state_ordinal", "revision", "base_revision", "ordinal"}
    for table, rows in captured.items():
        assert [{k: v for k, v in row.items() if k not in own} for row in rows] == [
            {k: v for k, v in row.items() if k not in own} for row in read[table]
        ]


async def test_rebuilding_uses_the_arrivals_that_were_recorded(platform: Platform) -> None:
    """The close came first in time and last in arrival: by the times alone the position would be open."""
    await platform.sync(created_at=at(5))
    await platform.close(created_at=at(1))
    await rebuild(platform.connection, platform.user)
    assert not (await platform.position())["is_open"]
    await platform.connection.execute("TRUNCATE guardwire.arrivals")
    await rebuild(platform.connection, platform.user)
    assert (await platform.position())["is_open"]


async def test_an_account_that_appears_after_the_listing_is_ready_at_once(database_url: str) -> None:
    async with connected(database_url) as connection:
        await legacy.make(connection, rows_per_user=5)
        await migrate(database_url, read_history=False)
        assert await list_accounts(connection) == 0
        await connection.execute(legacy.SYNC, legacy.USERS + 1, 1, 1.3)
        newcomer = await connection.fetchrow("SELECT ready, total_syncs FROM guardwire.accounts WHERE ready")
        assert tuple(newcomer) == (True, 1)


async def test_two_that_read_history_share_it_and_either_may_be_interrupted(database_url: str) -> None:
    async with connected(database_url) as one, connected(database_url) as two:
        await legacy.make(one, rows_per_user=100)
        await migrate(database_url, read_history=False)
        for _ in range(5):
            await one.fetchval("SELECT guardwire.backfill_next()")
        read = await asyncio.gather(
            backfill(one, progress=lambda _: None), backfill(two, progress=lambda _: None)
        )
        assert sum(read) >= legacy.USERS - 5
        syncs = await one.fetchval("SELECT sum(total_syncs) FROM guardwire.accounts WHERE ready")
        assert syncs == legacy.USERS * 98


async def test_a_reader_of_history_is_in_no_writers_way(database_url: str) -> None:
    """What it has made of the account is uncommitted when the writer commits; nothing of either is lost."""
    async with connected(database_url) as reader, connected(database_url) as writer:
        await legacy.make(reader, rows_per_user=60)
        await migrate(database_url, read_history=False)
        # It stops before the end, where it would lock the account.
        await reader.execute("SET lock_timeout = '5s'")
        held = writer.transaction()
        await held.start()
        await writer.execute("SELECT FROM guardwire.accounts WHERE user_id = md5('1')::uuid FOR UPDATE")
        reading = asyncio.create_task(
            reader.fetchval("SELECT guardwire.read_history(md5('1')::uuid)"), name="reading"
        )
        async with connected(database_url) as watcher, asyncio.timeout(5):
            while not await watcher.fetchval(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event_type = 'Lock'"
            ):
                await asyncio.sleep(0.01)
        await writer.execute(legacy.SYNC, 1, 99, 1.3)
        await held.commit()
        assert await reading == 61
        tickets = await reader.fetch(
            "SELECT ticket FROM guardwire.positions WHERE user_id = md5('1')::uuid AND is_open ORDER BY 1"
        )
        assert [row["ticket"] for row in tickets][-1] == 99
        syncs = await reader.fetchval(
            "SELECT total_syncs FROM guardwire.accounts WHERE user_id = md5('1')::uuid"
        )
        assert syncs == 60
