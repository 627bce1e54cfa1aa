"""Many writers at once: no deadlock, no lost row, and revisions in the order of the commits."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.queries.platform import OTHER, Platform, at, connected

WRITERS = 4
SECONDS = 2.0


async def _write(database_url: str, users: list[UUID], seed: int, until: float) -> int:
    """Commits of five random accounts each, in the order that chance gives; how many rows."""
    chance = random.Random(seed)
    rows = 0
    async with connected(database_url) as connection:
        while time.monotonic() < until:
            async with connection.transaction():
                for user in chance.sample(users, 5):
                    await Platform(connection, user).sync(
                        chance.randint(1, 3), current_price=chance.randint(1, 9)
                    )
                    rows += 1
    return rows


async def test_the_order_of_revisions_is_the_order_of_commits(platform: Platform, migrated_url: str) -> None:
    """A watcher that polls sees revisions grow, and behind each exactly the rows that arrived up to it."""
    until = time.monotonic() + SECONDS / 2
    seen: list[tuple[int, int]] = []

    async def watch() -> None:
        async with connected(migrated_url) as connection:
            while time.monotonic() < until:
                row = await connection.fetchrow(
                    "SELECT a.revision, a.total_syncs, count(r.*) AS arrived, max(r.revision) AS last "
                    "FROM guardwire.accounts AS a LEFT JOIN guardwire.arrivals AS r USING (user_id) "
                    "WHERE a.user_id = $1 GROUP BY 1, 2",
                    platform.user,
                )
                if row:
                    assert row["arrived"] == row["total_syncs"]
                    assert row["last"] == row["revision"]
                    seen.append((row["revision"], row["total_syncs"]))

    async with asyncio.TaskGroup() as group:
        group.create_task(watch(), name="watch")
        for seed in range(2):
            group.create_task(
                _write(migrated_url, [platform.user, *(uuid4() for _ in range(4))], seed, until), name="write"
            )
    assert seen == sorted(seen)
    assert len(set(seen)) > 5


@pytest.mark.parametrize("change", ["instrument", "rate"])
async def test_a_position_that_opens_meanwhile_is_not_missed_by_a_change_of(
    platform: Platform, migrated_url: str, change: str
) -> None:
    """The writer has been captured and not committed when the change commits: the change waits for it."""
    await platform.equity(1000, currency="EUR")
    async with connected(migrated_url) as other:
        transaction = platform.connection.transaction()
        await transaction.start()
        await platform.connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        await platform.sync()
        opened = await platform.revision()
        statement = (
            "UPDATE instruments SET contract_size = 1 WHERE symbol = 'XAUUSD'"
            if change == "instrument"
            else "INSERT INTO fx_rates (base, quote, rate) VALUES ('EUR', 'USD', 1.1)"
        )
        changing = asyncio.create_task(other.execute(statement), name="change")
        await _wait_for_a_lock(migrated_url)
        await transaction.commit()
        await changing
    assert await platform.revision() > opened
    if change == "instrument":
        assert (await platform.position())["contract_size"] == 1


async def _wait_for_a_lock(database_url: str) -> None:
    async with connected(database_url) as connection, asyncio.timeout(5):
        while not await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ):
            await asyncio.sleep(0.01)


async def test_a_quick_writer_sees_a_change_of_instruments_that_it_waited_for(
    platform: Platform, migrated_url: str
) -> None:
    await platform.sync()
    async with connected(migrated_url) as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("SET CONSTRAINTS ALL IMMEDIATE")
        await other.execute("UPDATE instruments SET contract_size = 1 WHERE symbol = 'XAUUSD'")
        writing = asyncio.create_task(platform.sync(created_at=at(1), current_price="1951.50"), name="write")
        await _wait_for_a_lock(migrated_url)
        await transaction.commit()
        await writing
    assert str((await platform.position())["pnl"])[:4] == "0.10"


async def test_rows_of_one_ticket_by_two_writers_are_in_the_order_of_their_commits(
    platform: Platform, migrated_url: str
) -> None:
    await platform.sync()
    async with connected(migrated_url) as other:
        transaction = other.transaction()
        await transaction.start()
        await Platform(other).sync(volume="0.8")
        await platform.sync(volume="0.4")
        await transaction.commit()
    assert str((await platform.position())["volume"])[:3] == "0.8"


async def test_one_statement_for_a_thousand_accounts_is_captured_in_tens_of_milliseconds(
    platform: Platform,
) -> None:
    """Against the same statement without the capture, because a machine may be slow."""
    insert: Any = (
        "INSERT INTO reconciliation_logs "
        "(user_id, mt5_position_id, symbol, event_type, volume, entry_price, direction) "
        "SELECT md5(n::text)::uuid, 1, 'EURUSD', 'sync', 0.1, 1.1, 'buy' FROM generate_series(1, 1000) AS n"
    )
    await platform.connection.execute(insert)
    captured = min([await _seconds(platform, insert) for _ in range(3)])
    await platform.connection.execute("ALTER TABLE reconciliation_logs DISABLE TRIGGER USER")
    bare = min([await _seconds(platform, insert) for _ in range(3)])
    assert captured < max(30 * bare, 0.2)
    assert await platform.connection.fetchval("SELECT count(*) FROM guardwire.positions") == 1000
    assert (await Platform(platform.connection, OTHER).account()) == {}


async def _seconds(platform: Platform, statement: str) -> float:
    began = time.perf_counter()
    await platform.connection.execute(statement)
    return time.perf_counter() - began
