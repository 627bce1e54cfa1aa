"""One applier at a time, and no row that may still be committed is passed by the scan of the inbox."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.inbox import apply_batch
from tests.queries.conftest import Connect
from tests.queries.database_writer import DatabaseWriter

TAKE = "SELECT guardwire.take_lease($1, $2)"
RENEW = "SELECT guardwire.renew_lease($1, $2)"
RELEASE = "SELECT guardwire.release_lease($1)"
APPLY = "SELECT (guardwire.apply($1, 1000)).applied"
SCAN_FROM = "SELECT scan_from FROM guardwire.applier WHERE shard = 0"
LAST_NTH = "SELECT last_value FROM guardwire.inbox_nth_seq"
#: How long writers write side by side.
WRITE_SECONDS = 3.0


@pytest.fixture
async def writer(writer: DatabaseWriter) -> DatabaseWriter:
    """Here a test says when the inbox is applied."""
    writer.applies = False
    return writer


# ---------------------------------------------------------------- one applier


async def test_a_lease_is_taken_by_one_until_it_is_released(connect: Connect) -> None:
    one, two = await connect(), await connect()
    assert await one.fetchval(TAKE, "one", 60.0) == 1
    assert await two.fetchval(TAKE, "two", 60.0) is None
    assert await one.fetchval(TAKE, "one", 60.0) is None
    await two.execute(RELEASE, 7)
    assert await two.fetchval(TAKE, "two", 60.0) is None
    await one.execute(RELEASE, 1)
    assert await two.fetchval(TAKE, "two", 60.0) == 2
    holder = await one.fetchrow("SELECT holder, backend_pid, term FROM guardwire.applier")
    assert tuple(holder) == ("two", two.get_server_pid(), 2)


async def test_a_lease_that_is_not_renewed_in_time_can_be_taken(connect: Connect) -> None:
    one, two = await connect(), await connect()
    await one.fetchval(TAKE, "one", 60.0)
    assert await one.fetchval(RENEW, 1, 0.0)
    assert await two.fetchval(TAKE, "two", 60.0) == 2
    assert not await one.fetchval(RENEW, 1, 60.0)
    assert await one.fetchval("SELECT term FROM guardwire.applier") == 2


@pytest.mark.parametrize("seconds", [86_400.0, float("inf"), float("nan")])
async def test_a_lease_ends_after_a_minute_at_most(connect: Connect, seconds: float) -> None:
    """A process that asks for more cannot keep the others out for longer."""
    one = await connect()
    left = "SELECT held_until < clock_timestamp() + interval '61 seconds' FROM guardwire.applier"
    term = await one.fetchval(TAKE, "one", seconds)
    assert await one.fetchval(left)
    assert await one.fetchval(RENEW, term, seconds)
    assert await one.fetchval(left)


async def test_the_lease_of_a_connection_that_is_gone_can_be_taken_at_once(connect: Connect) -> None:
    one, two = await connect(), await connect()
    await one.fetchval(TAKE, "one", 60.0)
    await one.close()
    async with asyncio.timeout(10):
        while (term := await two.fetchval(TAKE, "two", 60.0)) is None:
            await asyncio.sleep(0.01)
    assert term == 2


@pytest.mark.parametrize("function", ["apply", "apply_singly"])
async def test_of_two_appliers_that_both_believe_in_themselves_one_applies(
    writer: DatabaseWriter, connect: Connect, function: str
) -> None:
    one, two = await connect(), await connect()
    await one.fetchval(TAKE, "one", 0.0)
    await two.fetchval(TAKE, "two", 60.0)
    await writer.sync()
    with pytest.raises(asyncpg.PostgresError, match="the lease of term 1 is over") as error:
        await one.execute(f"SELECT guardwire.{function}(1, 1000)")
    assert error.value.sqlstate == "GW001"
    assert len(await writer.inbox()) == 1
    assert await two.fetchval(APPLY, 2) == 1


async def test_a_takeover_waits_for_the_batch_that_runs(writer: DatabaseWriter, connect: Connect) -> None:
    """Otherwise the successor would apply later rows of an account before the batch's own."""
    one, two = await connect(), await connect()
    await one.fetchval(TAKE, "one", 0.0)
    await writer.sync()
    async with one.transaction():
        assert await one.fetchval(APPLY, 1) == 1
        with pytest.raises(asyncpg.LockNotAvailableError):
            await two.fetchval(TAKE, "two", 60.0)
        taking = asyncio.create_task(two.fetchval(TAKE, "two", 60.0), name="taking")
        await _wait_for_a_lock(await connect())
    assert await taking == 2
    assert await two.fetchval(APPLY, 2) == 0
    assert (await writer.account())["total_syncs"] == 1


