"""Rows that wait in the inbox make their accounts stale until they are applied, and no other accounts."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from realtime.delivery.watched_account import UNKNOWN_AGE_MS
from realtime.snapshot import Freshness
from tests.feed.node import FeedNode, sync
from tests.inbox import apply_inbox


class Watcher:
    """A client that records the latest freshness of its account."""

    def __init__(self) -> None:
        self.stale = False
        self.ages_ms: list[int] = []

    def wake(self, newest: object, fresh: Freshness, now: float) -> None:
        """A newer snapshot."""
        self.ages_ms.append(fresh.age_ms)

    def mark_stale(self, now: float, *, stale: bool) -> None:
        """Freshness changed."""
        self.stale = stale

    async def becomes(self, *, stale: bool) -> None:
        """Wait until the account has this freshness."""
        async with asyncio.timeout(20):
            while self.stale is not stale:
                await asyncio.sleep(0.01)


async def watched(node: FeedNode, connection: Any, user: UUID) -> Watcher:
    """A client of an account that has a position and has been read."""
    await sync(connection, user)
    await node.watch(user).sees()
    watcher = Watcher()
    node.hub.attach(user, watcher)
    return watcher


async def has_swept(node: FeedNode, *, seconds: float) -> None:
    """Wait until the node's sweeps cover so many further seconds."""
    swept_at = max(node.hub.swept_at, time.monotonic())
    async with asyncio.timeout(20):
        while node.hub.swept_at < swept_at + seconds:
            await asyncio.sleep(0.01)


async def test_an_account_with_a_waiting_row_is_stale_until_it_is_applied_and_no_other_is(
    node: FeedNode, connection: asyncpg.Connection[Any], user: UUID
) -> None:
    mine, others = await watched(node, connection, user), await watched(node, connection, uuid4())
    await has_swept(node, seconds=1.5)
    before = time.monotonic()
    await sync(connection, user, is_applied=False)
    await mine.becomes(stale=True)
    now = time.monotonic()
    watch = node.hub.attach(user, mine)
    assert watch.freshness(now).age_ms >= 1000, "rows wait for a second before their account is stale"
    assert watch.freshness(now).age_ms < (now - before) * 1000 + 2000
    assert not others.stale
    await apply_inbox(connection)
    await mine.becomes(stale=False)
    assert node.hub.attach(user, mine).freshness(time.monotonic()).age_ms < 2000


async def test_an_account_whose_rows_are_applied_all_the_time_is_never_stale(
    node: FeedNode, connection: asyncpg.Connection[Any], user: UUID
) -> None:
    mine = await watched(node, connection, user)
    await has_swept(node, seconds=1.5)
    end, was_stale = time.monotonic() + 3, False
    while time.monotonic() < end:
        # At every moment a row waits, and none of them for a second.
        await sync(connection, user, is_applied=False)
        await asyncio.sleep(0.05)
        await apply_inbox(connection)
        await sync(connection, user, is_applied=False)
        was_stale |= mine.stale
    assert not was_stale


async def test_a_row_of_a_long_transaction_waits_from_its_commit_on(
    node: FeedNode, connection: asyncpg.Connection[Any], user: UUID, migrated_url: str
) -> None:
    mine = await watched(node, connection, user)
    writer = await asyncpg.connect(migrated_url)
    try:
        transaction = writer.transaction()
        await transaction.start()
        await sync(writer, user, is_applied=False)
        await has_swept(node, seconds=1.5)
        assert not mine.stale
        await transaction.commit()
        await mine.becomes(stale=True)
    finally:
        await writer.close()


async def test_a_row_that_was_set_aside_keeps_its_account_stale(
    node: FeedNode, connection: asyncpg.Connection[Any], user: UUID
) -> None:
    mine, others = await watched(node, connection, user), await watched(node, connection, uuid4())
    await sync(connection, user, is_applied=False)
    await connection.execute(
        """WITH taken AS (DELETE FROM guardwire.inbox RETURNING *)
           INSERT INTO guardwire.set_aside
           SELECT nth, account, source, operation, new_row, old_row, xid, arrived_at, now(), '22003', 'out of range'
           FROM taken"""
    )
    await mine.becomes(stale=True)
    assert not others.stale
    await connection.execute("DELETE FROM guardwire.set_aside")
    await mine.becomes(stale=False)


async def test_an_account_whose_history_is_unread_is_stale(
    node: FeedNode, connection: asyncpg.Connection[Any], user: UUID
) -> None:
    mine = await watched(node, connection, user)
    await connection.fetchval("SELECT guardwire.unready($1)", user)
    await mine.becomes(stale=True)
    await connection.fetchval("SELECT guardwire.backfill_next()")
    await mine.becomes(stale=False)


@pytest.mark.parametrize("unreadable", ["a row is set aside", "its history is unread"])
async def test_the_first_read_of_an_account_already_knows_what_it_lacks(
    node: FeedNode, connection: asyncpg.Connection[Any], user: UUID, unreadable: str
) -> None:
    """No sweep has looked at the account before, and a poller may never come back for a second answer."""
    await sync(connection, user)
    if unreadable == "a row is set aside":
        await connection.execute(
            "INSERT INTO guardwire.set_aside (nth, account, source, operation, xid, arrived_at, sqlstate, reason)"
            " VALUES (1, $1, 'l', 'i', pg_current_xact_id(), now(), '22003', 'out of range')",
            user,
        )
    else:
        await connection.fetchval("SELECT guardwire.unready($1)", user)
    first = Watcher()
    account = node.hub.attach(user, first)
    async with asyncio.timeout(20):
        while not first.ages_ms:
            await asyncio.sleep(0.001)
    assert first.ages_ms[0] == UNKNOWN_AGE_MS
    assert account.stale
    await connection.execute("DELETE FROM guardwire.set_aside")
    await connection.fetchval("SELECT guardwire.backfill_next()")
    await first.becomes(stale=False)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO fx_rates (base, quote, rate) VALUES ('GBP', 'USD', 1.3)",
        "UPDATE public.instruments SET contract_size = 50 WHERE symbol = 'XAUUSD'",
        "TRUNCATE guard_limits",
    ],
)
async def test_a_waiting_rate_or_instrument_makes_every_account_stale(
    node: FeedNode, connection: asyncpg.Connection[Any], user: UUID, statement: str
) -> None:
    mine = await watched(node, connection, user)
    await connection.execute(statement)
    await mine.becomes(stale=True)
    await apply_inbox(connection)
    await mine.becomes(stale=False)


async def test_a_row_of_nobody_makes_nobody_stale(
    node: FeedNode, connection: asyncpg.Connection[Any], user: UUID
) -> None:
    mine = await watched(node, connection, user)
    await connection.execute("INSERT INTO equity_snapshots (user_id, equity) VALUES (NULL, 1)")
    await has_swept(node, seconds=1.5)
    assert not mine.stale
