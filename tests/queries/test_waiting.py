"""Which accounts have rows that are not applied yet: a sweep asks, so that no client takes the past for the present."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from queries.capture import copy_reference, rebuild
from tests.queries.conftest import Connect
from tests.queries.database_writer import DatabaseWriter

SNAPSHOT = "SELECT pg_current_snapshot()::text"
WAITING = "SELECT account, is_old FROM guardwire.waiting_accounts($1::uuid[], $2::text::pg_snapshot)"


@pytest.fixture
async def writer(writer: DatabaseWriter) -> DatabaseWriter:
    """Here a test says when the inbox is applied."""
    writer.applies = False
    return writer


async def waiting(writer: DatabaseWriter, earlier: str, *watched: DatabaseWriter) -> dict[UUID | None, bool]:
    """The watched accounts with waiting rows, each with whether ``earlier`` saw one of these rows.

    All rows arrived two seconds ago.
    """
    users = [each.user_id for each in watched or (writer,)]
    await writer.connection.execute("UPDATE guardwire.inbox SET arrived_at = now() - interval '2 seconds'")
    return dict(await writer.connection.fetch(WAITING, users, earlier))


async def snapshot(writer: DatabaseWriter) -> str:
    return str(await writer.connection.fetchval(SNAPSHOT))


async def test_an_account_waits_until_its_rows_are_applied(writer: DatabaseWriter) -> None:
    unwatched = writer.of()
    before = await snapshot(writer)
    assert await waiting(writer, before) == {}
    await writer.sync()
    await writer.equity(1000)
    await unwatched.sync()
    assert await waiting(writer, before) == {writer.user_id: False}
    assert await waiting(writer, await snapshot(writer)) == {writer.user_id: True}
    await writer.apply()
    assert await waiting(writer, await snapshot(writer)) == {}


async def test_a_row_has_waited_since_it_was_visible_and_not_since_it_was_written(
    writer: DatabaseWriter, connect: Connect
) -> None:
    late = DatabaseWriter(await connect(), writer.user_id, applies=False)
    transaction = late.connection.transaction()
    await transaction.start()
    await late.sync()
    await writer.of().sync()
    meanwhile = await snapshot(writer)
    assert await waiting(writer, meanwhile) == {}
    await transaction.commit()
    assert await waiting(writer, meanwhile) == {writer.user_id: False}
    assert await waiting(writer, await snapshot(writer)) == {writer.user_id: True}


async def test_a_row_that_arrived_within_the_last_second_has_not_waited(writer: DatabaseWriter) -> None:
    await writer.sync()
    found = await writer.connection.fetch(WAITING, [writer.user_id], await snapshot(writer))
    assert [tuple(row) for row in found] == [(writer.user_id, False)]


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO fx_rates (base, quote, rate) VALUES ('EUR', 'USD', 1)",
        "UPDATE public.instruments SET pip_size = 1 WHERE symbol = 'XAUUSD'",
        "TRUNCATE public.instruments",
        "TRUNCATE guard_limits",
    ],
)
async def test_what_may_concern_any_account_keeps_all_waiting(writer: DatabaseWriter, statement: str) -> None:
    before = await snapshot(writer)
    await writer.execute(statement)
    assert await waiting(writer, before) == {None: False}
    assert await waiting(writer, await snapshot(writer)) == {None: True}
    await writer.apply()
    assert await waiting(writer, await snapshot(writer)) == {}


async def test_a_row_of_nobody_keeps_nobody_waiting(writer: DatabaseWriter) -> None:
    await writer.sync(user_id=None)
    await writer.equity(1, user_id=None)
    assert await waiting(writer, await snapshot(writer)) == {}


async def test_limits_keep_their_account_waiting(writer: DatabaseWriter) -> None:
    other = writer.of()
    await writer.set_limits(minimum_equity=1)
    await writer.execute(f"UPDATE guard_limits SET user_id = '{other.user_id}'")
    earlier = await snapshot(writer)
    assert await waiting(writer, earlier, writer, other) == {writer.user_id: True, other.user_id: True}


async def test_an_account_is_behind_while_its_history_is_not_read(writer: DatabaseWriter) -> None:
    await writer.sync()
    await writer.apply()
    before = await snapshot(writer)
    await writer.connection.execute("SELECT guardwire.unready($1)", writer.user_id)
    assert await waiting(writer, before) == {writer.user_id: True}
    await rebuild(writer.connection, writer.user_id)
    assert await waiting(writer, before) == {}


async def test_an_account_with_a_row_set_aside_is_behind_until_it_is_rebuilt(writer: DatabaseWriter) -> None:
    other = writer.of()
    broken = "guardwire.positions ADD CONSTRAINT broken CHECK (symbol <> 'BROKEN')"
    await writer.connection.execute(f"ALTER TABLE {broken}")
    before = await snapshot(writer)
    await writer.sync(symbol="BROKEN")
    await other.sync()
    await writer.apply()
    assert await waiting(writer, before, writer, other) == {writer.user_id: True}
    await writer.connection.execute("ALTER TABLE guardwire.positions DROP CONSTRAINT broken")
    await rebuild(writer.connection, writer.user_id)
    assert await waiting(writer, before, writer, other) == {}


async def test_limits_that_were_set_aside_count_when_the_account_is_rebuilt(writer: DatabaseWriter) -> None:
    await writer.equity(1000)
    await writer.connection.execute(
        "ALTER TABLE guardwire.limits ADD CONSTRAINT broken CHECK (minimum_equity <> 13)"
    )
    await writer.set_limits(minimum_equity=13)
    await writer.apply()
    assert [row["source"] for row in await writer.set_aside()] == [b"g"]
    assert await waiting(writer, await snapshot(writer)) == {writer.user_id: True}
    await writer.connection.execute("ALTER TABLE guardwire.limits DROP CONSTRAINT broken")
    await rebuild(writer.connection, writer.user_id)
    assert (await writer.drawdown())["minimum_equity"] == 13
    assert await waiting(writer, await snapshot(writer)) == {}


async def test_all_are_behind_while_a_row_of_the_reference_is_set_aside(writer: DatabaseWriter) -> None:
    await writer.connection.execute(
        "ALTER TABLE guardwire.contracts ADD CONSTRAINT broken CHECK (contract_size <> 13)"
    )
    await writer.execute("UPDATE public.instruments SET contract_size = 13 WHERE symbol = 'XAUUSD'")
    await writer.apply()
    assert await waiting(writer, await snapshot(writer)) == {None: True}
    await writer.connection.execute("ALTER TABLE guardwire.contracts DROP CONSTRAINT broken")
    await copy_reference(writer.connection)
    assert await waiting(writer, await snapshot(writer)) == {}
    size = await writer.value("SELECT contract_size FROM guardwire.contracts WHERE symbol = 'XAUUSD'")
    assert size == 13


async def test_an_account_is_behind_after_a_row_without_a_column_that_the_rules_read(
    writer: DatabaseWriter,
) -> None:
    """The row is applied as if the column were null, which nobody would see otherwise."""
    quiet = writer.of()
    await writer.sync(take_profit=2000)
    await writer.execute("ALTER TABLE reconciliation_logs RENAME COLUMN take_profit TO goal")
    for second in range(1, 4):
        await writer.sync(second, current_price=1960)
    await writer.apply()
    assert (await writer.book())["1"]["current_price"] == 1960
    assert await waiting(writer, await snapshot(writer), writer, quiet) == {writer.user_id: True}
    (mark,) = await writer.set_aside()
    assert (mark["sqlstate"], mark["reason"]) == (
        "42703",
        "public.reconciliation_logs has no column take_profit",
    )
    await writer.execute("ALTER TABLE reconciliation_logs RENAME COLUMN goal TO take_profit")
    await rebuild(writer.connection, writer.user_id)
    assert await waiting(writer, await snapshot(writer), writer, quiet) == {}


@pytest.mark.parametrize(
    ("table", "column"),
    [("reconciliation_logs", "user_id"), ("equity_snapshots", "user_id"), ("instruments", "contract_size")],
)
async def test_all_are_behind_after_a_row_without_its_account(
    writer: DatabaseWriter, table: str, column: str
) -> None:
    await writer.sync()
    await writer.equity(1000)
    await writer.apply()
    await writer.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO other")
    await writer.execute(
        {
            "reconciliation_logs": "INSERT INTO reconciliation_logs (event_type) VALUES ('sync')",
            "equity_snapshots": "INSERT INTO equity_snapshots (equity) VALUES (1)",
            "instruments": "UPDATE instruments SET pip_size = 1 WHERE symbol = 'XAUUSD'",
        }[table]
    )
    await writer.apply()
    assert await waiting(writer, await snapshot(writer)) == {None: True}
    await writer.execute(f"ALTER TABLE {table} RENAME COLUMN other TO {column}")
    await copy_reference(writer.connection)
    assert await waiting(writer, await snapshot(writer)) == {}


# ---------------------------------------------------------------- many rows


async def fill(writer: DatabaseWriter, rows: int, accounts: int) -> None:
    """Rows of so many accounts, in one transaction."""
    await writer.execute(
        """INSERT INTO reconciliation_logs (user_id, mt5_position_id, event_type, matched)
           SELECT md5((n % $2::integer)::text)::uuid, 1, 'sync', 1 FROM generate_series(1, $1::integer) AS n""",
        rows,
        accounts,
    )


async def pages(connection: Any, users: list[UUID], earlier: str) -> int:
    """Pages that the question touches."""
    explained = await connection.fetchval(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {WAITING}", users, earlier
    )
    plan = json.loads(explained)[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


async def test_the_answer_is_the_same_with_many_rows_waiting(writer: DatabaseWriter) -> None:
    few, quiet = writer.of(), writer.of()
    await fill(writer, 5_000, 100)
    before = await snapshot(writer)
    await few.sync()
    assert await waiting(writer, before, few, quiet) == {few.user_id: False}
    assert await waiting(writer, await snapshot(writer), few, quiet) == {few.user_id: True}
    await writer.rate("EUR", "USD", 1)
    assert await waiting(writer, await snapshot(writer), quiet) == {None: True}
    crowded = writer.of(await writer.value("SELECT md5('7')::uuid"))
    assert await waiting(writer, await snapshot(writer), crowded, quiet) == {
        crowded.user_id: True,
        None: True,
    }


async def test_with_many_rows_waiting_a_long_transaction_waits_from_its_commit_on(
    writer: DatabaseWriter, connect: Connect
) -> None:
    """Its rows arrived early. A row that waited before they became visible makes the account behind."""
    late, other = DatabaseWriter(await connect(), applies=False), writer.of()
    transaction = late.connection.transaction()
    await transaction.start()
    for ticket in range(1, 41):
        await late.sync(ticket=ticket)
        await late.of(other.user_id).sync(ticket=ticket)
    await fill(writer, 2_000, 100)
    await other.sync()
    before = await snapshot(writer)
    await transaction.commit()
    assert await waiting(writer, before, late, other) == {late.user_id: False, other.user_id: True}
    assert await waiting(writer, await snapshot(writer), late) == {late.user_id: True}


async def test_the_question_costs_the_accounts_that_are_watched_and_not_the_rows_that_wait(
    writer: DatabaseWriter,
) -> None:
    """Indexes alone answer it, with any statistics of a table that is empty most of the time."""
    watched = [writer.of() for _ in range(20)]
    users = [each.user_id for each in watched]
    for each in watched:
        await each.sync()
    for rows in (3_000, 30_000):
        await fill(writer, rows, 50)
        await writer.connection.execute("ANALYZE guardwire.inbox")
        assert await pages(writer.connection, users, await snapshot(writer)) < 1_500 + 10 * len(users)
    await writer.connection.execute("SELECT pg_stat_force_next_flush()")
    scans = await writer.value(
        "SELECT seq_scan FROM pg_stat_user_tables WHERE schemaname = 'guardwire' AND relname = 'inbox'"
    )
    assert scans == 0
