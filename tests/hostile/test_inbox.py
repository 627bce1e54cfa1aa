"""Attacks on the inbox: effects of a writer's session on the copies of rows, and of waiting rows on others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from queries.capture import rebuild
from queries.migrations.run import migrate
from realtime.audit.capture import check_casts, check_triggers
from tests.audit.auditing import audited
from tests.cli.conftest import applying
from tests.databases import Databases
from tests.hostile.logins import (
    PATIENCE_SECONDS,
    ROLES,
    SOURCES,
    WRITES,
    Logins,
    Stage,
    insert,
    staged,
)


@pytest.fixture(scope="module")
def logins(databases: Databases, migrated_template: str) -> Iterator[Logins]:
    made = Logins(databases, migrated_template)
    yield made
    made.drop()


@pytest.fixture
async def stage(request: pytest.FixtureRequest, databases: Databases, logins: Logins) -> AsyncIterator[Stage]:
    """A stage for the role that a test names."""
    url = databases.make(like=logins.template)
    try:
        async with staged(logins, url, request.param) as stage:
            yield stage
    finally:
        databases.drop(url)


EVERYBODY: Final = pytest.mark.parametrize("stage", ROLES, indirect=True)
WRITERS: Final = pytest.mark.parametrize("stage", list(WRITES), indirect=True)

# ---------------------------------------------------------------- the copies of rows

#: Settings that change how PostgreSQL writes a value as text.
_WRITTEN_FORMS: Final = (
    *(f"extra_float_digits = {digits}" for digits in (-15, -1, 0, 1, 3)),
    *(f"DateStyle = '{style}'" for style in ("ISO, MDY", "SQL, DMY", "German", "Postgres, YMD")),
    *(f"IntervalStyle = '{style}'" for style in ("postgres", "sql_standard", "iso_8601", "postgres_verbose")),
    *(f"TimeZone = '{zone}'" for zone in ("Pacific/Kiritimati", "Etc/GMT+12", "Asia/Manila", '<a"b>-3')),
    # Offsets that PostgreSQL writes and cannot read.
    *(f"TimeZone = '{zone}'" for zone in ("X-167", "<+25>-25:30", "X+20", "-100", "A0B-120,J1,J365")),
    "bytea_output = 'escape'",
    "lc_numeric = 'C'",
    "lc_monetary = 'C'",
    "standard_conforming_strings = off",
    "quote_all_identifiers = on",
    "transform_null_equals = on",
    "row_security = off",
    "plpgsql.extra_errors = 'all'",
)
_FLOATS: Final = """
ALTER TABLE public.reconciliation_logs ALTER volume TYPE double precision, ALTER entry_price TYPE double precision,
    ALTER current_price TYPE double precision;
ALTER TABLE public.equity_snapshots ALTER equity TYPE double precision, ALTER balance TYPE double precision;
ALTER TABLE public.fx_rates ALTER rate TYPE double precision;
ALTER TABLE public.instruments ALTER contract_size TYPE double precision;
ALTER TABLE public.guard_limits ALTER minimum_equity TYPE double precision
"""


@WRITERS
async def test_no_form_of_writing_values_changes_what_is_copied(stage: Stage) -> None:
    """Also on a platform that stores amounts in floating point."""
    await stage.owner.execute(_FLOATS)
    for form in _WRITTEN_FORMS:
        await stage.attacker.execute(f"SET {form}")
        name = form.partition(" =")[0]
        before = await stage.attacker.fetchval(f"SHOW {name}")
        async with stage.attacker.transaction():
            await stage.write()
            assert await stage.attacker.fetchval(f"SHOW {name}") == before
        await stage.is_right()
        await stage.attacker.execute(f"RESET {name}")


# ---------------------------------------------------------------- a stranger's code inside the copy

#: Types of a column, each of which leads to the attacker's cast, and a value.
_TYPES_WITH_A_CAST: Final = {
    "enum": ("own_{login}.spy", "'x'"),
    "array": ("own_{login}.spy[]", "'{{x}}'"),
    "domain": ("own_{login}.guarded", "'x'"),
    "composite": ("own_{login}.pair", "ROW('x', 1)"),
}
_MAKE_CAST: Final = """
CREATE TYPE spy AS ENUM ('x');
CREATE DOMAIN guarded AS spy;
CREATE TYPE pair AS (first spy, second int);
CREATE TABLE done (who text, statement text, refusal text);
GRANT INSERT ON done TO PUBLIC;
CREATE TABLE tried (statement text);
GRANT SELECT ON tried TO PUBLIC;
GRANT USAGE, CREATE ON SCHEMA own_{login} TO PUBLIC;
CREATE FUNCTION as_json(spy) RETURNS json LANGUAGE plpgsql AS $cast$
DECLARE
    statement text;
    refusal text;
