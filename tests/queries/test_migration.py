"""Migration beside a platform that has its tables already, and goes on writing to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from queries.capture import backfill, housekeep, rebuild
from queries.channels import LIVE_QUERIES
from queries.migrations import run
from queries.migrations.run import migrate
from realtime.errors import MigrationError
from realtime.patch import State
from tests.queries.ledger import Ledger

#: An older platform's log: tickets of 32 bits, times without zone, users as text, directions as numbers.
LEGACY = """
    CREATE TABLE reconciliation_logs (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id varchar(64), signal_id uuid, approval_id uuid,
        mt5_position_id integer, symbol varchar(20), direction integer, volume double precision,
        entry_price double precision, current_price double precision, take_profit double precision,
        stop_loss double precision, matched smallint, divergence_reason text, slippage_pips double precision,
        close_reason varchar(50), closed_price double precision, pnl_gbp double precision,
        pnl_percent double precision, event_type varchar(50), status varchar(20), error_message text,
        created_at timestamp, updated_at timestamp
    );
    CREATE INDEX ON reconciliation_logs (user_id, created_at);
"""
USERS = [UUID(int=number + 1) for number in range(40)]
ROWS = 40_000

#: A thousand syncs of five tickets for each user; ticket 3 is closed at the time of its last sync.
HISTORY = """
    INSERT INTO reconciliation_logs (user_id, mt5_position_id, symbol, direction, volume, entry_price,
                                     current_price, matched, event_type, close_reason, created_at)
    SELECT CASE WHEN n % 2 = 0 THEN upper(u::text) ELSE replace(u::text, '-', '') END, n % 5, 'XAUUSD',
           n % 5 % 2, 0.1, 1950.5, 1900 + n / 10.0, 1, CASE WHEN n = 998 THEN 'close' ELSE 'sync' END, NULL,
           now()::timestamp - interval '2 hours'
               + (CASE WHEN n = 998 THEN 993 ELSE n END) * interval '1 second'
    FROM unnest($1::uuid[]) AS u, generate_series(0, 999) AS n
"""


@pytest.fixture
async def legacy(database_url: str) -> AsyncIterator[Any]:
    """A connection to a database with an older platform's log and its history."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("SET timezone = 'Asia/Tokyo'")
    await connection.execute(LEGACY)
    await connection.execute("SET timezone = 'UTC'")
    await connection.execute(HISTORY, USERS)
    yield connection
    await connection.close()


async def states(connection: Any, users: list[UUID]) -> dict[UUID, State]:
    return {each.user_id: each.state for each in await LIVE_QUERIES.evaluate(connection, users)}


async def test_an_older_platforms_history_is_read_while_it_goes_on_writing(
    legacy: Any, database_url: str
) -> None:
    writer = await asyncpg.connect(database_url)
    written: list[str] = []
    enough = asyncio.Event()

    async def write() -> None:
        while not enough.is_set():
            user = USERS[len(written) % len(USERS)]
            await writer.execute(
                """INSERT INTO reconciliation_logs (user_id, mt5_position_id, matched, event_type, created_at)
                   VALUES ($1, $2, 1, 'sync', now() AT TIME ZONE 'UTC')""",
                str(user),
                1000 + len(written),
            )
            written.append(str(user))

    writing = asyncio.create_task(write())
    await migrate(database_url)
    # Not cancelled: a commit that is cut short leaves a note, which is what it should.
    enough.set()
    await writing
    await writer.close()

    assert written
    assert await legacy.fetchval("SELECT count(*) FROM guardwire.capture_notes") == 0
    assert await legacy.fetchval("SELECT done FROM guardwire.backfill") is True
    rows = await legacy.fetch(
        "SELECT user_id, max(mt5_position_id) AS newest FROM reconciliation_logs GROUP BY user_id"
    )
    newest = {UUID(row["user_id"]): row["newest"] for row in rows if row["newest"] >= 1000}
    for user, state in (await states(legacy, USERS)).items():
        book = state["positions"]["open"]
        # Of one time, a close wins; ticket 0 is none.
        assert {"1", "2", "4"} <= set(book)
        assert "3" not in book
        assert "0" not in book
        assert book["1"]["direction"] == "sell"
        assert book["4"]["current_price"] == 1999.9
        expected = 3 + written.count(str(user))
        assert len(book) == expected
        assert user not in newest or str(newest[user]) in book


async def test_an_account_is_unknown_until_its_history_is_read(legacy: Any, database_url: str) -> None:
    await migrate(database_url, read_history=False)
    assert {state["status"]["status"] for state in (await states(legacy, USERS)).values()} == {"unknown"}
    await migrate(database_url)
    assert {state["status"]["status"] for state in (await states(legacy, USERS)).values()} == {"healthy"}


async def test_reading_history_may_be_interrupted_and_taken_up_again(legacy: Any, database_url: str) -> None:
    class Interrupted(Exception):
        pass

    read = 0

    def interrupt(_message: str) -> None:
        nonlocal read
        read += 1
        if read == 5:
            raise Interrupted

    await migrate(database_url, read_history=False)
    with pytest.raises(Interrupted):
        await backfill(legacy, progress=interrupt)
    waiting = await legacy.fetchval("SELECT count(*) FROM guardwire.accounts WHERE NOT ready")
    assert 0 < waiting < len(USERS)
    await migrate(database_url)
    assert await legacy.fetchval("SELECT count(*) FROM guardwire.accounts WHERE NOT ready") == 0
    found = await states(legacy, USERS)
    assert {state["positions"]["total_positions"] for state in found.values()} == {3}


