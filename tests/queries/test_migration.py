"""Migration beside a platform that has its tables already, on a database that is in use, once or many times."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID

import pytest

from guardwire.patch import State
from queries.channels import LIVE_QUERIES
from queries.migrations import code, run
from queries.migrations.code import triggers
from queries.migrations.revisions import REVISIONS
from queries.migrations.run import migrate
from queries.migrations.script import list_sql, read_sql
from realtime.audit.capture import TRIGGERS
from realtime.errors import MigrationError
from tests.databases import Databases
from tests.inbox import apply_inbox
from tests.queries.database_writer import DatabaseWriter, connected

#: An older platform's log: tickets of 32 bits, times without zone, users as text, directions as numbers.
OLDER_LOG = """
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

_OF_THE_STATEMENTS: Final = """
SELECT p.oid, p.proname::text AS name FROM pg_proc AS p
WHERE p.pronamespace = 'guardwire'::regnamespace AND p.proname = ANY ($1::text[]) ORDER BY p.oid
"""


@pytest.fixture
async def older(database_url: str) -> AsyncIterator[Any]:
    """A connection to a database with an older platform's log and its history."""
    async with connected(database_url) as connection:
        await connection.execute("SET timezone = 'Asia/Tokyo'")
        await connection.execute(OLDER_LOG)
        await connection.execute("SET timezone = 'UTC'")
        await connection.execute(HISTORY, USERS)
        yield connection


@pytest.fixture
def platforms_tables() -> str:
    """Statements that make the tables of a platform alone."""
    script = read_sql("tables", "0001a_tables.sql")
    return script[script.index("DO $$") : script.index("CREATE TABLE guardwire.")]


async def states(connection: Any, users: list[UUID]) -> dict[UUID, State]:
    return {each.user_id: each.state for each in await LIVE_QUERIES.evaluate(connection, users)}


# ---------------------------------------------------------------- beside a platform that writes


async def test_an_older_platforms_history_is_read_while_it_goes_on_writing(
    older: Any, database_url: str
) -> None:
    written: list[str] = []
    enough = asyncio.Event()

    async def write() -> None:
        async with connected(database_url) as writer:
            while not enough.is_set():
                user = USERS[len(written) % len(USERS)]
                await writer.execute(
                    """INSERT INTO reconciliation_logs (user_id, mt5_position_id, matched, event_type, created_at)
                       VALUES ($1, $2, 1, 'sync', now() AT TIME ZONE 'UTC')""",
                    str(user),
                    1000 + len(written),
                )
                written.append(str(user))

    writing = asyncio.create_task(write(), name="writing")
    await migrate(database_url)
    enough.set()
    await writing
    await apply_inbox(older)

    assert written
    assert await older.fetchval("SELECT count(*) FROM guardwire.set_aside") == 0
    assert await older.fetchval("SELECT done FROM guardwire.backfill") is True
    for user, state in (await states(older, USERS)).items():
        book = state["positions"]["open"]
        # A close wins over a sync of the same time, and 0 is no ticket.
        assert {"1", "2", "4"} <= set(book)
        assert not {"0", "3"} & set(book)
        assert book["1"]["direction"] == "sell"
        assert book["4"]["current_price"] == 1999.9
        assert len(book) == 3 + written.count(str(user))
        # Those without a ticket are syncs too.
        assert state["status"]["total_syncs"] == 999 + written.count(str(user))


async def test_users_as_text_may_have_an_equity_of_nothing(older: Any, database_url: str) -> None:
    """Whether an equity of 0 can be true hangs on the syncs of the account, which are found by its user."""
    await older.execute(
        "CREATE TABLE equity_snapshots (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id uuid, equity numeric,"
        " balance numeric, currency text, cash_flow numeric, created_at timestamptz DEFAULT now())"
    )
    user, nobody_synced = USERS[0], UUID(int=99)
    for each in (user, nobody_synced):
        await older.execute(
            "INSERT INTO equity_snapshots (user_id, equity, balance, currency, created_at)"
            " SELECT $1::uuid, e, 10000, 'USD', now() - interval '2 hours' + at * interval '1 second'"
            " FROM (VALUES (10000, 900), (0, 990)) AS v (e, at)",
            each,
        )
    await migrate(database_url)
    doubts = {
        each: state["guards"]["drawdown"]
        for each, state in (await states(older, [user, nobody_synced])).items()
    }
    assert doubts[user].get("doubted_equity") == 0
    await older.execute("UPDATE equity_snapshots SET equity = 9000 WHERE equity = 0 AND user_id = $1", user)
    await apply_inbox(older)
    assert await older.fetchval("SELECT count(*) FROM guardwire.set_aside") == 0
    assert (await states(older, [user]))[user]["guards"]["drawdown"]["current_equity"] == 9000


