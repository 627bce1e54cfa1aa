"""Writers side by side: no deadlock, one order of commits, and no commit that fails through the capture."""

from __future__ import annotations

import asyncio
import random
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from queries.capture import housekeep
from tests.queries.conftest import Connect
from tests.queries.ledger import Ledger

RACE_SECONDS = 3.0


async def write_for_a_while(connection: Any, users: list[UUID], seed: int) -> int:
    """Commits of rows of five random accounts, in random order; how many."""
    chance, commits = random.Random(seed), 0
    deadline = asyncio.get_running_loop().time() + RACE_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        async with connection.transaction():
            for user in chance.sample(users, 5):
                await connection.execute(
                    """INSERT INTO reconciliation_logs
                           (user_id, mt5_position_id, event_type, matched, volume, symbol)
                       VALUES ($1, $2, 'sync', 1, $3, 'EURUSD')""",
                    user,
                    chance.randint(1, 5),
                    chance.randint(1, 9),
                )
            if chance.random() < 0.3:
                await connection.execute(
                    "INSERT INTO equity_snapshots (user_id, equity, currency) VALUES ($1, $2, 'GBP')",
                    chance.choice(users),
                    chance.randint(50, 9999),
                )
        commits += 1
    return commits


async def deadlocks(connection: Any) -> int:
    found: int = await connection.fetchval(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    return found


async def test_writers_of_many_accounts_never_deadlock_and_revisions_are_in_the_order_of_commits(
    ledger: Ledger, connect: Connect
) -> None:
    users = [uuid4() for _ in range(20)]
    writers = [await connect() for _ in range(4)]
    seen: dict[UUID, list[int]] = {user: [] for user in users}
    writing = asyncio.gather(*(write_for_a_while(writer, users, seed) for seed, writer in enumerate(writers)))
    while not writing.done():
        for user, revision in (await ledger.revisions()).items():
            seen[user].append(revision)
        await housekeep(ledger.connection)
    commits = sum(await writing)

    assert commits > 20
    for numbers in seen.values():
        assert numbers == sorted(numbers)
    assert await ledger.notes() == []
    assert await deadlocks(ledger.connection) == 0
    # Each commit moved each of its accounts once: no two share a revision of one account.
    rows = await ledger.connection.fetch(
        """SELECT a.user_id, a.revision, count(DISTINCT l.xmin::text) AS commits
           FROM guardwire.arrivals AS a JOIN reconciliation_logs AS l ON l.id = a.log_id
           WHERE a.source = 'l' GROUP BY a.user_id, a.revision"""
    )
    assert {row["commits"] for row in rows} == {1}


async def test_the_state_after_a_race_is_that_of_the_last_row_to_arrive(
    ledger: Ledger, connect: Connect, user: UUID
) -> None:
    writers = [Ledger(await connect()) for _ in range(4)]

    async def write(writer: Ledger, number: int) -> None:
        for _ in range(25):
            await writer.connection.execute(
                """INSERT INTO reconciliation_logs
                   (user_id, mt5_position_id, event_type, matched, volume, created_at)
                   VALUES ($1, 1, 'sync', 1, $2, $3)""",
                user,
                number,
                ledger.at(0),
            )

    await asyncio.gather(*(write(writer, number) for number, writer in enumerate(writers, 1)))
    last = await ledger.connection.fetchval(
        """SELECT l.volume FROM guardwire.arrivals AS a JOIN reconciliation_logs AS l ON l.id = a.log_id
           ORDER BY a.revision DESC LIMIT 1"""
    )
    assert (await ledger.book(user))["1"]["volume"] == last
    assert (await ledger.state(user))["status"]["total_syncs"] == 100


async def test_a_repeatable_read_writer_that_loses_a_race_commits_and_leaves_a_note(
    ledger: Ledger, connect: Connect, user: UUID
) -> None:
    await ledger.log(user, 0)
    loser = Ledger(await connect())
    async with loser.connection.transaction(isolation="repeatable_read"):
        await loser.log(user, 1, mt5_position_id=2)
        await ledger.log(user, 2, mt5_position_id=3)
    assert [note["sqlstate"] for note in await ledger.notes()] == ["40001"]
    assert set(await ledger.book(user)) == {"1", "3"}

    assert (await housekeep(ledger.connection)).notes_applied == 1
    assert await ledger.notes() == []
    assert set(await ledger.book(user)) == {"1", "2", "3"}


BROKEN = "RAISE EXCEPTION 'broken on purpose';"


async def break_the_capture(connection: Any, statement: str = BROKEN) -> str:
    """Replaces what locks the accounts; the statement that mends it again."""
    mended: str = await connection.fetchval(
        "SELECT pg_get_functiondef('guardwire.lock_accounts(uuid[])'::regprocedure)"
    )
    await connection.execute(f"""
        CREATE OR REPLACE FUNCTION guardwire.lock_accounts(wanted uuid[])
        RETURNS TABLE (user_id uuid, revision bigint, ready boolean) LANGUAGE plpgsql AS
        $$ BEGIN {statement} END $$""")
    return mended


async def test_a_capture_that_fails_never_fails_the_writer_and_is_mended_by_housekeeping(
    ledger: Ledger, user: UUID
) -> None:
    await ledger.log(user, 0)
    mend = await break_the_capture(ledger.connection)
    async with ledger.connection.transaction():
        row = await ledger.log(user, 1, current_price=1960)
        await ledger.equity(user, 1000)
        await ledger.update(row, current_price=1970)
        await ledger.connection.execute(
            "INSERT INTO guard_limits (user_id, minimum_equity) VALUES ($1, 5000)", user
        )
        await ledger.connection.execute("UPDATE instruments SET contract_size = 10 WHERE symbol = 'XAUUSD'")
        await ledger.connection.execute("INSERT INTO fx_rates (base, quote, rate) VALUES ('EUR', 'USD', 1.1)")
    assert len(await ledger.notes()) == 6
    assert (await ledger.book(user))["1"]["current_price"] == 1955.75

    await ledger.connection.execute(mend)
    assert (await housekeep(ledger.connection)).notes_applied == 6
    assert await ledger.notes() == []
    state = await ledger.state(user)
    assert state["positions"]["open"]["1"]["current_price"] == 1970
    assert state["positions"]["open"]["1"]["unrealized_pnl"] == 19.5
    assert state["guards"]["drawdown"]["alert_type"] == "critical"
    assert state["status"]["total_syncs"] == 2


async def test_a_commit_that_is_cancelled_while_the_capture_hangs_is_a_commit(
    ledger: Ledger, connect: Connect, user: UUID
) -> None:
    other = await connect()
    mend = await break_the_capture(ledger.connection, "PERFORM pg_sleep(30);")
    writing = asyncio.create_task(ledger.log(user))
    pid = ledger.connection.get_server_pid()
    while await other.fetchval("SELECT wait_event FROM pg_stat_activity WHERE pid = $1", pid) != "PgSleep":
        await asyncio.sleep(0.01)
    await other.execute("SELECT pg_cancel_backend($1)", pid)
    await writing
    await ledger.connection.execute(mend)
    assert [note["sqlstate"] for note in await ledger.notes()] == ["57014"]
    await housekeep(ledger.connection)
    assert list(await ledger.book(user)) == ["1"]


async def test_a_writer_does_not_wait_for_long_for_one_that_holds_its_account(
    ledger: Ledger, connect: Connect, user: UUID
) -> None:
    await ledger.log(user)
    holder = Ledger(await connect())
    async with holder.connection.transaction():
        await holder.connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        await holder.log(user, 1, mt5_position_id=2)
        await asyncio.wait_for(ledger.log(user, 2, mt5_position_id=3), 10)
        assert [note["sqlstate"] for note in await ledger.notes()] == ["55P03"]
    await housekeep(ledger.connection)
    assert set(await ledger.book(user)) == {"1", "2", "3"}


async def test_a_note_that_was_only_unlucky_is_not_given_up(ledger: Ledger, user: UUID) -> None:
    definition = await ledger.connection.fetchval(
        "SELECT pg_get_functiondef('guardwire.lock_reference(boolean)'::regprocedure)"
    )
    await ledger.connection.execute("""
        CREATE OR REPLACE FUNCTION guardwire.lock_reference(changes boolean) RETURNS void LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'locked on purpose' USING ERRCODE = '55P03'; END $$""")
    await ledger.log(user)
    for _ in range(20):
        assert (await housekeep(ledger.connection)).notes_applied == 0
    assert [note["given_up_at"] for note in await ledger.notes()] == [None]
    await ledger.connection.execute(definition)
    assert (await housekeep(ledger.connection)).notes_applied == 1
    assert list(await ledger.book(user)) == ["1"]


async def test_a_poison_note_is_given_up_and_stands_in_nobodys_way(ledger: Ledger, user: UUID) -> None:
    mend = await break_the_capture(ledger.connection)
    await ledger.log(user, 0)
    await ledger.connection.execute(
        "INSERT INTO guardwire.capture_notes (source, row_key, inserted, sqlstate, message)"
        " VALUES ('l', 'no such key', true, '22P02', 'made up')"
    )
    await ledger.log(user, 1, mt5_position_id=2)
    await ledger.connection.execute(mend)
    assert (await housekeep(ledger.connection)).notes_applied == 2
    assert set(await ledger.book(user)) == {"1", "2"}
    for _ in range(20):
        await housekeep(ledger.connection)
    (poison,) = await ledger.notes()
    assert poison["row_key"] == "no such key"
    assert poison["given_up_at"] is not None
    attempts = poison["attempts"]
    await housekeep(ledger.connection)
    assert (await ledger.notes())[0]["attempts"] == attempts


async def test_two_nodes_apply_a_note_once(ledger: Ledger, connect: Connect, user: UUID) -> None:
    other = await connect()
    mend = await break_the_capture(ledger.connection)
    for ticket in range(1, 21):
        await ledger.log(user, mt5_position_id=ticket)
    await ledger.connection.execute(mend)
    done = list(await asyncio.gather(housekeep(ledger.connection), housekeep(other)))
    while await ledger.notes():
        done.append(await housekeep(ledger.connection))
    assert sum(each.notes_applied for each in done) == 20
    assert (await ledger.state(user))["status"]["total_syncs"] == 20


@pytest.mark.parametrize("forged", ["garbage", "+", "li", "\x1f\x1f", "liliz\x1f+", "gunobody"])
async def test_a_writer_that_tampers_with_the_list_harms_nobody(
    ledger: Ledger, user: UUID, forged: str
) -> None:
    async with ledger.connection.transaction():
        await ledger.connection.execute("SELECT set_config('guardwire.touched', $1, false)", forged)
        await ledger.log(user)
    await ledger.log(user, 1, mt5_position_id=2)
    for _ in range(3):
        await housekeep(ledger.connection)
    assert "2" in await ledger.book(user)


async def test_a_read_only_transaction_has_nothing_to_capture(ledger: Ledger, connect: Connect) -> None:
    async with ledger.connection.transaction(readonly=True):
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            async with ledger.connection.transaction():
                await ledger.connection.execute("DELETE FROM reconciliation_logs")
