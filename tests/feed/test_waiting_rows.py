"""Committed rows that wait as notes: their accounts are stale until they are applied, and no others are."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from queries.capture import housekeep
from tests.feed.node import FeedNode, sync
from tests.queries.ledger import Ledger

_BREAK = """
    CREATE OR REPLACE FUNCTION guardwire.apply_tokens(tokens text[]) RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'broken on purpose'; END $$
"""


class Watcher:
    """A client that remembers what it was last told of freshness."""

    def __init__(self) -> None:
        self.stale = False

    def wake(self, newest: object, now: float) -> None:
        """A newer snapshot."""

    def beat(self, now: float, *, stale: bool) -> None:
        """What is known of freshness changed."""
        self.stale = stale

    async def is_told(self, *, stale: bool) -> None:
        """Wait until the client is told so."""
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


async def broken(connection: Any) -> str:
    """Makes every capture leave notes; the statement that mends it."""
    mend: str = await connection.fetchval(
        "SELECT pg_get_functiondef('guardwire.apply_tokens(text[])'::regprocedure)"
    )
    await connection.execute(_BREAK)
    return mend


async def test_an_account_with_a_waiting_row_is_stale_until_it_is_applied_and_no_other_is(
    node: FeedNode, connection: asyncpg.Connection[Any], user: UUID
) -> None:
    other = uuid4()
    mine, others = await watched(node, connection, user), await watched(node, connection, other)
    mend = await broken(connection)
    await Ledger(connection).equity(user, 500)
    await mine.is_told(stale=True)
    watch = node.hub.attach(user, mine)
    assert watch.freshness(0.0).age_ms == 2**53 - 1
    assert not others.stale
    await connection.execute(mend)
    await housekeep(connection)
    await mine.is_told(stale=False)


async def test_a_row_that_was_given_up_keeps_its_account_stale(
    node: FeedNode, connection: asyncpg.Connection[Any], user: UUID
) -> None:
    mine = await watched(node, connection, user)
    mend = await broken(connection)
    await Ledger(connection).equity(user, 500)
    for _ in range(6):
        await housekeep(connection)
    assert await connection.fetchval("SELECT count(given_up_at) FROM guardwire.capture_notes") == 1
    await mine.is_told(stale=True)
    await connection.execute(mend)
    await housekeep(connection)
    swept_at = node.hub.swept_at
    async with asyncio.timeout(20):
        while node.hub.swept_at == swept_at:
            await asyncio.sleep(0.01)
    assert mine.stale
    await connection.execute("DELETE FROM guardwire.capture_notes")
    await mine.is_told(stale=False)


async def test_a_waiting_rate_or_instrument_makes_every_account_stale(
    node: FeedNode, connection: asyncpg.Connection[Any], user: UUID
) -> None:
    mine = await watched(node, connection, user)
    for statement in (
        "INSERT INTO fx_rates (base, quote, rate) VALUES ('GBP', 'USD', 1.3)",
        "UPDATE instruments SET contract_size = 50 WHERE symbol = 'XAUUSD'",
    ):
        mend = await broken(connection)
        await connection.execute(statement)
        await mine.is_told(stale=True)
        newcomer = uuid4()
        assert node.hub.has_waiting_rows(newcomer)
        await connection.execute(mend)
        await housekeep(connection)
        await mine.is_told(stale=False)


async def test_a_row_of_nobody_makes_nobody_stale(
    node: FeedNode, connection: asyncpg.Connection[Any], user: UUID
) -> None:
    mine = await watched(node, connection, user)
    await broken(connection)
    await connection.execute("INSERT INTO equity_snapshots (user_id, equity) VALUES (NULL, 1)")
    (note,) = await connection.fetch("SELECT user_id, concerns_all FROM guardwire.capture_notes")
    assert tuple(note) == (None, False)
    assert not mine.stale


async def test_all_notes_are_drained_in_one_turn_of_housekeeping(
    connection: asyncpg.Connection[Any], user: UUID
) -> None:
    mend = await broken(connection)
    await connection.execute(
        """INSERT INTO reconciliation_logs (user_id, mt5_position_id, event_type, matched)
           SELECT $1, n, 'sync', 1 FROM generate_series(1, 1200) AS n""",
        user,
    )
    await connection.execute(mend)
    assert (await housekeep(connection)).notes_applied == 1200
    assert len(await Ledger(connection).book(user)) == 1200


async def test_rows_that_a_capture_left_behind_are_noted_and_applied(
    connection: asyncpg.Connection[Any], user: UUID
) -> None:
    await sync(connection, user)
    await connection.execute("ALTER TABLE guardwire.pending DISABLE TRIGGER capture")
    await Ledger(connection).equity(user, 500)
    await connection.execute("ALTER TABLE guardwire.pending ENABLE TRIGGER capture")
    assert (await housekeep(connection)).notes_applied == 1
    assert await connection.fetchval("SELECT equity FROM guardwire.accounts WHERE user_id = $1", user) == 500
    assert await connection.fetchval("SELECT count(*) FROM guardwire.pending") == 0