async def test_deleting_history_changes_nothing_that_is_shown(older: Any, database_url: str) -> None:
    await migrate(database_url)
    before = await states(older, USERS)
    await older.execute("DELETE FROM reconciliation_logs WHERE created_at < now() - interval '1 hour'")
    assert await states(older, USERS) == before


async def test_a_transaction_that_holds_the_log_is_waited_for_and_named(
    older: Any, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "PAUSE_SECONDS", 0.05)
    said: list[str] = []
    transaction = older.transaction()
    await transaction.start()
    await older.execute("UPDATE reconciliation_logs SET status = 'success' WHERE mt5_position_id = 1")
    migrating = asyncio.create_task(migrate(database_url, progress=said.append), name="migrating")
    while not said:
        assert not migrating.done()
        await asyncio.sleep(0.01)
    async with connected(database_url) as other, asyncio.timeout(10):
        # A migration that waits for a lock stops nobody for longer than its patience.
        await other.execute("INSERT INTO reconciliation_logs (user_id) VALUES (NULL)")
    await transaction.commit()
    await migrating
    assert str(older.get_server_pid()) in said[0]
    assert "reconciliation_logs" in said[0]
    assert "\n" not in said[0]


async def test_a_log_that_stays_locked_is_given_up_in_the_end(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(run, "ATTEMPTS", 1)
    async with connected(database_url) as connection:
        await migrate(database_url)
        await connection.execute("DROP SCHEMA guardwire CASCADE")
        async with connection.transaction():
            await DatabaseWriter(connection, applies=False).sync()
            with pytest.raises(MigrationError, match="stayed locked by another transaction"):
                await migrate(database_url)


async def test_the_platform_may_alter_its_columns_after_the_migration(migrated_url: str) -> None:
    async with connected(migrated_url) as connection:
        writer = DatabaseWriter(connection)
        await writer.sync()
        await connection.execute("""
            ALTER TABLE reconciliation_logs ALTER COLUMN mt5_position_id TYPE numeric,
                ALTER COLUMN created_at TYPE timestamp USING created_at AT TIME ZONE 'UTC',
                ALTER COLUMN current_price TYPE double precision, ALTER COLUMN user_id TYPE varchar(40)""")
        await writer.sync(ticket=2, created_at=writer.at(1).replace(tzinfo=None))
        assert set(await writer.book()) == {"1", "2"}
        assert (await writer.position(2))["state_at"] == writer.at(1)
        assert await writer.set_aside() == []


# ---------------------------------------------------------------- tables that are there already


async def test_rows_of_the_platforms_own_instruments_and_limits_are_kept_and_copied(
    database_url: str, platforms_tables: str
) -> None:
    async with connected(database_url) as connection:
        writer = DatabaseWriter(connection, applies=False)
        await connection.execute(platforms_tables)
        await connection.execute("INSERT INTO public.instruments VALUES ('XAUUSD', 10, 0.1, 'EUR')")
        await writer.set_limits(minimum_equity=7)
        await writer.rate("EUR", "USD", "1.5")
        await writer.sync()
        await migrate(database_url)
        sizes = await connection.fetch(
            "SELECT symbol, contract_size FROM public.instruments WHERE symbol IN ('XAUUSD', 'EURUSD')"
        )
        assert dict(sizes) == {"XAUUSD": 10, "EURUSD": 100_000}
        assert (await writer.position())["contract_size"] == 10
        assert (await writer.drawdown())["minimum_equity"] == 7
        assert await writer.value("SELECT rate FROM guardwire.fx_current") == 1.5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "ALTER TABLE reconciliation_logs DROP COLUMN user_id, DROP COLUMN event_type",
            "public.reconciliation_logs cannot be read: column user_id is missing, column event_type is missing",
        ),
        (
            "ALTER TABLE reconciliation_logs ALTER created_at TYPE date",
            "column created_at is date and not timestamp with time zone or timestamp without time zone",
        ),
        (
            "ALTER TABLE reconciliation_logs ALTER volume TYPE text",
            "column volume is text and not bigint or double precision or integer",
        ),
        (
            "ALTER TABLE reconciliation_logs DROP CONSTRAINT reconciliation_logs_pkey",
            "column id has no index",
        ),
        (
            "ALTER TABLE reconciliation_logs DROP COLUMN id, ADD COLUMN id bigserial PRIMARY KEY",
            "column id is bigint and not uuid",
        ),
        (
            "ALTER TABLE reconciliation_logs RENAME TO logs; CREATE VIEW reconciliation_logs AS TABLE logs",
            "public.reconciliation_logs is not a table",
        ),
        (
            "CREATE TABLE equity_snapshots (id uuid PRIMARY KEY)",
            "public.equity_snapshots cannot be read: column user_id is missing",
        ),
    ],
)
async def test_a_table_that_cannot_be_used_is_refused_in_one_sentence_before_anything_is_made(
    database_url: str, change: str, said: str
) -> None:
    async with connected(database_url) as connection:
        await connection.execute(OLDER_LOG)
        await connection.execute(change)
        with pytest.raises(MigrationError, match=re.escape(said)) as refusal:
            await migrate(database_url)
        assert "\n" not in str(refusal.value)
        assert await connection.fetchval("SELECT to_regnamespace('guardwire')") is None
        assert await connection.fetchval("SELECT to_regclass('public.guard_limits')") is None