async def test_a_batch_that_began_before_a_takeover_and_was_held_up_is_refused(
    writer: DatabaseWriter, connect: Connect
) -> None:
    one, two = await connect(), await connect()
    await one.fetchval(TAKE, "one", 0.0)
    await writer.sync()
    async with two.transaction():
        await two.fetchval(TAKE, "two", 60.0)
        applying = asyncio.create_task(one.fetchval(APPLY, 1), name="applying")
        await _wait_for_a_lock(await connect())
    with pytest.raises(asyncpg.PostgresError, match="the lease of term 1 is over"):
        await applying
    assert await two.fetchval(APPLY, 2) == 1


async def test_rows_of_a_frozen_applier_are_applied_once(writer: DatabaseWriter, connect: Connect) -> None:
    """Its transaction is open; its successor ends its connection."""
    frozen, successor = await connect(), await connect()
    await frozen.fetchval(TAKE, "frozen", 0.0)
    await writer.sync()
    transaction = frozen.transaction()
    await transaction.start()
    await frozen.fetchval(APPLY, 1)
    await successor.execute("SELECT pg_terminate_backend($1)", frozen.get_server_pid())
    async with asyncio.timeout(10):
        term = await successor.fetchval(TAKE, "successor", 60.0)
    assert await successor.fetchval(APPLY, term) == 1
    assert (await writer.account())["total_syncs"] == 1


async def _wait_for_a_lock(connection: Any) -> None:
    async with asyncio.timeout(10):
        while not await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ):
            await asyncio.sleep(0.01)


# ---------------------------------------------------------------- the scan


async def renew(connection: Any, times: int = 2) -> int:
    """Renew the lease, as an applier does about once a second; where the scan begins then."""
    term = await connection.fetchval("SELECT term FROM guardwire.applier")
    for _ in range(times):
        assert await connection.fetchval(RENEW, term, 60.0)
    scan_from: int = await connection.fetchval(SCAN_FROM)
    return scan_from


async def test_the_scan_passes_what_was_applied_and_what_was_rolled_back(writer: DatabaseWriter) -> None:
    for _ in range(3):
        await writer.sync()
        transaction = writer.connection.transaction()
        await transaction.start()
        await writer.sync()
        await transaction.rollback()
    await writer.apply()
    last = await writer.value(LAST_NTH)
    assert last == 6
    assert await renew(writer.connection) == last
    await writer.sync()
    await writer.apply()
    assert (await writer.account())["total_syncs"] == 4


async def test_the_scan_does_not_pass_a_row_that_waits(writer: DatabaseWriter) -> None:
    await writer.sync()
    await writer.apply()
    await writer.sync()
    assert await renew(writer.connection, 5) == 1
    assert await writer.apply() == 1


@pytest.mark.parametrize("others", [0, 3], ids=["alone", "while others commit"])
@pytest.mark.parametrize("savepoint", [False, True], ids=["", "within a savepoint"])
async def test_a_row_that_the_scan_passed_is_found_when_it_is_committed(
    writer: DatabaseWriter, connect: Connect, savepoint: bool, others: int
) -> None:
    """A transaction that stays open does not make each batch walk over all that was applied meanwhile."""
    late = DatabaseWriter(await connect(), writer.user_id, applies=False)
    transaction = late.connection.transaction()
    await transaction.start()
    if savepoint:
        await late.connection.execute("SAVEPOINT here")
    await late.sync(ticket=7)
    assert await renew(writer.connection, 5) == 1
    for second in range(others):
        await writer.sync(second)
        await writer.apply()
        assert await renew(writer.connection) == second + 2
    await transaction.commit()
    assert await writer.apply() == 1
    assert "7" in await writer.book()
    assert await renew(writer.connection) == others + 1


@pytest.mark.parametrize("renewals", [0, 1, 3])
async def test_rows_of_writers_that_end_at_different_times_are_all_found(
    writer: DatabaseWriter, connect: Connect, renewals: int
) -> None:
    """Each began after the scan had passed the rows of the one before; some are rolled back."""
    late = [DatabaseWriter(await connect(), writer.user_id, applies=False) for _ in range(4)]
    transactions = [each.connection.transaction() for each in late]
    for number, (each, transaction) in enumerate(zip(late, transactions, strict=True)):
        await transaction.start()
        await each.sync(ticket=10 + number)
        await writer.sync(number)
        await writer.apply()
        await renew(writer.connection, renewals)
    for number in (2, 0, 3, 1):
        is_kept = number != 3
        await (transactions[number].commit() if is_kept else transactions[number].rollback())
        await renew(writer.connection, renewals)
        assert await writer.apply() == is_kept
        await renew(writer.connection, renewals)
    assert set(await writer.book()) == {"1", "10", "11", "12"}
    assert await renew(writer.connection) == await writer.value(LAST_NTH)


