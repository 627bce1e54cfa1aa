"""Comments on the platform's columns: added where there are none, and by a table's owner alone."""

from __future__ import annotations

import secrets
from typing import Any, Final

from queries.migrations.run import migrate
from queries.migrations.script import read_sql
from tests.queries import legacy
from tests.queries.database_writer import connected

_COMMENT: Final = """
SELECT col_description(a.attrelid, a.attnum) FROM pg_attribute AS a
WHERE a.attrelid = 'public.reconciliation_logs'::regclass AND a.attname = $1
"""
_TABLE_COMMENT: Final = "SELECT obj_description('public.reconciliation_logs'::regclass, 'pg_class')"


async def test_comments_of_the_platform_are_kept_and_only_columns_that_it_has_get_one(
    database_url: str,
) -> None:
    async with connected(database_url) as connection:
        await connection.execute(legacy.TABLE)
        await connection.execute("COMMENT ON COLUMN reconciliation_logs.volume IS 'ours'")
        await connection.execute("COMMENT ON TABLE reconciliation_logs IS 'our log'")
        await connection.execute(
            "ALTER TABLE reconciliation_logs DROP COLUMN signal_id, ADD COLUMN note text"
        )
        await migrate(database_url)
        assert await connection.fetchval(_COMMENT, "volume") == "ours"
        assert await connection.fetchval(_TABLE_COMMENT) == "our log"
        assert await connection.fetchval(_COMMENT, "note") is None
        assert "0 not decided" in await connection.fetchval(_COMMENT, "matched")


async def test_a_table_of_another_owner_gets_no_comment_and_a_sentence_names_it(migrated_url: str) -> None:
    said: list[Any] = []
    owner = f"owner_{secrets.token_hex(4)}"
    async with connected(migrated_url) as connection:
        connection.add_log_listener(lambda _, message: said.append(message))
        await connection.execute("COMMENT ON COLUMN reconciliation_logs.volume IS NULL")
        await connection.execute("COMMENT ON TABLE reconciliation_logs IS NULL")
        await connection.execute(f"CREATE ROLE {owner}")
        await connection.execute(f"SET ROLE {owner}")
        await connection.execute(read_sql("tables", "0006_comments.sql"))
        await connection.execute("RESET ROLE")
        await connection.execute(f"DROP ROLE {owner}")
        assert await connection.fetchval(_COMMENT, "volume") is None
        assert await connection.fetchval(_TABLE_COMMENT) is None
    assert [(each.severity_en, each.message) for each in said] == [
        ("WARNING", "reconciliation_logs.volume gets no comment: this login does not own the table")
    ]


async def test_a_warning_of_the_server_is_reported_while_it_is_migrated(database_url: str) -> None:
    said: list[str] = []
    async with connected(database_url) as connection:
        await connection.execute("""
            CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE NOTICE 'not this'; RAISE WARNING 'somebody makes a schema'; END $$;
            CREATE EVENT TRIGGER watch ON ddl_command_end WHEN TAG IN ('CREATE SCHEMA') EXECUTE FUNCTION watch();
        """)
        try:
            await migrate(database_url, progress=said.append)
        finally:
            await connection.execute("DROP EVENT TRIGGER watch")
    assert set(said) == {"somebody makes a schema"}