BEGIN
    FOR statement IN SELECT t.statement FROM own_{login}.tried AS t LOOP
        BEGIN
            refusal := NULL;
            EXECUTE statement;
        EXCEPTION WHEN OTHERS THEN
            refusal := SQLSTATE;
        END;
        INSERT INTO own_{login}.done VALUES (current_user, statement, refusal);
    END LOOP;
    RETURN '"x"';
END
$cast$;
CREATE CAST (spy AS json) WITH FUNCTION as_json(spy);
"""
_INTO_INBOX: Final = """
INSERT INTO guardwire.inbox (account, source, operation, new_row, xid, arrived_at)
VALUES ('00000000-0000-4000-8000-00000000beef', 'l', 'i', '{{}}', pg_current_xact_id(), now())
"""
#: Statements that the cast tries. Refusals have SQLSTATE 42501, or 0A000 where no function may run such a statement.
_TRIED: Final = (
    "SELECT * FROM guardwire.configuration",
    "SELECT * FROM guardwire.inbox",
    "SELECT * FROM guardwire.accounts",
    "SELECT * FROM public.reconciliation_logs",
    "UPDATE guardwire.accounts SET balance = 1",
    "UPDATE guardwire.applier SET holder = 'mine'",
    "DELETE FROM guardwire.inbox",
    "TRUNCATE guardwire.inbox",
    "INSERT INTO guardwire.set_aside SELECT * FROM guardwire.set_aside",
    "LOCK TABLE guardwire.accounts IN ACCESS SHARE MODE",
    "LOCK TABLE guardwire.inbox IN SHARE MODE",
    "SELECT guardwire.take_lease('mine', 86400)",
    "SELECT guardwire.apply(1, 1)",
    "SELECT guardwire.unready('00000000-0000-4000-8000-00000000beef')",
    "SELECT guardwire.housekeep()",
    "CREATE TABLE guardwire.mine ()",
    "CREATE FUNCTION guardwire.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE OR REPLACE FUNCTION guardwire.copy_row() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "CREATE OR REPLACE FUNCTION guardwire.wakes_applier() RETURNS boolean LANGUAGE sql AS 'SELECT true'",
    "ALTER TABLE public.reconciliation_logs DISABLE TRIGGER ALL",
    "GRANT guardwire_inbox TO {login}",
    "GRANT guardwire_server TO guardwire_inbox",
    "ALTER ROLE guardwire_inbox SUPERUSER",
    "ALTER ROLE guardwire_inbox LOGIN PASSWORD 'x'",
    "SET ROLE guardwire_server",
    "RESET ROLE",
    "SET SESSION AUTHORIZATION DEFAULT",
    "SET session_replication_role = replica",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "SELECT pg_read_file('PG_VERSION')",
    _INTO_INBOX,
)


@pytest.mark.parametrize("stage", ["writer"], indirect=True)
@pytest.mark.parametrize("kind", _TYPES_WITH_A_CAST)
async def test_a_cast_that_the_copy_runs_may_insert_into_the_inbox_and_nothing_else(
    stage: Stage, kind: str
) -> None:
    """The owner of a column's type may make a cast to json, and row_to_json calls that cast."""
    await make_cast(stage)
    for statement in _TRIED:
        await stage.attacker.execute("INSERT INTO tried VALUES ($1)", statement.format(login=stage.name))
    column_type, value = (part.format(login=stage.name) for part in _TYPES_WITH_A_CAST[kind])
    await stage.owner.execute(f"ALTER TABLE public.reconciliation_logs ADD COLUMN watched {column_type}")
    await stage.owner.execute(
        f"INSERT INTO public.reconciliation_logs (user_id, event_type, watched)"
        f" VALUES ('{stage.own}', 'sync', {value})"
    )
    done = await stage.attacker.fetch("SELECT * FROM done")
    assert {row["who"] for row in done} == {"guardwire_inbox"}
    assert {row["statement"] for row in done} == {each.format(login=stage.name) for each in _TRIED}
    assert {row["statement"] for row in done if row["refusal"] is None} == {_INTO_INBOX.format()}
    assert {row["refusal"] for row in done} <= {None, "42501", "0A000", "42P13", "25001"}


async def make_cast(stage: Stage) -> None:
    """Make the attacker's types and their cast in the attacker's own schema."""
    await stage.attacker.execute(f"SET search_path = own_{stage.name}")
    await stage.attacker.execute(_MAKE_CAST.replace("{login}", stage.name))


