"""The migration: beside whatever is there, on a database that is in use, once or many times."""

from __future__ import annotations

import re

import asyncpg
import pytest

from queries.migrations import run
from queries.migrations.run import migrate
from queries.migrations.script import read_sql
from realtime.errors import MigrationError
from tests.queries.platform import Platform, connected


async def test_rows_of_the_platforms_own_instruments_are_kept(database_url: str) -> None:
    script = read_sql("tables.sql")
    table = script[script.index("CREATE TABLE IF NOT EXISTS public.instruments") :]
    async with connected(database_url) as connection:
        await connection.execute(table[: table.index(";")])
        await connection.execute("INSERT INTO instruments VALUES ('XAUUSD', 10, 0.1, 'EUR')")
        await migrate(database_url)
        rows = await connection.fetch(
            "SELECT contract_size FROM instruments WHERE symbol IN ('XAUUSD', 'EURUSD')"
        )
    assert sorted(row["contract_size"] for row in rows) == [10, 100_000]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("DROP COLUMN close_reason", "column close_reason is missing"),
        (
            "ALTER created_at TYPE date",
            "column created_at is date and not timestamp with time zone or timestamp without time zone",
        ),
        ("ALTER volume TYPE text", "column volume is text and not bigint or double precision or integer"),
        (
            "DROP COLUMN symbol, DROP COLUMN direction",
            "column symbol is missing, column direction is missing",
        ),
        ("DROP CONSTRAINT reconciliation_logs_pkey", "column id has no index"),
    ],
)
async def test_a_table_that_cannot_be_read_is_one_clear_sentence(
    database_url: str, change: str, said: str
) -> None:
    script = read_sql("tables.sql")
    block = script[script.index("DO $$") :]
    async with connected(database_url) as connection:
        await connection.execute(block[: block.index("$$;") + 3])
        await connection.execute(f"ALTER TABLE reconciliation_logs {change}")
        with pytest.raises(MigrationError, match=re.escape(said)) as error:
            await migrate(database_url)
        assert str(error.value).startswith("public.reconciliation_logs cannot be read: ")
        assert await connection.fetchval("SELECT to_regnamespace('guardwire')") is None


async def test_a_view_in_place_of_the_table_is_refused(database_url: str) -> None:
    async with connected(database_url) as connection:
        await connection.execute("CREATE VIEW reconciliation_logs AS SELECT 1 AS id")
        with pytest.raises(MigrationError, match=r"public\.reconciliation_logs is not a table"):
            await migrate(database_url)


async def test_a_log_without_an_index_on_its_user_is_used_and_the_mend_is_told(database_url: str) -> None:
    said: list[str] = []
    script = read_sql("tables.sql")
    block = script[script.index("DO $$") :]
    async with connected(database_url) as connection:
        await connection.execute(block[: block.index("$$;") + 3])
        await connection.execute("DROP INDEX reconciliation_logs_user_id")
        await Platform(connection).sync()
        await migrate(database_url, progress=said.append)
        assert (await Platform(connection).position())["is_open"]
    assert "CREATE INDEX CONCURRENTLY ON public.reconciliation_logs (user_id)" in said[0]


async def test_who_may_not_migrate_is_told(database_url: str) -> None:
    async with connected(database_url) as connection:
        await connection.execute("CREATE ROLE nobody_here LOGIN PASSWORD 'a'")
        try:
            url = re.sub(r"//[^@]*@", "//nobody_here:a@", database_url)
            with pytest.raises(MigrationError, match=r"this login may not migrate: .*permission denied"):
                await migrate(url)
        finally:
            await connection.execute("DROP ROLE nobody_here")


async def test_a_log_that_stays_locked_is_given_up_in_the_end(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(run, "ATTEMPTS", 1)
    async with connected(database_url) as writer:
        await migrate(database_url)
        await writer.execute("DROP SCHEMA guardwire CASCADE")
        async with writer.transaction():
            await Platform(writer).sync()
            with pytest.raises(MigrationError, match="stayed locked by another transaction"):
                await migrate(database_url)


async def test_notify_is_as_the_operator_set_it_last(database_url: str) -> None:
    async with connected(database_url) as connection:
        for notify, expected in ((None, True), (False, False), (None, False), (True, True)):
            await migrate(database_url, notify=notify)
            assert await connection.fetchval("SELECT notify FROM guardwire.configuration") is expected
            assert await connection.fetchval("SELECT guardwire.notifies()") is expected


async def test_the_roles_have_the_rights_that_they_need_and_no_more(
    migrated_url: str, platform: Platform
) -> None:
    await migrate(migrated_url, roles=True)
    await platform.connection.execute("SET ROLE guardwire_platform")
    row_id = await platform.sync()
    await platform.update(row_id, matched=2)
    await platform.equity(1000)
    await platform.limit(minimum_equity=1)
    await platform.insert("fx_rates", base="EUR", quote="USD", rate=1)
    for refused in ("SELECT * FROM guardwire.accounts", "SELECT guardwire.housekeep()"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await platform.connection.execute(refused)
    await platform.connection.execute("SET ROLE guardwire_server")
    assert (await platform.position())["matched"] == 2
    for allowed in (
        "SELECT * FROM guardwire.housekeep()",
        "SELECT guardwire.apply_notes(10)",
        "SELECT guardwire.list_accounts()",
        "SELECT guardwire.backfill_next()",
        "SELECT * FROM reconciliation_logs WHERE guardwire.read_user(user_id) IS NULL",
        "UPDATE guardwire.epoch SET epoch = epoch + 1",
        "INSERT INTO guardwire.revocations (token_id, expires_at) VALUES ('a', 'infinity')",
    ):
        await platform.connection.execute(allowed)
    for refused in (
        "INSERT INTO reconciliation_logs DEFAULT VALUES",
        "UPDATE guardwire.positions SET volume = 1",
        "UPDATE guardwire.accounts SET equity = 1",
        "SELECT guardwire.apply_tokens('{}')",
        "INSERT INTO equity_snapshots DEFAULT VALUES",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await platform.connection.execute(refused)
    await platform.connection.execute("RESET ROLE")
