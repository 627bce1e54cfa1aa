"""Circumstances in which account state would silently be wrong: migrate refuses them, and so does a node."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from queries.migrations.run import migrate
from realtime.audit.capture import check_triggers
from realtime.errors import MigrationError
from tests.queries.conftest import Connect


@pytest.fixture
async def connection(connect: Connect) -> Any:
    return await connect()


CHECK = "SELECT sentence FROM guardwire.check_surroundings() AS sentence"


async def sentences(connection: Any) -> list[str]:
    return [row["sentence"] for row in await connection.fetch(CHECK)]


@pytest.mark.parametrize(
    "publication",
    ["FOR ALL TABLES", "FOR TABLE guardwire.accounts, public.fx_rates", "FOR TABLE guardwire.inbox"],
)
async def test_a_publication_of_schema_guardwire_is_refused(
    connection: asyncpg.Connection[Any], migrated_url: str, publication: str
) -> None:
    assert await sentences(connection) == []
    await connection.execute(f"CREATE PUBLICATION everything {publication}")
    (sentence,) = await sentences(connection)
    assert "publication everything contains schema guardwire" in sentence
    with pytest.raises(MigrationError, match="publication everything"):
        await migrate(migrated_url)
    await connection.execute("DROP PUBLICATION everything")
    await migrate(migrated_url)


@pytest.mark.parametrize("change", ["RENAME COLUMN currency TO money", "DROP COLUMN currency"])
async def test_a_column_that_is_gone_is_named_and_migrate_refuses(
    connection: asyncpg.Connection[Any], migrated_url: str, change: str
) -> None:
    await connection.execute(f"ALTER TABLE equity_snapshots {change}")
    (sentence,) = await sentences(connection)
    assert "public.equity_snapshots has no column currency" in sentence
    with pytest.raises(MigrationError, match="no column currency"):
        await migrate(migrated_url)
    await connection.execute("ALTER TABLE equity_snapshots ADD COLUMN currency text")
    await migrate(migrated_url)


async def test_a_login_from_which_rows_are_hidden_is_refused(
    connection: asyncpg.Connection[Any], migrated_url: str
) -> None:
    role = f"reader_{uuid4().hex}"
    await migrate(migrated_url, roles=True)
    await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'a' IN ROLE guardwire_server")
    reader = await asyncpg.connect(f"postgresql://{role}:a@{migrated_url.rpartition('@')[2]}")
    try:
        assert await sentences(reader) == []
        await connection.execute("ALTER TABLE reconciliation_logs ENABLE ROW LEVEL SECURITY")
        (sentence,) = await sentences(reader)
        assert "row level security hides rows of public.reconciliation_logs" in sentence
        assert await sentences(connection) == [], "a superuser sees every row"
        await connection.execute(f"ALTER ROLE {role} BYPASSRLS")
        assert await sentences(reader) == []
    finally:
        await reader.close()
        await connection.execute(f"DROP ROLE {role}")


async def test_a_partitioned_log_needs_its_deletes_copied_too(
    connection: asyncpg.Connection[Any], migrated_url: str
) -> None:
    await connection.execute(
        """ALTER TABLE public.reconciliation_logs RENAME TO old_logs;
           CREATE TABLE public.reconciliation_logs (LIKE public.old_logs) PARTITION BY RANGE (created_at);
           CREATE TABLE public.all_logs PARTITION OF public.reconciliation_logs DEFAULT"""
    )
    missing = {str(complaint).split(" ")[1] for complaint in await check_triggers(connection)}
    assert missing == {"guardwire_copy", "guardwire_move"}
    await migrate(migrated_url)
    assert await check_triggers(connection) == []