async def test_a_log_without_an_index_on_its_user_is_used_and_the_mend_is_named(
    database_url: str, platforms_tables: str
) -> None:
    said: list[str] = []
    async with connected(database_url) as connection:
        writer = DatabaseWriter(connection, applies=False)
        await connection.execute(platforms_tables)
        await connection.execute("DROP INDEX reconciliation_logs_user_id")
        await writer.sync()
        await migrate(database_url, progress=said.append)
        assert (await writer.position())["is_open"]
    assert "CREATE INDEX CONCURRENTLY ON public.reconciliation_logs (user_id)" in said[0]


async def test_a_login_that_may_not_migrate_is_refused_in_one_sentence(database_url: str) -> None:
    async with connected(database_url) as connection:
        await connection.execute("CREATE ROLE nobody_here LOGIN PASSWORD 'a'")
        try:
            url = re.sub(r"//[^@]*@", "//nobody_here:a@", database_url)
            with pytest.raises(MigrationError, match=r"this login may not migrate: .*permission denied"):
                await migrate(url)
        finally:
            await connection.execute("DROP ROLE nobody_here")


# ---------------------------------------------------------------- again


#: Reads everything that a migration may change.
EVERYTHING = """
SELECT (SELECT jsonb_agg(to_jsonb(a)) FROM guardwire.accounts AS a), (SELECT to_jsonb(e) FROM guardwire.epoch AS e),
       (SELECT to_jsonb(b) FROM guardwire.backfill AS b), (SELECT to_jsonb(c) FROM guardwire.code AS c),
       (SELECT jsonb_agg(concat(p.oid, p.prosrc) ORDER BY p.oid) FROM pg_proc AS p
        WHERE p.pronamespace = 'guardwire'::regnamespace),
       (SELECT jsonb_agg(concat(t.oid, t.tgname, t.tgenabled) ORDER BY t.oid) FROM pg_trigger AS t)
"""


def test_each_number_of_the_sql_files_is_a_revision_and_none_is_left_out() -> None:
    assert [int(revision) for revision in REVISIONS] == list(range(1, len(REVISIONS) + 1))
    for name in (*list_sql("tables"), *list_sql("after_code")):
        assert re.fullmatch(r"\d{4}[a-z]?_[a-z_]+\.sql", name)
        assert name[:4] in REVISIONS


async def test_a_database_of_a_newer_release_is_refused_and_left_as_it_is(migrated_url: str) -> None:
    async with connected(migrated_url) as connection:
        await connection.execute("UPDATE guardwire.migrations SET version_num = '9998'")
        with pytest.raises(MigrationError, match="of a newer release: its revision is 9998"):
            await migrate(migrated_url)
        assert await connection.fetchval("SELECT version_num FROM guardwire.migrations") == "9998"


async def test_migrating_again_changes_nothing(migrated_url: str) -> None:
    async with connected(migrated_url) as connection:
        await DatabaseWriter(connection).sync()
        before = await connection.fetchrow(EVERYTHING)
        said: list[str] = []
        await migrate(migrated_url, progress=said.append)
        assert await connection.fetchrow(EVERYTHING) == before
        assert said == []


async def test_migrations_at_the_same_time_do_not_hinder_each_other(database_url: str) -> None:
    await asyncio.gather(*(migrate(database_url) for _ in range(3)))
    async with connected(database_url) as connection:
        assert await connection.fetchval("SELECT done FROM guardwire.backfill") is True


@pytest.mark.parametrize("change", ["DROP TRIGGER {0} ON {1}", "ALTER TABLE {1} DISABLE TRIGGER {0}",
                                    "ALTER TABLE {1} ENABLE TRIGGER {0}"])  # fmt: skip
async def test_a_trigger_that_is_missing_or_does_not_always_fire_is_mended_and_named(
    migrated_url: str, change: str
) -> None:
    async with connected(migrated_url) as connection:
        wanted = triggers()
        for table, name in wanted:
            await connection.execute(change.format(name, table))
        said: list[str] = []
        await migrate(migrated_url, progress=said.append)
        assert len(said) == len(wanted)
        for (table, name), sentence in zip(wanted, said, strict=True):
            assert f"trigger {name} on {table} was" in sentence
        await connection.execute("SET session_replication_role = replica")
        writer = DatabaseWriter(connection)
        await writer.sync()
        assert set(await writer.book()) == {"1"}


