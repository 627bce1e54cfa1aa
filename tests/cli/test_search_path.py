"""No session of ours calls a function that somebody made in schema public, under any search_path of its login."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from realtime.metrics import METRICS
from realtime.settings import NodeTiming
from tests.cli.conftest import Guardwire, applying
from tests.databases import Databases
from tests.end_to_end.mirror import mirror
from tests.end_to_end.node import node
from tests.queries.database_writer import DatabaseWriter, connected
from tests.traps import Traps, lay_traps, stranger_name, watched

SAFE = {"search_path": "pg_catalog"}
#: Objects that depend on a function in schema public, apart from operators.
DEPENDENCIES = """
SELECT pg_describe_object(d.classid, d.objid, 0) AS name
FROM pg_depend AS d JOIN pg_proc AS p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
WHERE p.pronamespace = 'public'::regnamespace AND d.classid <> 'pg_operator'::regclass
"""
#: A node that looks at everything often.
QUICK: dict[str, Any] = {"audit_seconds": 0.2, "timing": NodeTiming(sweep_seconds=0.2)}
COMMANDS = (
    ("verify", "rebuild --user {user}", "rebuild", "verify --doubts", "check-platform"),
    ("peak reset --user {user}", "revoke --user {user}", "revoke --list", "revoke --undo --user {user}"),
    ("uninstall --triggers-only", "migrate --roles --no-notify", "rotate-channel"),
    ("uninstall --yes", "migrate --estimate", "migrate --roles"),
)
PAGES = ("/api/v1/state", "/api/v1/positions/open", "/api/v1/reconciliation/status", "/api/v1/guards/status")


@pytest.fixture(scope="module")
def templates(databases: Databases, migrated_template: str) -> Iterator[dict[str, str]]:
    """URLs of an empty database and of a migrated one, in which a stranger then made functions and operators."""
    name = stranger_name()
    made = {"migrated": databases.make(like=migrated_template), "empty": databases.make()}
    try:
        for url in made.values():
            databases.run(lay_traps(url, name))
        yield made
    finally:
        for url in made.values():
            databases.drop(url)
        databases.run(databases.execute(f"DROP ROLE {name}"))


@pytest.fixture
def database_url(
    request: pytest.FixtureRequest, databases: Databases, templates: dict[str, str]
) -> Iterator[str]:
    """URL of a copy of a template, the migrated one if the test names none."""
    url = databases.make(like=templates[getattr(request, "param", "migrated")])
    yield url
    databases.drop(url)


@pytest.fixture
async def traps(database_url: str) -> AsyncIterator[Traps]:
    """The stranger's functions, with the logins that call them."""
    async with watched(database_url) as traps:
        yield traps


async def write(database_url: str, user: UUID) -> None:
    """The platform writes rows of every table, with statements that call nothing of a stranger."""
    async with connected(database_url, server_settings={"search_path": "pg_catalog, public"}) as connection:
        writer = DatabaseWriter(connection, user, applies=False)
        await writer.sync()
        await writer.sync(1, ticket=2, symbol="EURGBP", mt5_position_id=2)
        await writer.guard("price gap", 1900, 2100)
        await writer.equity(1000)
        await writer.equity(700, 1)
        await writer.rate("EUR", "GBP", "0.9")
        await writer.set_limits(minimum_equity=50)
        await writer.close(2)


async def test_a_session_with_the_usual_path_calls_them(traps: Traps, database_url: str) -> None:
    """The calls that the other tests look for do happen in such a session."""
    async with connected(database_url) as connection:
        for statement in (
            "SELECT unnest(ARRAY['x'])",
            "SELECT to_jsonb('x'::text)",
            "SELECT format('%s', 1::bigint)",
            "SELECT lower('x'::name)",
            "SELECT 1::bigint + 1::numeric",
            "SELECT ARRAY['x'] || 'y'::text",
            "SELECT has_table_privilege('pg_class'::regclass, 'SELECT')",
        ):
            await connection.fetch(statement)
            assert await traps.calls() != [], statement
            await connection.execute("SET search_path = pg_catalog")
            await connection.fetch(statement)
            await connection.execute("RESET search_path")
            assert await traps.calls() == [], statement


@pytest.mark.timeout(180)
@pytest.mark.parametrize("commands", COMMANDS, ids=lambda commands: commands[0].split()[0])
async def test_commands_call_no_function_that_a_stranger_made(
    traps: Traps, database_url: str, guardwire: Guardwire, commands: tuple[str, ...]
) -> None:
    user = uuid4()
    await write(database_url, user)
    await traps.calls()
    for line in commands:
        command = line.format(user=user).split()
        done = await asyncio.to_thread(guardwire, *command, DATABASE_URL=database_url)
        assert await traps.calls() == [], command
        expected = (0, 1) if command[0] in ("check-platform", "verify") else (0,)
        assert done.returncode in expected, f"{command}: {done.stdout}{done.stderr}"


@pytest.mark.parametrize("database_url", ["empty"], indirect=True)
async def test_a_first_migration_calls_none_and_makes_nothing_that_will(
    traps: Traps, database_url: str, guardwire: Guardwire
) -> None:
    """Functions with an SQL-standard body keep the names that were found when they were made."""
    done = await asyncio.to_thread(guardwire, "migrate", "--roles", DATABASE_URL=database_url)
    assert done.returncode == 0, done.stderr
    assert await traps.calls() == []
    async with connected(database_url, server_settings=SAFE) as owner:
        assert await owner.fetch(DEPENDENCIES) == []


async def test_a_node_calls_none(traps: Traps, database_url: str, redis_url: str) -> None:
    user = uuid4()
    await write(database_url, user)
    await traps.calls()
    audits = audited()
    async with (
        node(database_url, redis_url, **QUICK) as running,
        mirror(running.url, running.token(user)) as account,
    ):
        await account.until(lambda: account.state["positions"]["open"] and not account.stale)
        for page in PAGES:
            await running.get(page, user)
        assert await traps.calls() == []
        before = account.revision
        await write(database_url, user)
        await account.until(lambda: account.revision > before and not account.stale, seconds=40)
        await account.until(lambda: audited() > audits + 2, seconds=40)
    assert await traps.calls() == []


def audited() -> float:
    """How many audits have read an account."""
    return METRICS.audits.get("equal") + METRICS.audits.get("different")


async def test_the_applier_calls_none(traps: Traps, database_url: str, tmp_path: Path) -> None:
    with applying(database_url, "alone", tmp_path):
        await write(database_url, uuid4())
        async with connected(database_url, server_settings=SAFE) as owner:
            await until_empty(lambda: owner.fetchval("SELECT count(*) FROM guardwire.inbox"))
            assert await owner.fetch("SELECT reason FROM guardwire.set_aside") == []
    assert await traps.calls() == []


async def until_empty(count: Callable[[], Awaitable[int]]) -> None:
    """Wait until the applier has applied every row."""
    async with asyncio.timeout(40):
        while await count():
            await asyncio.sleep(0.05)
