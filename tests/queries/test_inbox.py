"""Each row that the platform commits is copied into the inbox once, and no statement of the platform fails by it."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from queries.capture import rebuild
from queries.migrations.existing import READ_COLUMNS
from queries.migrations.run import migrate
from tests.audit.auditing import differences
from tests.queries.conftest import Connect
from tests.queries.database_writer import DatabaseWriter

ISOLATION_LEVELS = ["read_committed", "repeatable_read", "serializable"]


@pytest.fixture
async def writer(writer: DatabaseWriter) -> DatabaseWriter:
    """Here a test looks into the inbox before it is applied."""
    writer.applies = False
    return writer


async def copied(writer: DatabaseWriter) -> list[tuple[bytes, bytes, UUID]]:
    """Source, operation and account of each row in the inbox."""
    return [(row["source"], row["operation"], row["account"]) for row in await writer.inbox()]


# ---------------------------------------------------------------- every kind of statement


@pytest.mark.parametrize("isolation", ISOLATION_LEVELS)
async def test_a_row_is_copied_with_its_transaction(writer: DatabaseWriter, isolation: str) -> None:
    async with writer.connection.transaction(isolation=isolation):
        xid = await writer.connection.fetchval("SELECT pg_current_xact_id()::text")
        row_id = await writer.sync(symbol='A "gold" bar', volume="0.10")
        await writer.update(row_id, matched=2)
    inserted, updated = await writer.inbox()
    for row in inserted, updated:
        assert row["account"] == writer.user_id
        assert str(row["xid"]) == xid
    assert (inserted["operation"], inserted["old_row"]) == (b"i", None)
    assert updated["operation"] == b"u"
    assert updated["old_row"] == inserted["new_row"]
    read = "SELECT new_row ->> 'symbol', new_row ->> 'matched' FROM guardwire.inbox WHERE nth = $1"
    assert tuple(await writer.connection.fetchrow(read, updated["nth"])) == ('A "gold" bar', "2")
    assert inserted["arrived_at"] < updated["arrived_at"]
    await writer.apply()
    assert (await writer.position())["matched"] == 2
    assert await writer.inbox() == []


@pytest.mark.parametrize("isolation", ISOLATION_LEVELS)
async def test_writers_side_by_side_do_not_fail_each_other_by_it(
    writer: DatabaseWriter, connect: Connect, isolation: str
) -> None:
    """Neither by a lock nor by a serialization failure, while the applier takes rows in between."""
    await writer.sync(0)
    applier = DatabaseWriter(await connect())
    async with asyncio.timeout(30):
        for second in range(1, 11):
            writers = [DatabaseWriter(await connect(), writer.user_id, applies=False) for _ in range(2)]
            transactions = [each.connection.transaction(isolation=isolation) for each in writers]
            for each in transactions:
                await each.start()
            for each in writers:
                await each.sync(second)
                await applier.apply()
            for each in transactions:
                await each.commit()
            await applier.apply()
    assert (await writer.account())["total_syncs"] == 21


async def test_rows_of_copy_are_copied(writer: DatabaseWriter) -> None:
    await writer.connection.copy_records_to_table(
        "reconciliation_logs",
        records=[(writer.user_id, ticket, "sync", 1, writer.at(0)) for ticket in range(1, 1001)],
        columns=["user_id", "mt5_position_id", "event_type", "matched", "created_at"],
    )
    await writer.apply()
    assert (await writer.state())["positions"]["total_positions"] == 1000


async def test_rows_of_merge_are_copied(writer: DatabaseWriter) -> None:
    if writer.connection.get_server_version().major < 15:
        pytest.skip("MERGE came with PostgreSQL 15")
    row_id = await writer.sync()
    await writer.apply()
    await writer.execute(
        """MERGE INTO reconciliation_logs AS l USING (VALUES ($1::uuid, 5), (gen_random_uuid(), 6)) AS n (id, ticket)
           ON l.id = n.id
           WHEN MATCHED THEN UPDATE SET current_price = 7
           WHEN NOT MATCHED THEN INSERT (id, user_id, mt5_position_id, event_type, matched, current_price)
                                 VALUES (n.id, $2, n.ticket, 'sync', 1, 7)""",
        row_id,
        writer.user_id,
    )
    assert sorted(operation for _, operation, _ in await copied(writer)) == [b"i", b"u"]
    await writer.apply()
    assert {ticket: each["current_price"] for ticket, each in (await writer.book()).items()} == {
        "1": 7,
        "6": 7,
    }


async def test_rows_of_an_upsert_are_copied_as_what_they_became(writer: DatabaseWriter) -> None:
    row_id = await writer.sync()
    await writer.apply()
    upsert = (
        "INSERT INTO reconciliation_logs (id, user_id, mt5_position_id, event_type, matched, current_price)"
        " VALUES ($1, $2, 2, 'sync', 1, 8) ON CONFLICT (id) DO "
    )
    await writer.execute(f"{upsert} NOTHING", row_id, writer.user_id)
    assert await writer.inbox() == []
    await writer.execute(
        f"{upsert} UPDATE SET current_price = excluded.current_price", row_id, writer.user_id
    )
    await writer.execute(f"{upsert} UPDATE SET current_price = 9", uuid4(), writer.user_id)
    assert [operation for _, operation, _ in await copied(writer)] == [b"u", b"i"]
    await writer.apply()
    assert {ticket: each["current_price"] for ticket, each in (await writer.book()).items()} == {
        "1": 8,
        "2": 8,
    }


async def test_rows_that_functions_and_other_triggers_write_are_copied(writer: DatabaseWriter) -> None:
    """One of them writes at the commit: a deferred trigger of the platform."""
    await writer.connection.execute("""
        CREATE TABLE orders (user_id uuid, ticket bigint);
        CREATE FUNCTION record(user_id uuid, ticket bigint) RETURNS void LANGUAGE sql AS $$
            INSERT INTO reconciliation_logs (user_id, mt5_position_id, event_type, matched)
            VALUES (user_id, ticket, 'sync', 1)
        $$;
        CREATE FUNCTION follow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM record(NEW.user_id, NEW.ticket);
            RETURN NULL;
        END $$;
        CREATE CONSTRAINT TRIGGER follow AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION follow();
    """)
    async with writer.connection.transaction():
        await writer.sync()
        await writer.execute("INSERT INTO orders VALUES ($1, 9)", writer.user_id)
    await writer.execute("SELECT record($1, 10)", writer.user_id)
    await writer.apply()
    assert set(await writer.book()) == {"1", "9", "10"}


async def test_rows_that_logical_replication_would_apply_are_copied(writer: DatabaseWriter) -> None:
    """Ordinary triggers do not fire for these; `test_replication.py` has a real subscription."""
    await writer.connection.execute("SET session_replication_role = replica")
    row_id = await writer.sync()
    await writer.update(row_id, matched=2)
    await writer.equity(1000)
    await writer.rate("EUR", "USD", 1)
    await writer.set_limits(minimum_equity=5)
    await writer.execute("UPDATE instruments SET contract_size = 10 WHERE symbol = 'XAUUSD'")
    await writer.execute("TRUNCATE guard_limits, instruments")
    sources = [(source, operation) for source, operation, _ in await copied(writer)]
    assert sorted(sources) == sorted(
        [
            (b"l", b"i"),
            (b"l", b"u"),
            (b"e", b"i"),
            (b"x", b"i"),
            (b"g", b"i"),
            (b"g", b"t"),
            (b"i", b"u"),
            (b"i", b"t"),
        ]
    )


async def test_rows_that_have_no_account_are_copied_apart(writer: DatabaseWriter) -> None:
    nobody = UUID("ffffffff-ffff-ffff-ffff-ffffffffffff")
    await writer.sync(user_id=None)
    await writer.sync(user_id=nobody)
    await writer.equity(1000, user_id=None)
    await writer.rate("EUR", "USD", 1)
    await writer.execute("DELETE FROM instruments WHERE symbol = 'XAUUSD'")
    assert {account for _, _, account in await copied(writer)} == {nobody}
    await writer.apply()
    assert await writer.revisions() == {}


# ---------------------------------------------------------------- every fate of a transaction


async def test_a_commit_is_seen_whole_or_not_at_all(writer: DatabaseWriter, connect: Connect) -> None:
    reader = DatabaseWriter(await connect(), writer.user_id)
    async with writer.connection.transaction():
        await writer.sync()
        await writer.equity(1000)
        assert await reader.revision() == 0
    state = await reader.state()
    assert list(state["positions"]["open"]) == ["1"]
    assert state["guards"]["drawdown"]["current_equity"] == 1000


async def test_what_is_rolled_back_to_a_savepoint_never_was(writer: DatabaseWriter) -> None:
    async with writer.connection.transaction():
        await writer.sync(0, ticket=1)
        await writer.connection.execute("SAVEPOINT here")
        for ticket in range(2, 300):
            await writer.sync(1, ticket=ticket)
        await writer.close(2, ticket=1)
        await writer.connection.execute("ROLLBACK TO SAVEPOINT here")
        await writer.sync(3, ticket=1000)
    await writer.apply()
    assert set(await writer.book()) == {"1", "1000"}


async def test_what_an_exception_block_takes_back_never_was(writer: DatabaseWriter) -> None:
    await writer.connection.execute(f"""DO $$ BEGIN
        FOR ticket IN 1..50 LOOP
            BEGIN
                INSERT INTO reconciliation_logs (user_id, mt5_position_id, event_type, matched)
                VALUES ('{writer.user_id}', ticket, 'sync', 1);
                IF ticket % 2 = 0 THEN
                    RAISE EXCEPTION 'no';
                END IF;
            EXCEPTION WHEN OTHERS THEN
            END;
        END LOOP;
    END $$""")
    assert len(await writer.inbox()) == 25
    await writer.apply()
    assert len(await writer.book()) == 25


async def test_a_rolled_back_transaction_leaves_no_trace(writer: DatabaseWriter) -> None:
    transaction = writer.connection.transaction()
    await transaction.start()
    for ticket in range(1, 50):
        await writer.sync(ticket=ticket)
    await transaction.rollback()
    assert await writer.inbox() == []
    await writer.of().sync()
    assert await writer.apply() == 1
    assert await writer.revision() == 0


async def test_a_row_that_was_deleted_in_its_own_transaction_is_copied_all_the_same(
    writer: DatabaseWriter,
) -> None:
    """The platform deletes rows of the log by retention alone; a deletion takes nothing back."""
    async with writer.connection.transaction():
        row_id = await writer.sync()
        await writer.connection.execute("DELETE FROM reconciliation_logs WHERE id = $1", row_id)
    await writer.apply()
    assert list(await writer.book()) == ["1"]


async def test_a_table_can_be_altered_and_emptied_in_a_transaction_that_wrote_to_it(
    writer: DatabaseWriter,
) -> None:
    async with writer.connection.transaction():
        await writer.sync()
        await writer.connection.execute("""
            UPDATE reconciliation_logs SET slippage_pips = 1;
            ALTER TABLE reconciliation_logs ALTER slippage_pips SET NOT NULL, ADD COLUMN comment text;
            ALTER TABLE reconciliation_logs ALTER mt5_position_id TYPE numeric, ALTER symbol TYPE varchar(100)""")
        await writer.sync(1, ticket=2, slippage_pips=1)
        await writer.connection.execute("TRUNCATE reconciliation_logs")
    await writer.apply()
    assert set(await writer.book()) == {"1", "2"}


async def test_a_writer_locks_the_inbox_against_no_other_writer_and_reads_no_table(
    writer: DatabaseWriter,
) -> None:
    async with writer.connection.transaction():
        await writer.sync()
        await writer.connection.execute("UPDATE instruments SET pip_size = 1")
        locks = await writer.connection.fetch("""
            SELECT DISTINCT c.relname, l.mode FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation
            WHERE l.pid = pg_backend_pid() AND c.relnamespace = 'guardwire'::regnamespace AND c.relkind = 'r'""")
    assert [tuple(lock) for lock in locks] == [("inbox", "RowExclusiveLock")]


# ---------------------------------------------------------------- no statement fails by it


async def test_the_platforms_own_errors_are_its_own(writer: DatabaseWriter) -> None:
    row_id = await writer.sync()
    with pytest.raises(asyncpg.UniqueViolationError):
        await writer.sync(id=row_id)
    assert len(await writer.inbox()) == 1


#: A row of each table with as little as it takes.
LEAST_ROWS = {
    "reconciliation_logs": "DEFAULT VALUES",
    "equity_snapshots": "DEFAULT VALUES",
    "fx_rates": "DEFAULT VALUES",
    "guard_limits": "(user_id) VALUES (gen_random_uuid())",
    "instruments": "(symbol, contract_size, quote_currency) VALUES ('ACME', 1, 'USD')",
}


@pytest.mark.parametrize(
    "change", ["RENAME COLUMN {0} TO other", "DROP COLUMN {0} CASCADE, ADD COLUMN other text"]
)
@pytest.mark.parametrize("table", LEAST_ROWS)
async def test_a_column_that_is_gone_fails_no_writer(writer: DatabaseWriter, table: str, change: str) -> None:
    for column in READ_COLUMNS[table]:
        transaction = writer.connection.transaction()
        await transaction.start()
        await writer.connection.execute(f"ALTER TABLE public.{table} {change.format(column)}")
        row = LEAST_ROWS[table].replace(column, "other")
        await writer.connection.execute(f"INSERT INTO public.{table} {row}")
        assert len(await writer.inbox()) == 1, column
        await transaction.rollback()


async def test_a_platform_that_drops_a_column_and_adds_it_again_is_applied_on(writer: DatabaseWriter) -> None:
    await writer.sync()
    await writer.connection.execute("ALTER TABLE reconciliation_logs DROP COLUMN take_profit")
    await writer.sync(1, current_price=1960)
    await writer.connection.execute("ALTER TABLE reconciliation_logs ADD COLUMN take_profit numeric")
    await writer.sync(2, ticket=2, take_profit=2000)
    await writer.apply()
    book = await writer.book()
    assert (book["1"]["current_price"], book["2"]["take_profit"]) == (1960, 2000)
    assert [row["sqlstate"] for row in await writer.set_aside()] == ["42703"]
    await rebuild(writer.connection, writer.user_id)
    assert await writer.set_aside() == []


#: Types that a platform's own columns may have, and values of them.
ODD_COLUMNS = {
    "json with a character that jsonb refuses": ("json", r"""'{"broker": "\u0000", "user_id": "x"}'"""),
    "json with a number that jsonb refuses": ("json", "'[1e999999]'"),
    "json with half a character": ("json", r"""'["\ud83d", "\ud83d\ude00\ud83d"]'"""),
    "json that is nested": ("json", "(repeat('[', 1000) || repeat(']', 1000))::json"),
    "jsonb": ("jsonb", """'{"user_id": 7, "a": [null, 1e300]}'"""),
    "xml": ("xml", "'<a>&lt;</a>'"),
    "bytes": ("bytea", r"'\x00ff'"),
    "an array": ("text[]", """'{"a,b",NULL,"\\"\\""}'"""),
    "an array of arrays": ("numeric[][]", "'{{1,NaN},{2,3}}'"),
    "an enum": ("mood", "'so so'"),
    "a domain": ("positive", "5"),
    "a row": ("pair", "ROW(1, 'x')::pair"),
    "a range": ("tstzrange", "'[now,infinity)'"),
    "a multirange": ("int4multirange", "'{[1,2),[5,)}'"),
    "money": ("money", "'12.34'"),
    "an interval": ("interval", "'-1 year 3 days'"),
    "bits": ("bit varying", "B'101'"),
    "an address": ("inet", "'::1/128'"),
    "a point": ("point", "'(NaN,Infinity)'"),
    "a vector of words": ("tsvector", "'a:1 b'"),
    "an object's name": ("regclass", "'pg_class'"),
    "a position in the log": ("pg_lsn", "'0/1'"),
    "a double that is no number": ("double precision", "'NaN'"),
    "a date without end": ("date", "'infinity'"),
    "a name": ("name", "'x'"),
    "one character": ('"char"', "'x'"),
    "blanks": ("char(20)", "'x'"),
    "a text of another collation": ('text COLLATE "und-x-icu"', "'ß'"),
    "a text of a collation for which different texts are equal": ("text COLLATE loose", "'É'"),
    "a text of control characters": ("text", r"E'\x01\x02\\u0000\"\n'"),
    "a text of 16 MB": ("text", "repeat('x', 16 * 1024 * 1024)"),
    "a column that is computed": ("text GENERATED ALWAYS AS (symbol || '!') STORED", "DEFAULT"),
    "a column named like ours": ("text", "'x'"),
    "a column of many rows": ("pair[]", "array_fill(ROW(1, repeat('x', 1000))::pair, ARRAY[100])"),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "value"), ODD_COLUMNS.values(), ids=ODD_COLUMNS)
async def test_a_column_of_any_type_fails_no_writer_and_hides_no_row(
    writer: DatabaseWriter, kind: str, value: str
) -> None:
    await writer.connection.execute(f"""
        CREATE TYPE public.mood AS ENUM ('so so'); CREATE DOMAIN public.positive AS integer CHECK (VALUE > 0);
        CREATE TYPE public.pair AS (a integer, b text);
        CREATE COLLATION public.loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false);
        ALTER TABLE reconciliation_logs ADD COLUMN new_row {kind};
        ALTER TABLE equity_snapshots ADD COLUMN new_row {kind.replace("symbol", "currency")}""")
    await writer.connection.execute(f"""
        INSERT INTO reconciliation_logs (user_id, mt5_position_id, event_type, matched, current_price, new_row)
        VALUES ('{writer.user_id}', 1, 'sync', 1, 7, {value});
        INSERT INTO equity_snapshots (user_id, equity, new_row) VALUES ('{writer.user_id}', 500, {value})""")
    assert len(await writer.inbox()) == 2
    await writer.apply()
    for _ in range(2):
        assert await writer.set_aside() == []
        assert (await writer.book())["1"]["current_price"] == 7
        assert (await writer.drawdown())["current_equity"] == 500
        await rebuild(writer.connection, writer.user_id)


#: More than any copy may have, and less than thousands of copies may have to be one array.
MOST_COPY_BYTES = 100_000


@pytest.mark.parametrize(
    "text",
    ["repeat('é', 20000)", "repeat(chr(1), 3000)", "repeat(chr(9), 50000) || repeat('x', 50000)"],
    ids=["letters", "characters that JSON escapes", "blanks before letters"],
)
async def test_a_row_of_long_texts_has_a_short_copy_that_says_the_same(
    writer: DatabaseWriter, text: str
) -> None:
    await writer.connection.execute(f"""
        ALTER TABLE reconciliation_logs ADD COLUMN answer jsonb;
        INSERT INTO reconciliation_logs (user_id, mt5_position_id, event_type, matched, current_price, symbol,
                                         error_message, divergence_reason, volume, answer)
        VALUES ('{writer.user_id}', 1, 'sync', 1, 7, 'XAUUSD', {text}, {text}, 0.1, to_jsonb({text}));
        UPDATE reconciliation_logs SET current_price = 8;
        INSERT INTO equity_snapshots (user_id, equity, currency)
        VALUES ('{writer.user_id}', 500, repeat('x', 20000))""")
    for row in await writer.inbox():
        assert all(len(copy or "") < MOST_COPY_BYTES for copy in (row["new_row"], row["old_row"]))
    await writer.apply()
    assert await writer.set_aside() == []
    assert (await writer.book())["1"]["current_price"] == 8
    assert await differences(writer.connection, writer.user_id) == []
    await rebuild(writer.connection, writer.user_id)
    assert await differences(writer.connection, writer.user_id) == []


async def test_a_text_whose_json_would_be_over_1_gb_fails_no_writer(writer: DatabaseWriter) -> None:
    await writer.connection.execute(f"""
        INSERT INTO reconciliation_logs (user_id, mt5_position_id, event_type, matched, current_price, error_message)
        VALUES ('{writer.user_id}', 1, 'sync', 1, 7, repeat(chr(1), 180000000))""")
    await writer.apply()
    assert await writer.set_aside() == []
    assert (await writer.book())["1"]["current_price"] == 7
    await rebuild(writer.connection, writer.user_id)
    assert (await writer.book())["1"]["current_price"] == 7


async def test_rows_of_long_texts_that_no_array_could_hold_are_one_batch(writer: DatabaseWriter) -> None:
    """They do not stop the applier, whose batch is an array of rows."""
    await writer.connection.execute(f"""
        INSERT INTO reconciliation_logs (user_id, mt5_position_id, event_type, matched, slippage_pips, symbol)
        SELECT '{writer.user_id}', n, 'sync', 1, 7, repeat('x', 30000000) FROM generate_series(1, 40) AS n""")
    assert await writer.apply() == 40
    assert len(await writer.book()) == 40


async def test_a_text_that_looks_like_an_escape_is_copied_as_it_is(writer: DatabaseWriter) -> None:
    """Only what a column of type json escapes is replaced where the database cannot hold it."""
    text = r"\\u0000 \\\\ud800 \\"
    await writer.connection.execute("ALTER TABLE reconciliation_logs ADD COLUMN payload json")
    row_id = await writer.sync(
        divergence_reason=f"{text}\x01", payload=r'["\u0000\u0000\\u0000", "\u00e9\ud83d\ude00"]'
    )
    await writer.update(row_id, matched=2)
    copies = await writer.connection.fetch("""
        SELECT c ->> 'divergence_reason' AS text, c ->> 'payload' AS payload
        FROM guardwire.inbox AS i, unnest(ARRAY[i.new_row, i.old_row]) AS c WHERE c IS NOT NULL""")
    assert {tuple(copy) for copy in copies} == {(f"{text}\x01", r'["??\\u0000", "???"]')}


async def test_a_row_that_lost_its_id_is_set_aside_until_the_column_is_back(writer: DatabaseWriter) -> None:
    await writer.sync()
    await writer.connection.execute("ALTER TABLE reconciliation_logs RENAME COLUMN id TO key")
    await writer.execute(
        "INSERT INTO reconciliation_logs (user_id, mt5_position_id, event_type, matched)"
        " VALUES ($1, 2, 'sync', 1)",
        writer.user_id,
    )
    await writer.apply()
    assert len(await writer.set_aside()) == 1
    await writer.connection.execute("ALTER TABLE reconciliation_logs RENAME COLUMN key TO id")
    await rebuild(writer.connection, writer.user_id)
    assert set(await writer.book()) == {"1", "2"}
    assert await writer.set_aside() == []


# ---------------------------------------------------------------- every setting of a session


async def test_a_writers_search_path_lends_the_copy_no_function_and_no_operator(
    writer: DatabaseWriter,
) -> None:
    """The copy runs as its owner: a name that a writer slipped in would run as the owner too."""
    await writer.connection.execute("CREATE SCHEMA trap; CREATE SEQUENCE trap.sprung")
    for kind in ("text", "integer", '"char"', "json", "jsonb", "uuid"):
        await writer.connection.execute(
            f"""
            CREATE FUNCTION trap.spring({kind}, {kind}) RETURNS boolean LANGUAGE sql AS
                $$SELECT nextval('trap.sprung') = 0$$;
            CREATE OPERATOR trap.= (FUNCTION = trap.spring, LEFTARG = {kind}, RIGHTARG = {kind});
            CREATE OPERATOR trap.<> (FUNCTION = trap.spring, LEFTARG = {kind}, RIGHTARG = {kind});
            CREATE OPERATOR trap.~ (FUNCTION = trap.spring, LEFTARG = {kind}, RIGHTARG = {kind});
            CREATE FUNCTION trap.glue({kind}, {kind}) RETURNS text LANGUAGE sql AS
                $$SELECT nextval('trap.sprung')::text$$;
            CREATE OPERATOR trap.->> (FUNCTION = trap.glue, LEFTARG = {kind}, RIGHTARG = text)""".replace(
                f"CREATE OPERATOR trap.->> (FUNCTION = trap.glue, LEFTARG = {kind}, RIGHTARG = text)",
                f"CREATE OPERATOR trap.->> (FUNCTION = trap.glue, LEFTARG = {kind}, RIGHTARG = {kind})",
            )
        )
    for function in ("lower(text)", "left(text, integer)", "strpos(text, text)", "replace(text, text, text)",
                     "row_to_json(record)", "to_jsonb(anyelement)", "clock_timestamp()", "pg_current_xact_id()",
                     "pg_notify(text, text)", "current_setting(text)", "pg_notification_queue_usage()"):  # fmt: skip
        returns = await writer.connection.fetchval(
            f"SELECT prorettype::regtype::text FROM pg_proc WHERE oid = 'pg_catalog.{function}'::regprocedure"
        )
        name = function.replace("left(", '"left"(')
        await writer.connection.execute(
            f"CREATE FUNCTION trap.{name} RETURNS {returns} LANGUAGE plpgsql AS"
            f" $$ BEGIN PERFORM pg_catalog.nextval('trap.sprung'); {'' if returns == 'void' else 'RETURN NULL;'} END $$"
        )
    await writer.connection.execute("SET search_path = trap, pg_catalog, public")
    await writer.sync()
    await writer.equity(1000)
    await writer.rate("EUR", "USD", 1)
    await writer.execute("TRUNCATE instruments")
    await writer.execute("INSERT INTO guard_limits (user_id) VALUES ($1)", writer.user_id)
    await writer.connection.execute("SET search_path = public")
    assert len(await writer.inbox()) == 5
    assert not await writer.connection.fetchval("SELECT is_called FROM trap.sprung")


async def test_a_writers_temporary_types_take_the_place_of_no_type_of_the_copy(
    writer: DatabaseWriter,
) -> None:
    """A domain named like a type that a function does not qualify would run its check as the owner."""
    await writer.connection.execute(
        "CREATE TABLE public.sprung (by text); GRANT INSERT ON public.sprung TO PUBLIC"
    )
    names = await writer.connection.fetch("""
        SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype = 'b'
        AND typname NOT LIKE E'\\\\_%' AND typelem = 0""")
    await writer.connection.execute("""
        CREATE FUNCTION pg_temp.spring(name text) RETURNS boolean LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO public.sprung VALUES (name); RETURN true; END $$""")
    for (name,) in names:
        await writer.connection.execute(
            f'CREATE DOMAIN pg_temp."{name}" AS pg_catalog."{name}" CHECK (pg_temp.spring(\'{name}\') OR VALUE IS NULL)'
        )
    assert len(names) > 40
    await writer.sync()
    await writer.equity(1000)
    await writer.execute("TRUNCATE instruments")
    await writer.connection.execute("DISCARD TEMP")
    assert await writer.connection.fetch("SELECT by FROM public.sprung") == []
    assert len(await writer.inbox()) == 3


#: Settings that change how values are written or read.
SETTINGS = (
    "timezone = 'Pacific/Kiritimati'",
    "timezone = 'Africa/Monrovia'",
    "datestyle = 'SQL, DMY'",
    "intervalstyle = 'sql_standard'",
    "extra_float_digits = -15",
    "bytea_output = 'escape'",
    "standard_conforming_strings = off",
    "escape_string_warning = on",
    "quote_all_identifiers = on",
    "xmlbinary = 'hex'",
    "row_security = off",
    "plpgsql.variable_conflict = 'use_column'",
    "array_nulls = off",
    "transform_null_equals = on",
    "client_encoding = 'LATIN1'",
)


async def test_no_setting_of_a_session_changes_what_is_copied(
    writer: DatabaseWriter, connect: Connect
) -> None:
    """A session reads the literals of the function when it runs the function for the first time."""
    for ticket, setting in enumerate(SETTINGS, 1):
        other = DatabaseWriter(await connect(), writer.user_id, applies=False)
        await other.connection.execute(f"SET {setting}")
        await other.sync(
            ticket=ticket,
            created_at="1970-01-01 00:00:00.000001+00",
            updated_at="2019-12-31 23:59:59.999999+00",
            current_price="1955.123456789",
            symbol="A\x01",
        )
    await writer.apply()
    for ticket, setting in enumerate(SETTINGS, 1):
        position = await writer.position(ticket)
        assert position["entry_time"].isoformat() == "1970-01-01T00:00:00.000001+00:00", setting
        assert position["updated_at"].isoformat() == "2019-12-31T23:59:59.999999+00:00", setting
        assert (position["current_price"], position["symbol"]) == (Decimal("1955.123456789"), "A\x01"), (
            setting
        )


async def test_a_session_that_traces_its_notifications_sees_no_name_of_ours_but_the_inboxs(
    writer: DatabaseWriter,
) -> None:
    messages: list[str] = []
    writer.connection.add_log_listener(lambda _, message: messages.append(str(message)))
    await writer.connection.execute("SET trace_notify = on; SET client_min_messages = 'debug5'")
    await writer.sync()
    channel = await writer.connection.fetchval("SELECT delta_channel FROM guardwire.configuration")
    await writer.connection.execute("RESET client_min_messages; RESET trace_notify")
    assert not [message for message in messages if channel in message]


async def test_a_writer_needs_no_right_on_anything_of_ours(writer: DatabaseWriter) -> None:
    role = f"just_a_writer_{uuid4().hex}"
    await writer.connection.execute(f"CREATE ROLE {role} NOLOGIN")
    await writer.connection.execute(f"GRANT INSERT ON reconciliation_logs, equity_snapshots TO {role}")
    try:
        await writer.connection.execute(f"SET ROLE {role}")
        await writer.sync()
        await writer.equity(1000)
        for statement in ("SELECT * FROM guardwire.inbox", "SELECT guardwire.copy_row()"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await writer.connection.execute(statement)
        await writer.connection.execute("RESET ROLE")
        await writer.apply()
        assert (await writer.account())["equity"] == 1000
        assert (await writer.position())["is_open"]
    finally:
        await writer.connection.execute(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_cast_of_somebody_else_that_a_copy_runs_has_no_rights(
    writer: DatabaseWriter, migrated_url: str
) -> None:
    """row_to_json looks for a cast to json of each type that is not built in."""
    await migrate(migrated_url, roles=True)
    await writer.connection.execute("""
        CREATE TYPE public.spy AS ENUM ('x');
        CREATE TABLE public.seen (as_user text, readable boolean);
        GRANT INSERT ON public.seen TO PUBLIC;
        CREATE FUNCTION public.spy_to_json(spy) RETURNS json LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO public.seen SELECT current_user, bool_or(has_table_privilege(c.oid, 'SELECT, UPDATE, DELETE'))
            FROM pg_class AS c WHERE c.relnamespace IN ('guardwire'::regnamespace, 'public'::regnamespace)
                                 AND c.relkind = 'r';
            RETURN '1';
        END $$;
        CREATE CAST (spy AS json) WITH FUNCTION spy_to_json(spy);
        ALTER TABLE reconciliation_logs ADD COLUMN watch spy""")
    await writer.sync(watch="x")
    assert await writer.connection.fetch("SELECT * FROM public.seen") == [("guardwire_inbox", False)]


# ---------------------------------------------------------------- waking the applier


async def notified(connection: Any, act: Any) -> list[str]:
    """Payloads of the notifications that ``act`` sends to the applier."""
    received: list[str] = []
    done = asyncio.Event()
    await connection.add_listener("guardwire_inbox", lambda *each: received.append(each[3]))
    await connection.add_listener("end_of_test", lambda *_: done.set())
    await act()
    await connection.execute("NOTIFY end_of_test")
    await asyncio.wait_for(done.wait(), 10)
    await connection.reset()
    return received


async def test_a_transaction_wakes_the_applier_once(writer: DatabaseWriter, connect: Connect) -> None:
    async def act() -> None:
        async with writer.connection.transaction():
            for ticket in range(1, 100):
                await writer.sync(ticket=ticket)
            await writer.execute("TRUNCATE instruments")

    assert await notified(await connect(), act) == [""]
    assert await notified(await connect(), writer.sync) == [""]


async def test_without_notify_nobody_is_woken_and_everything_copied(
    writer: DatabaseWriter, connect: Connect, migrated_url: str
) -> None:
    """Also under writers that are connected already."""
    await writer.sync()
    await migrate(migrated_url, notify=False)
    assert await notified(await connect(), writer.sync) == []
    await migrate(migrated_url)
    assert await notified(await connect(), lambda: writer.execute("TRUNCATE instruments")) == []
    await migrate(migrated_url, notify=True)
    assert await notified(await connect(), writer.sync) == [""]
    assert len(await writer.inbox()) == 4


async def test_while_the_queue_of_notifications_is_half_full_nobody_is_woken(
    writer: DatabaseWriter, connect: Connect
) -> None:
    """A full queue makes COMMIT fail, and other applications may have filled it."""
    # The queue belongs to the whole server, and takes minutes to fill: what measures it is replaced.
    functions = await writer.connection.fetch("""
        SELECT pg_get_functiondef(p.oid) AS definition FROM pg_proc AS p
        WHERE p.pronamespace = 'guardwire'::regnamespace AND p.proname = 'wake_applier'""")
    assert len(functions) == 1
    for usage, expected in (("0.5", []), ("0.49", [""])):
        await writer.connection.execute(
            "CREATE OR REPLACE FUNCTION guardwire.usage() RETURNS float8 LANGUAGE sql"
            f" AS 'SELECT {usage}::float8'"
        )
        for row in functions:
            definition = row["definition"].replace(
                "pg_catalog.pg_notification_queue_usage()", "guardwire.usage()"
            )
            assert "guardwire.usage()" in definition
            await writer.connection.execute(definition)
        assert await notified(await connect(), writer.sync) == expected
        assert await notified(await connect(), lambda: writer.execute("TRUNCATE instruments")) == expected
