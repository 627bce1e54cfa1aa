"""Nothing that goes wrong in the capture is the writer's trouble, and what went wrong is mended."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from queries.capture import housekeep
from tests.queries.platform import OTHER, Platform, at, connected

BREAK_POSITIONS = "ALTER TABLE guardwire.positions ADD CONSTRAINT broken CHECK (symbol <> 'BROKEN')"
CANCEL_WAITING = """
SELECT pg_cancel_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
MEND_POSITIONS = "ALTER TABLE guardwire.positions DROP CONSTRAINT broken"


async def test_a_plain_sync_whose_capture_failed_is_noted_too(platform: Platform) -> None:
    await platform.sync()
    await platform.connection.execute(
        "ALTER TABLE guardwire.positions ADD CONSTRAINT broken CHECK (current_price <> 13)"
    )
    row_id = await platform.sync(created_at=at(1), current_price=13)
    assert [note["row_key"] for note in await platform.notes()] == [str(row_id)]
    assert (await platform.account())["total_syncs"] == 1
    await platform.sync(created_at=at(2), current_price=14)
    assert len(await platform.notes()) == 1
    assert (await platform.account())["total_syncs"] == 2


async def test_notes_are_applied_in_the_order_of_their_commits(platform: Platform) -> None:
    await platform.connection.execute(BREAK_POSITIONS)
    await platform.sync(volume="0.1", symbol="BROKEN")
    await platform.sync(volume="0.2", symbol="BROKEN")
    await platform.connection.execute(MEND_POSITIONS)
    await housekeep(platform.connection)
    assert str((await platform.position())["volume"])[:3] == "0.2"


async def test_equity_that_was_noted_counts_once_and_only_when_it_is_applied(platform: Platform) -> None:
    await platform.equity(1000, 0)
    await platform.connection.execute(
        "ALTER TABLE guardwire.accounts ADD CONSTRAINT broken CHECK (equity <> 13)"
    )
    await platform.equity(13, 1, cash_flow=-987)
    await platform.equity(900, 2, cash_flow=887)
    await platform.connection.execute("ALTER TABLE guardwire.accounts DROP CONSTRAINT broken")
    # Late and with a flow: the whole history is read.
    await platform.equity(1001, 0.5, cash_flow=1)
    assert (await platform.account())["equity_flow"] == 888
    await housekeep(platform.connection)
    account = await platform.account()
    assert account["equity"] == 900
    assert account["equity_flow"] == -99
    assert account["peak_equity"] == 901


async def test_a_repeatable_read_writer_does_not_reckon_with_instruments_of_the_past(
    platform: Platform, migrated_url: str
) -> None:
    async with connected(migrated_url) as connection, connection.transaction(isolation="repeatable_read"):
        await connection.fetchval("SELECT 1 FROM reconciliation_logs")
        await platform.connection.execute("UPDATE instruments SET contract_size = 1 WHERE symbol = 'XAUUSD'")
        await Platform(connection).sync()
    await housekeep(platform.connection)
    assert (await platform.position())["contract_size"] == 1


async def test_a_repeatable_read_writer_that_races_with_nobody_is_captured_at_once(
    platform: Platform,
) -> None:
    async with platform.connection.transaction(isolation="repeatable_read"):
        await platform.sync()
    assert (await platform.position())["is_open"]


async def test_a_platform_that_alters_its_table_beyond_recognition_goes_on_writing(
    platform: Platform,
) -> None:
    await platform.sync()
    await platform.connection.execute("ALTER TABLE reconciliation_logs DROP COLUMN take_profit")
    for second in (1, 2):
        await platform.sync(created_at=at(second))
    assert [note["sqlstate"] for note in await platform.notes()] == ["42703", "42703"]
    await platform.connection.execute("ALTER TABLE reconciliation_logs ADD COLUMN take_profit numeric")
    assert (await housekeep(platform.connection)).notes_applied == 2
    assert (await platform.position())["state_at"] == at(2)


async def test_a_deadlock_is_the_captures_and_not_the_writers(platform: Platform, migrated_url: str) -> None:
    """Only a writer that sets its constraints immediate can lock accounts in an order of its own."""
    other = Platform(platform.connection, OTHER)
    await platform.sync()
    await other.sync()
    async with connected(migrated_url) as second:
        await second.execute("SET deadlock_timeout = '100ms'")
        first_has_one, second_has_one = asyncio.Event(), asyncio.Event()

        async def write(
            connection: Any, users: list[Any], mine: asyncio.Event, theirs: asyncio.Event
        ) -> None:
            async with connection.transaction():
                await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
                await Platform(connection, users[0]).sync(created_at=at(1))
                mine.set()
                await theirs.wait()
                await Platform(connection, users[1]).sync(created_at=at(1))

        async with asyncio.TaskGroup() as group:
            group.create_task(
                write(platform.connection, [platform.user, OTHER], first_has_one, second_has_one),
                name="first",
            )
            group.create_task(
                write(second, [OTHER, platform.user], second_has_one, first_has_one), name="second"
            )
    assert [note["sqlstate"] for note in await platform.notes()] == ["40P01"]
    assert await platform.connection.fetchval("SELECT count(*) FROM reconciliation_logs") == 6


async def test_the_platforms_own_errors_are_its_own(platform: Platform) -> None:
    row_id = await platform.sync()
    with pytest.raises(asyncpg.UniqueViolationError):
        await platform.sync(id=row_id)
    assert (await platform.account())["total_syncs"] == 1