async def test_pruning_the_log_changes_nothing_that_is_shown(legacy: Any, database_url: str) -> None:
    await migrate(database_url)
    before = await states(legacy, USERS)
    await legacy.execute("DELETE FROM reconciliation_logs WHERE created_at < now() - interval '1 hour'")
    assert await states(legacy, USERS) == before


async def test_a_rebuilt_account_is_as_it_was_and_syncs_never_become_fewer(
    legacy: Any, database_url: str
) -> None:
    await migrate(database_url)
    platform = Ledger(legacy)
    await platform.equity(USERS[0], 10_000)
    await platform.equity(USERS[0], 7_000, 1)
    before = await states(legacy, USERS[:1])
    await rebuild(legacy, USERS[0])
    assert await states(legacy, USERS[:1]) == before
    await legacy.execute(
        "DELETE FROM reconciliation_logs WHERE id IN (SELECT id FROM reconciliation_logs LIMIT 9000)"
    )
    await rebuild(legacy, USERS[0])
    after = (await states(legacy, USERS[:1]))[USERS[0]]["status"]["total_syncs"]
    assert after == before[USERS[0]]["status"]["total_syncs"]


async def test_migrating_again_changes_nothing(migrated_url: str) -> None:
    connection = await asyncpg.connect(migrated_url)
    platform, user = Ledger(connection), uuid4()
    await platform.log(user)
    before = await connection.fetch("SELECT * FROM guardwire.accounts, guardwire.epoch, guardwire.backfill")
    said: list[str] = []
    await migrate(migrated_url, progress=said.append)
    assert (
        await connection.fetch("SELECT * FROM guardwire.accounts, guardwire.epoch, guardwire.backfill")
        == before
    )
    assert said == []
    await connection.close()


async def test_migrations_at_the_same_time_do_not_hinder_each_other(database_url: str) -> None:
    await asyncio.gather(*(migrate(database_url) for _ in range(3)))
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("SELECT done FROM guardwire.backfill") is True
    await connection.close()


async def test_a_transaction_that_holds_the_log_is_waited_for_and_named(
    legacy: Any, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "PAUSE_SECONDS", 0.05)
    said: list[str] = []
    transaction = legacy.transaction()
    await transaction.start()
    await legacy.execute("UPDATE reconciliation_logs SET status = 'success' WHERE mt5_position_id = 1")
    migrating = asyncio.create_task(migrate(database_url, progress=said.append))
    while not said:
        assert not migrating.done()
        await asyncio.sleep(0.01)
    other = await asyncpg.connect(database_url)
    # Who waits for a lock stops nobody for longer than its patience.
    await asyncio.wait_for(other.execute("INSERT INTO reconciliation_logs (user_id) VALUES (NULL)"), 5)
    await other.close()
    await transaction.commit()
    await migrating
    assert str(legacy.get_server_pid()) in said[0]
    assert "reconciliation_logs" in said[0]
    assert "\n" not in said[0]


@pytest.mark.parametrize(
    ("alteration", "named"),
    [
        (
            "ALTER TABLE reconciliation_logs DROP COLUMN user_id, DROP COLUMN event_type",
            ["user_id", "event_type"],
        ),
        ("ALTER TABLE reconciliation_logs DROP COLUMN created_at", ["created_at"]),
        (
            "ALTER TABLE reconciliation_logs ALTER volume TYPE text, ALTER created_at TYPE text",
            ["volume", "created_at"],
        ),
        ("ALTER TABLE reconciliation_logs DROP COLUMN id, ADD COLUMN id bigserial PRIMARY KEY", ["id"]),
        (
            "ALTER TABLE reconciliation_logs RENAME TO logs; CREATE VIEW reconciliation_logs AS TABLE logs",
            ["not a table"],
        ),
        ("CREATE TABLE equity_snapshots (id uuid PRIMARY KEY)", ["equity_snapshots", "cash_flow"]),
    ],
)
async def test_a_table_that_cannot_be_used_is_refused_in_one_sentence_before_anything_is_made(
    database_url: str, alteration: str, named: list[str]
) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute(LEGACY)
    await connection.execute(alteration)
    with pytest.raises(MigrationError) as refusal:
        await migrate(database_url)
    message = str(refusal.value)
    assert all(name in message for name in named), message
    assert "\n" not in message
    assert await connection.fetchval("SELECT to_regnamespace('guardwire')") is None
    assert await connection.fetchval("SELECT to_regclass('public.guard_limits')") is None
    await connection.close()


async def test_the_platform_may_alter_its_columns_after_the_migration(migrated_url: str) -> None:
    connection = await asyncpg.connect(migrated_url)
    platform, user = Ledger(connection), uuid4()
    await platform.log(user)
    await connection.execute("""
        ALTER TABLE reconciliation_logs ALTER COLUMN mt5_position_id TYPE numeric,
            ALTER COLUMN created_at TYPE timestamp USING created_at AT TIME ZONE 'UTC',
            ALTER COLUMN current_price TYPE double precision, ALTER COLUMN user_id TYPE varchar(40)""")
    await platform.log(user, 1, mt5_position_id=2, created_at=platform.at(1).replace(tzinfo=None))
    await housekeep(connection)
    assert set(await platform.book(user)) == {"1", "2"}
    assert await platform.notes() == []
    await connection.close()
