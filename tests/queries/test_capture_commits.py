"""One transaction is one commit of the capture, however it was written."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from tests.queries.platform import Platform, at, connected


async def test_revisions_grow_with_every_commit_and_stay_below_two_to_the_53(platform: Platform) -> None:
    seen = []
    for second in range(20):
        await platform.sync(created_at=at(second))
        seen.append(await platform.revision())
    assert seen == sorted(set(seen))
    assert seen[-1] < 2**53


async def test_a_clock_that_was_set_back_does_not_lower_a_revision(platform: Platform) -> None:
    await platform.sync()
    ahead = 2**52
    await platform.connection.execute("UPDATE guardwire.accounts SET revision = $1", ahead)
    await platform.sync(created_at=at(1))
    await platform.sync(8, created_at=at(1))
    assert await platform.revision() == ahead + 2


async def test_a_row_that_is_gone_at_the_commit_was_never_there(platform: Platform) -> None:
    async with platform.connection.transaction():
        row_id = await platform.sync()
        await platform.connection.execute("DELETE FROM reconciliation_logs WHERE id = $1", row_id)
    await platform.sync(8)
    async with platform.connection.transaction():
        await platform.sync(8, created_at=at(5), current_price="1")
        await platform.connection.execute("TRUNCATE reconciliation_logs")
    assert await platform.position(7) == {}
    assert (await platform.position(8))["state_at"] == at(0)
    assert (await platform.account())["total_syncs"] == 1


async def test_many_statements_in_one_transaction_are_listed_whole_and_in_order(platform: Platform) -> None:
    async with platform.connection.transaction():
        for number in range(600):
            await platform.sync(number % 5 + 1, created_at=at(number), current_price=number + 1)
    arrivals = await platform.rows("arrivals", "ordinal")
    assert [row["ordinal"] for row in arrivals] == list(range(1, 601))
    assert [(await platform.position(ticket))["current_price"] for ticket in (1, 5)] == [596, 600]
    assert await platform.connection.fetchval("SELECT count(*) FROM guardwire.pending") == 0


async def test_the_platform_may_alter_its_table_in_a_transaction_that_wrote_to_it(platform: Platform) -> None:
    async with platform.connection.transaction():
        await platform.sync()
        await platform.connection.execute("UPDATE reconciliation_logs SET slippage_pips = 1")
        await platform.connection.execute("ALTER TABLE reconciliation_logs ALTER slippage_pips SET NOT NULL")
        await platform.connection.execute(
            "ALTER TABLE reconciliation_logs ALTER mt5_position_id TYPE numeric"
        )
    assert (await platform.position())["is_open"]
    assert await platform.notes() == []
    await platform.sync(created_at=at(1), slippage_pips=1, current_price="1951")
    assert str((await platform.position())["pnl"])[:4] == "5.00"


async def _until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_notify_can_be_switched_off_and_on_under_writers_that_are_connected(
    platform: Platform, migrated_url: str
) -> None:
    heard: list[str] = []
    async with connected(migrated_url) as listener:
        told_channel = await listener.fetchval("SELECT told_channel FROM guardwire.configuration")
        for notify_channel in ("guardwire", told_channel):
            await listener.add_listener(notify_channel, lambda *each: heard.append(each[3]))
        for second, notify in enumerate([True, False, True]):
            await listener.execute("UPDATE guardwire.configuration SET notify = $1", notify)
            await platform.sync(created_at=at(second))
            await platform.sync(8, created_at=at(second), volume=second + 1)
        await platform.connection.execute("NOTIFY guardwire, 'end'")
        await _until(lambda: "end" in heard)
        await listener.reset()
    assert len(heard) == 5


async def test_a_writer_needs_no_right_on_anything_of_guardwires(platform: Platform) -> None:
    await platform.connection.execute("CREATE ROLE just_a_writer NOLOGIN")
    try:
        await platform.connection.execute(
            "GRANT INSERT ON reconciliation_logs, equity_snapshots TO just_a_writer"
        )
        await platform.connection.execute("SET ROLE just_a_writer")
        await platform.sync()
        await platform.equity(1000)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await platform.connection.fetch("SELECT * FROM guardwire.accounts")
        await platform.connection.execute("RESET ROLE")
        assert (await platform.account())["equity"] == 1000
        assert (await platform.position())["is_open"]
    finally:
        await platform.connection.execute("RESET ROLE; DROP OWNED BY just_a_writer; DROP ROLE just_a_writer")


async def test_a_writers_search_path_lends_the_capture_no_operators(platform: Platform) -> None:
    """Its functions run as their owner: an operator slipped into one would run as the owner too."""
    await platform.connection.execute("CREATE SCHEMA trap; CREATE SEQUENCE trap.sprung")
    for operator, kind in (
        ("=", "text"),
        ("<>", "text"),
        ("<", "numeric"),
        (">", "numeric"),
        ("<", "integer"),
    ):
        await platform.connection.execute(
            f"CREATE OR REPLACE FUNCTION trap.spring({kind}, {kind}) RETURNS boolean LANGUAGE sql AS "
            f"$$SELECT nextval('trap.sprung') = 0$$; "
            f"CREATE OPERATOR trap.{operator} (FUNCTION = trap.spring, LEFTARG = {kind}, RIGHTARG = {kind})"
        )
    await platform.connection.execute(
        "CREATE FUNCTION trap.glue(text, text) RETURNS text LANGUAGE sql AS "
        "$$SELECT nextval('trap.sprung')::text$$; "
        "CREATE OPERATOR trap.|| (FUNCTION = trap.glue, LEFTARG = text, RIGHTARG = text); "
        "SET search_path = trap, pg_catalog, public"
    )
    for second in range(3):
        await platform.sync(created_at=at(second))
    await platform.equity(1000)
    async with platform.connection.transaction():
        await platform.sync(8)
        await platform.sync(9)
    await platform.connection.execute("SET search_path = public")
    assert not await platform.connection.fetchval("SELECT is_called FROM trap.sprung")
    assert await platform.notes() == []
    assert (await platform.position())["state_at"] == at(2)
