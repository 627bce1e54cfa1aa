"""`guardwire migrate --estimate`: its figures come from the database, and it leaves no object behind."""

from __future__ import annotations

import re
import secrets
from typing import Any, Final

from queries.migrations.estimate import EQUITY, LOG, SESSION, Estimate, RowCost, estimate
from queries.migrations.existing import READ_COLUMNS
from queries.migrations.run import migrate
from tests.cli.conftest import Guardwire
from tests.queries import legacy
from tests.queries.database_writer import connected

_OBJECTS: Final = """
SELECT 'relation ' || c.oid::regclass FROM pg_class AS c WHERE c.relnamespace NOT IN (
    SELECT oid FROM pg_namespace WHERE nspname ~ '^pg_' OR nspname = 'information_schema')
UNION ALL SELECT 'function ' || p.oid::regprocedure FROM pg_proc AS p WHERE p.pronamespace = 'public'::regnamespace
UNION ALL SELECT 'trigger ' || t.tgname FROM pg_trigger AS t
UNION ALL SELECT 'schema ' || n.nspname FROM pg_namespace AS n WHERE n.nspname !~ '^pg_(toast_)?temp_'
"""
_MANY_EQUITY_ROWS: Final = """
CREATE TABLE equity_snapshots (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id uuid, equity numeric, balance numeric, currency text,
    cash_flow numeric, created_at timestamptz DEFAULT now()
);
INSERT INTO equity_snapshots (user_id, equity) SELECT md5((n % 30)::text)::uuid, 1 FROM generate_series(1, 3000) AS n;
ANALYZE equity_snapshots;
"""


async def objects(connection: Any) -> set[str]:
    return {row[0] for row in await connection.fetch(_OBJECTS)}


async def estimated(database_url: str) -> Estimate:
    async with connected(database_url, server_settings=SESSION) as connection:
        return await estimate(connection)


async def test_a_log_is_measured_and_nothing_stays(guardwire: Guardwire, database_url: str) -> None:
    async with connected(database_url) as connection:
        await legacy.make(connection, rows_per_user=100)
        before = await objects(connection)
        done = guardwire("migrate", "--estimate", DATABASE_URL=database_url)
        assert done.returncode == 0, done.stderr
        assert await objects(connection) == before
    assert (
        "makes public.equity_snapshots, public.guard_limits, public.instruments, public.fx_rates"
        in done.stdout
    )
    assert re.search(r"reads the history of about \d+ accounts, 2,000 rows, in about a second", done.stdout)
    assert re.search(r"costs \d+ µs for each row of the platform, as measured now", done.stdout)
    assert re.search(r"keeps [\d.]+ [KMG]B of arrivals \(48 hours at [\d,]+ rows a day\)", done.stdout)
    assert "CREATE INDEX" not in done.stdout


async def test_the_rows_and_accounts_are_those_of_the_log(database_url: str) -> None:
    async with connected(database_url) as connection:
        await legacy.make(connection, rows_per_user=100)
        found = await estimated(database_url)
        assert found.tables[LOG][0] == 2000
        # Each user id is spelled in three ways.
        assert found.accounts == 3 * legacy.USERS
        assert found.row_cost is not None
        assert found.row_cost.added_us > 0
        assert 200 < found.row_cost.inbox_bytes < 2000
        await connection.execute("CREATE TABLE never_analysed AS SELECT * FROM reconciliation_logs")
        await connection.execute(
            "DROP TABLE reconciliation_logs; ALTER TABLE never_analysed RENAME TO reconciliation_logs"
        )
    assert (await estimated(database_url)).tables[LOG][0] == 2000


async def test_indexes_that_would_hold_up_writers_are_named_and_can_be_made_before(database_url: str) -> None:
    async with connected(database_url) as connection:
        await legacy.make(connection, rows_per_user=10)
        await connection.execute("DROP INDEX ix_user")
        await connection.execute(_MANY_EQUITY_ROWS)
        sentences = list((await estimated(database_url)).sentences())
        assert (
            f"locks {EQUITY}, {LOG} while triggers are made: writers wait about 0.1 s, readers never"
            in sentences
        )
        assert (
            "locks equity_snapshots while 2 indexes over 3,000 rows are made: writers wait about a second, and"
            in (" ".join(sentences))
        )
        statements = [sentence.strip() for sentence in sentences if sentence.startswith(" ")]
        assert len(statements) == 3
        for statement in statements:
            assert statement.startswith("CREATE INDEX CONCURRENTLY ")
            await connection.execute(statement)
        assert [
            sentence for sentence in (await estimated(database_url)).sentences() if "INDEX" in sentence
        ] == []
        oids = "SELECT array_agg(indexrelid) FROM pg_index WHERE indrelid = 'equity_snapshots'::regclass"
        before = await connection.fetchval(oids)
        await migrate(database_url)
        assert await connection.fetchval(oids) == before, (
            "the migration made an index that was announced as made"
        )


async def test_an_empty_database_costs_nothing_to_read(database_url: str) -> None:
    sentences = list((await estimated(database_url)).sentences())
    assert "reads no history, because the log has no row" in sentences
    assert (
        sentences[0] == f"makes {', '.join(f'public.{name}' for name in READ_COLUMNS)}, which are not there"
    )


async def test_a_login_that_may_make_no_temporary_table_gets_the_figure_of_the_documents(
    database_url: str,
) -> None:
    login = f"reader_{secrets.token_hex(4)}"
    async with connected(database_url) as connection:
        await legacy.make(connection, rows_per_user=10)
        name = await connection.fetchval("SELECT current_database()")
        await connection.execute(f'REVOKE TEMPORARY ON DATABASE "{name}" FROM PUBLIC')
        await connection.execute(f"CREATE ROLE {login} LOGIN PASSWORD 'a'")
        await connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {login}")
        try:
            found = await estimated(re.sub(r"//[^@]*@", f"//{login}:a@", database_url))
        finally:
            await connection.execute(f"DROP OWNED BY {login}; DROP ROLE {login}")
    assert found.row_cost is None
    assert "this was not measured here" in " ".join(found.sentences())


def test_the_history_takes_longer_on_a_slower_machine_and_without_an_index() -> None:
    def seconds(added_us: float, indexed: set[str]) -> float:
        tables = {LOG: (1_000_000, 1_000_000_000)}
        return Estimate(tables, 100, frozenset(indexed), RowCost(added_us, 700), None).history_seconds

    assert seconds(24, {"user_id"}) == 60
    assert seconds(48, {"user_id"}) == 120
    assert seconds(24, set()) == 60 + 200


async def test_a_database_that_has_guardwire_says_so(guardwire: Guardwire, migrated_url: str) -> None:
    done = guardwire("migrate", "--estimate", DATABASE_URL=migrated_url)
    assert (done.returncode, done.stdout) == (
        0,
        "Guardwire is installed in this database: `guardwire migrate` upgrades it in one transaction\n",
    )