@pytest.mark.parametrize("stage", ["writer"], indirect=True)
async def test_a_cast_that_drops_the_copy_is_noticed_and_mended(stage: Stage) -> None:
    """guardwire_inbox owns the functions of the triggers, and an owner may drop what is its own."""
    dropped = "DROP FUNCTION guardwire.copy_row() CASCADE"
    await stage.owner.execute(f"SET ROLE guardwire_inbox; {dropped}; RESET ROLE")
    await stage.owner.execute(insert("reconciliation_logs", stage.own))
    complaints = [str(each) for each in await check_triggers(stage.owner)]
    assert len(complaints) == len(SOURCES)
    assert all("guardwire_copy" in each and "missing" in each for each in complaints)
    assert (await audited(stage.owner, stage.own)).differences != []
    await migrate(stage.url, roles=True)
    await rebuild(stage.owner, stage.own)
    assert await check_triggers(stage.owner) == []
    assert (await audited(stage.owner, stage.own)).differences == []


@pytest.mark.parametrize("stage", ["writer"], indirect=True)
async def test_verify_names_a_column_whose_type_has_a_cast_to_json(stage: Stage) -> None:
    await make_cast(stage)
    assert await check_casts(stage.owner) == []
    for kind, (column_type, _) in _TYPES_WITH_A_CAST.items():
        column = f"ADD COLUMN a_{kind} {column_type.format(login=stage.name)}"
        await stage.owner.execute(f"ALTER TABLE public.equity_snapshots {column}")
    complaints = [str(each) for each in await check_casts(stage.owner)]
    assert len(complaints) == len(_TYPES_WITH_A_CAST)
    for kind, complaint in zip(sorted(_TYPES_WITH_A_CAST), complaints, strict=True):
        assert f"column a_{kind} of public.equity_snapshots" in complaint
        assert "with the rights of guardwire_inbox; drop the cast of" in complaint
    await stage.owner.execute("ALTER FUNCTION guardwire.copy_row() OWNER TO CURRENT_USER")
    assert all("migrate --roles" in str(each) for each in await check_casts(stage.owner))


@EVERYBODY
async def test_nobody_makes_a_trigger_of_the_copy_on_a_table_of_their_own(stage: Stage) -> None:
    """With one, the copy would insert forged rows into the inbox."""
    if stage.role == "copier":
        # The role may insert into the inbox, and it owns these functions.
        return
    await stage.attacker.execute(f"CREATE TABLE own_{stage.name}.mine (id uuid, user_id uuid)")
    for function in ("copy_row('l')", "note_truncate('g')"):
        event = "TRUNCATE" if "truncate" in function else "INSERT"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await stage.attacker.execute(
                f"CREATE TRIGGER mine AFTER {event} ON own_{stage.name}.mine"
                f" EXECUTE FUNCTION guardwire.{function}"
            )


# ---------------------------------------------------------------- waiting rows


@EVERYBODY
async def test_a_transaction_that_stays_open_holds_up_nobody_and_loses_no_row(stage: Stage) -> None:
    """Rows of an open transaction are invisible, so the applier passes over them and applies them after the commit."""
    await stage.others_go_on()
    transaction = stage.attacker.transaction()
    await transaction.start()
    await stage.attacker.execute("SELECT pg_catalog.pg_current_xact_id()")
    await stage.write()
    for _ in range(3):
        await stage.others_go_on()
    await stage.write()
    await stage.others_go_on()
    await transaction.commit()
    await stage.is_right()
    # No row is left behind the position from which the inbox is read.
    assert await stage.owner.fetchval("SELECT count(*) FROM guardwire.inbox") == 0


@pytest.mark.parametrize("stage", ["nobody"], indirect=True)
async def test_a_flood_of_wake_ups_keeps_no_row_waiting(
    stage: Stage, logins: Logins, databases: Databases, tmp_path: Path
) -> None:
    """Every login may wake the applier as often as PostgreSQL accepts notifications."""
    await stage.release()
    with applying(logins.url(stage.url, "node"), "one", tmp_path):
        stop = asyncio.Event()

        async def flood() -> int:
            sent = 0
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not stop.is_set():
                    await stage.attacker.execute("NOTIFY guardwire_inbox; NOTIFY guardwire, 'x=1'")
                    sent += 1
            return sent

        flooding = asyncio.create_task(flood())
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                for _ in range(30):
                    await stage.write_of_platform()
                    while await stage.owner.fetchval("SELECT EXISTS (SELECT FROM guardwire.inbox)"):
                        await asyncio.sleep(0.005)
        finally:
            stop.set()
        assert await flooding > 30
    await stage.hold()
    await stage.is_right()