def test_the_self_test_looks_for_the_triggers_that_the_migration_makes() -> None:
    expected = {(table, name) for table, names in TRIGGERS.items() for name in names}
    assert expected == {each for each in triggers() if each[0].startswith("public.")}


async def test_functions_of_another_release_are_replaced_under_writers_that_are_connected(
    migrated_url: str,
) -> None:
    """Also where an argument or a result has changed, and what a release no longer has is gone."""
    async with connected(migrated_url) as connection, connected(migrated_url) as other:
        writer = DatabaseWriter(connection, applies=False)
        await writer.sync()
        await writer.apply()
        await other.execute("""
            UPDATE guardwire.code SET digest = 'another release';
            DROP FUNCTION guardwire.take_rows(integer);
            CREATE FUNCTION guardwire.take_rows(a text, b text, c text) RETURNS text LANGUAGE sql AS 'SELECT a';
            CREATE FUNCTION guardwire.gone(integer) RETURNS integer LANGUAGE sql AS 'SELECT 1'""")
        await migrate(migrated_url)
        await writer.sync(1)
        await writer.apply()
        assert (await writer.account())["total_syncs"] == 2
        names = await other.fetch(
            "SELECT proname FROM pg_proc WHERE pronamespace = 'guardwire'::regnamespace"
        )
        assert ("gone",) not in [tuple(name) for name in names]
        assert await other.fetchval("SELECT digest FROM guardwire.code") == code.digest()


async def test_every_function_of_the_platforms_statements_is_replaced_in_place(migrated_url: str) -> None:
    """These are the functions that guardwire_inbox, the owner of the triggers' functions, may call."""
    granted = re.findall(
        r"guardwire\.(\w+)\(", read_sql("code", "97_inbox.sql").partition("GRANT EXECUTE")[2]
    )
    assert set(granted) == set(code.IN_PLATFORM_STATEMENTS)
    async with connected(migrated_url) as connection:
        before = await connection.fetch(_OF_THE_STATEMENTS, granted)
        assert {row["name"] for row in before} == set(granted)
        await connection.execute("UPDATE guardwire.code SET digest = ''")
        await migrate(migrated_url)
        assert await connection.fetch(_OF_THE_STATEMENTS, granted) == before


async def test_writers_never_fail_while_functions_are_replaced(migrated_url: str) -> None:
    async with connected(migrated_url) as connection:
        writers = [DatabaseWriter(connection, applies=False) for _ in range(3)]
        over = asyncio.Event()
        written = 0

        async def write(writer: DatabaseWriter) -> None:
            nonlocal written
            async with connected(migrated_url) as own:
                writer.connection = own
                while not over.is_set():
                    await writer.sync()
                    written += 1

        async with asyncio.TaskGroup() as group:
            for each in writers:
                group.create_task(write(each), name="writer")
            for _ in range(3):
                await connection.execute("UPDATE guardwire.code SET digest = ''")
                await migrate(migrated_url)
            over.set()
        assert await apply_inbox(connection) == written
        assert await connection.fetchval("SELECT count(*) FROM guardwire.set_aside") == 0


async def test_notify_is_as_the_operator_set_it_last(database_url: str) -> None:
    async with connected(database_url) as connection:
        for notify, expected in ((None, True), (False, False), (None, False), (True, True)):
            await migrate(database_url, notify=notify)
            assert await connection.fetchval("SELECT notify FROM guardwire.configuration") is expected
            assert await connection.fetchval("SELECT guardwire.wakes_applier()") is expected
        await migrate(database_url, notify=False)
        await connection.execute("UPDATE guardwire.code SET digest = ''")
        await migrate(database_url)
        assert await connection.fetchval("SELECT guardwire.wakes_applier()") is False


# ---------------------------------------------------------------- from a release before
#
# A dump of each released version is migrated here, with writers running, and compared with a new database.


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_another_encoding_is_refused_with_the_mend(databases: Databases, encoding: str) -> None:
    """Also where 0.1.0 was installed: it took SQL_ASCII, in which a text may be cut within a character."""
    url = await asyncio.to_thread(databases.make, encoding=encoding)
    try:
        for _ in ("a new database", "one with Guardwire"):
            with pytest.raises(
                MigrationError, match=f"encoding is {encoding}, and .* template0 ENCODING 'UTF8'"
            ):
                await migrate(url)
            async with connected(url) as connection:
                await connection.execute("CREATE SCHEMA IF NOT EXISTS guardwire")
                await connection.execute("CREATE TABLE IF NOT EXISTS guardwire.accounts ()")
    finally:
        await asyncio.to_thread(databases.drop, url)