async def write_slowly(connection: Any, users: list[UUID], seed: int) -> None:
    """Transactions of some seconds and of none, with savepoints, some of them rolled back."""
    chance = random.Random(seed)
    accounts = [DatabaseWriter(connection, user, applies=False) for user in users]
    ends_at = time.monotonic() + WRITE_SECONDS
    while time.monotonic() < ends_at:
        is_slow = chance.random() < 0.2
        transaction = connection.transaction(isolation=chance.choice(["read_committed", "repeatable_read"]))
        await transaction.start()
        for _ in range(chance.choice([1, 2, 10])):
            if chance.random() < 0.1:
                await connection.execute("SAVEPOINT here")
            await chance.choice(accounts).sync(ticket=chance.randint(1, 5))
            await asyncio.sleep(chance.uniform(0, 0.2) if is_slow else 0)
        await (transaction.rollback() if chance.random() < 0.15 else transaction.commit())


@pytest.mark.parametrize("seed", range(2))
async def test_while_the_scan_passes_open_transactions_every_row_is_applied_once(
    writer: DatabaseWriter, connect: Connect, seed: int
) -> None:
    chance, users = random.Random(seed), [UUID(int=number) for number in range(1, 5)]
    writing = asyncio.gather(*[write_slowly(await connect(), users, 10 * seed + each) for each in range(5)])
    passed = 0
    while not writing.done():
        await renew(writer.connection, 1)
        passed += await writer.value("SELECT cardinality(passed_xids) FROM guardwire.applier")
        for _ in range(chance.randint(0, 5)):
            await apply_batch(writer.connection, batch_rows=chance.choice([1, 3, 10, 1000]))
            await asyncio.sleep(chance.uniform(0, 0.02))
    await writing
    assert passed > 0, "no transaction was open when the lease was renewed"
    await renew(writer.connection)
    await writer.apply()
    assert await writer.inbox() == []
    applied = [
        row["log_id"] for row in await writer.connection.fetch("SELECT log_id FROM guardwire.arrivals")
    ]
    written = [row["id"] for row in await writer.connection.fetch("SELECT id FROM reconciliation_logs")]
    assert sorted(applied) == sorted(written)


async def test_a_transaction_that_the_scan_passed_is_taken_whole(
    writer: DatabaseWriter, connect: Connect
) -> None:
    """Also when it ends while a batch looks for its rows: its later rows are never applied before its first ones."""
    late = DatabaseWriter(await connect(), writer.user_id, applies=False)
    transaction = late.connection.transaction()
    await transaction.start()
    await late.sync(ticket=7)
    await renew(writer.connection)
    await late.sync(ticket=8)
    await transaction.commit()
    assert await writer.apply() == 2
    assert [row["ordinal"] for row in await writer.rows("arrivals", "revision, ordinal")] == [1, 2]


async def test_rows_of_a_database_that_was_copied_to_another_server_are_found(
    writer: DatabaseWriter, connect: Connect
) -> None:
    """There the transaction that the scan had passed has an id of the future, and its row was committed."""
    await writer.sync()
    await renew(writer.connection)
    await writer.connection.execute(
        "UPDATE guardwire.applier SET scan_from = 1000, passed_xids = ARRAY['900000000'::xid8], passed_from = '{0}'"
    )
    assert await writer.apply() == 1
    await writer.connection.execute("UPDATE guardwire.applier SET scan_from = 1000")
    await writer.sync(1)
    assert await renew(writer.connection) == 1
    assert await writer.apply() == 1


async def test_the_scan_does_not_pass_a_row_that_began_while_the_lease_was_renewed(
    writer: DatabaseWriter, connect: Connect
) -> None:
    """The renewal waits for a lock, after it has looked at one of transactions and rows and before the other."""
    term = await writer.connection.fetchval(TAKE, "one", 60.0)
    await writer.sync()
    await writer.connection.fetchval(APPLY, term)
    late, holder = DatabaseWriter(await connect(), writer.user_id, applies=False), await connect()
    async with holder.transaction():
        await holder.execute("SELECT FROM guardwire.applier FOR UPDATE")
        renewing = asyncio.create_task(writer.connection.fetchval(RENEW, term, 60.0), name="renewing")
        await _wait_for_a_lock(await connect())
        transaction = late.connection.transaction()
        await transaction.start()
        await late.sync(ticket=7)
    await renewing
    await renew(writer.connection, 3)
    await transaction.commit()
    assert await writer.connection.fetchval(APPLY, term) == 1


async def test_the_scan_is_not_held_up_by_a_transaction_that_writes_elsewhere(
    writer: DatabaseWriter, connect: Connect
) -> None:
    """Otherwise every batch would walk over the rows that were applied since that transaction began."""
    other = await connect()
    async with other.transaction():
        await other.execute("CREATE TABLE public.elsewhere (); SELECT pg_current_xact_id()")
        for _ in range(3):
            await writer.sync()
            await writer.apply()
        assert await renew(writer.connection) == 3
