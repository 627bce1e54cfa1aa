"""Least privilege: the platform knows nothing of schema guardwire, and the server writes no row of the platform."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from auth.revoked_rows import RevokedRows
from queries.capture import backfill, copy_reference, housekeep, prune, rebuild, wait_until_applied
from queries.migrations.run import driver_url, migrate
from queries.position_by_id import find_position
from realtime.errors import MigrationError
from realtime.feed.epoch import check_server, raise_epoch
from realtime.feed.sweep import sweep
from tests.queries.database_writer import DatabaseWriter

#: A row that no platform wrote.
FORGE = """
INSERT INTO guardwire.inbox (account, source, operation, xid, arrived_at)
VALUES (gen_random_uuid(), 'l', 'i', '1', now())
"""


@dataclass
class Logins:
    """Connections of an owner, a platform and a server, each a login of its own; the URL of the server's."""

    owner: Any
    platform: Any
    server: Any
    server_url: str


@pytest.fixture
async def logins(migrated_url: str) -> AsyncIterator[Logins]:
    await migrate(migrated_url, roles=True)
    await migrate(migrated_url, roles=True)
    owner = await asyncpg.connect(migrated_url)
    names = {role: f"{role}_{secrets.token_hex(4)}" for role in ("guardwire_platform", "guardwire_server")}
    for role, name in names.items():
        await owner.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret' IN ROLE {role}")
    urls = {role: _as(migrated_url, name) for role, name in names.items()}
    connections = [await asyncpg.connect(urls[role]) for role in names]
    platform, server = connections
    yield Logins(owner, platform, server, urls["guardwire_server"])
    for connection in connections:
        await connection.close()
    for name in names.values():
        await owner.execute(f"DROP ROLE {name}")
    await owner.close()


def _as(url: str, name: str) -> str:
    parts = urlsplit(url)
    address = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{name}:secret@{address}"))


async def write_everything(platform: DatabaseWriter) -> None:
    """One row of every kind that a platform writes."""
    row_id = await platform.sync()
    await platform.sync(1, current_price=1960)
    await platform.update(row_id, current_price=1961)
    await platform.equity(10_000, currency="GBP")
    await platform.set_limits(minimum_equity=5)
    await platform.execute("UPDATE public.instruments SET pip_size = 1 WHERE symbol = 'XAUUSD'")
    await platform.rate("GBP", "USD", 1.25)
    await platform.execute("DELETE FROM guard_limits WHERE user_id = $1", platform.user_id)
    async with platform.connection.transaction():
        for ticket in range(1, 100):
            await platform.sync(2, ticket=ticket)


async def test_rows_of_a_platform_without_any_right_on_our_schema_are_applied_by_the_server(
    logins: Logins,
) -> None:
    platform = DatabaseWriter(logins.platform, applies=False)
    await write_everything(platform)
    server = DatabaseWriter(logins.server, platform.user_id)
    assert len(await server.book()) == 99
    assert await server.set_aside() == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM guardwire.accounts",
        "SELECT * FROM guardwire.inbox",
        "SELECT guardwire.housekeep()",
        "SELECT guardwire.apply(0, 1)",
        "SELECT guardwire.take_lease('me', 60)",
        "SELECT guardwire.no_account()",
        FORGE,
        "CREATE TRIGGER mine AFTER INSERT ON fx_rates FOR EACH ROW EXECUTE FUNCTION guardwire.copy_row('l')",
    ],
)
async def test_the_platform_may_not(logins: Logins, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await logins.platform.execute(statement)


async def test_a_login_may_copy_no_rows_of_a_table_of_its_own(logins: Logins) -> None:
    """A trigger on a table of its own would let a login forge rows of the platform."""
    await logins.owner.execute("CREATE SCHEMA own; GRANT ALL ON SCHEMA own TO guardwire_platform")
    await logins.platform.execute("CREATE TABLE own.rows (user_id uuid)")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await logins.platform.execute(
            "CREATE TRIGGER mine AFTER INSERT ON own.rows FOR EACH ROW EXECUTE FUNCTION guardwire.copy_row('l')"
        )
    await logins.owner.execute("DROP SCHEMA own CASCADE")


async def test_the_server_may_apply_the_inbox(logins: Logins) -> None:
    platform = DatabaseWriter(logins.platform, applies=False)
    await write_everything(platform)
    server = logins.server
    term = await server.fetchval("SELECT guardwire.take_lease('server', 60)")
    assert await server.fetchval("SELECT guardwire.renew_lease($1, 60)", term)
    assert await server.fetchval("SELECT (guardwire.apply($1, 1000)).applied", term) > 100
    assert await server.fetchval("SELECT (guardwire.apply_singly($1, 1000)).applied", term) == 0
    assert await server.fetchval("SELECT waiting FROM guardwire.inbox_status()") == 0
    await server.execute("SELECT guardwire.release_lease($1)", term)
    assert await wait_until_applied(server, platform.user_id, timeout_seconds=5) is not None


async def test_the_server_may_do_all_that_serving_takes(logins: Logins) -> None:
    platform = DatabaseWriter(logins.platform, applies=False)
    await write_everything(platform)
    server = DatabaseWriter(logins.server, platform.user_id)
    evaluation = await server.evaluation()
    swept = await sweep(logins.server, [server.user_id], [0], canary="canary=1", timeout_seconds=5)
    assert swept.changed == [(server.user_id, 0, evaluation.revision)]
    await housekeep(logins.server)
    await prune(logins.server)
    assert await rebuild(logins.server, server.user_id) == 101
    await copy_reference(logins.server)
    await backfill(logins.server, progress=lambda _: None)
    await server.set_limits(minimum_equity=7)
    assert (await server.drawdown())["minimum_equity"] == 7
    await check_server(logins.server)
    before = await server.value("SELECT epoch FROM guardwire.epoch")
    await raise_epoch(logins.server, seen=evaluation.epoch)
    assert await server.value("SELECT epoch FROM guardwire.epoch") > before


async def test_the_server_may_look_up_positions_and_revoke_tokens(logins: Logins) -> None:
    platform = DatabaseWriter(logins.platform, applies=False)
    row_id = await platform.sync(ticket=7)
    await DatabaseWriter(logins.server).apply()
    engine = create_async_engine(driver_url(logins.server_url))
    try:
        found = await find_position(engine, user_id=platform.user_id, position_id=row_id)
        assert found is not None
        assert found.ticket == 7
        revoked = RevokedRows(engine=engine)
        added = {"user_id": None, "token_id": "t", "keep_seconds": 60, "reason": "", "capacity": 9}
        assert await revoked.add(locked_until=None, **added)  # type: ignore[arg-type]
        assert [each.token_id for each in (await revoked.read(since=0))[0]] == ["t"]
        await revoked.prune()
    finally:
        await engine.dispose()


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO reconciliation_logs (user_id) VALUES (NULL)",
        "UPDATE reconciliation_logs SET matched = 0",
        "DELETE FROM reconciliation_logs",
        "TRUNCATE reconciliation_logs",
        "INSERT INTO equity_snapshots (user_id) VALUES (NULL)",
        "UPDATE public.instruments SET contract_size = 1",
        "INSERT INTO fx_rates (base) VALUES ('EUR')",
        "DELETE FROM guard_limits",
        "UPDATE guardwire.accounts SET revision = 0",
        "DELETE FROM guardwire.positions",
        "UPDATE guardwire.breaches SET cleared_at = now()",
        "DELETE FROM guardwire.inbox",
        "UPDATE guardwire.inbox SET account = gen_random_uuid()",
        FORGE,
        "DELETE FROM guardwire.set_aside",
        "UPDATE guardwire.applier SET term = 7",
        "UPDATE guardwire.limits SET minimum_equity = 0",
        "UPDATE guardwire.configuration SET delta_channel = 'mine'",
        "SELECT guardwire.apply_rows('{}', '{}')",
        "SELECT guardwire.lock_accounts('{}')",
        "SELECT guardwire.publish('{}')",
        "SELECT guardwire.copy_limits(gen_random_uuid(), '{}', 0)",
        "CREATE TABLE guardwire.mine ()",
        "ALTER TABLE reconciliation_logs DISABLE TRIGGER ALL",
    ],
)
async def test_the_server_may_not(logins: Logins, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await logins.server.execute(statement)


@pytest.mark.parametrize("statement", ["SELECT * FROM payroll.salaries", "SELECT * FROM public.customers"])
async def test_neither_role_may_read_what_is_none_of_its_business(logins: Logins, statement: str) -> None:
    await logins.owner.execute("""
        CREATE SCHEMA payroll;
        CREATE TABLE payroll.salaries (amount int);
        CREATE TABLE public.customers (name text)
    """)
    for login in (logins.server, logins.platform):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await login.execute(statement)


async def test_functions_of_a_writers_session_belong_to_a_role_that_may_only_insert(logins: Logins) -> None:
    """And no function that runs as its owner looks a name up by its caller's path."""
    owners = await logins.owner.fetch("""
        SELECT DISTINCT r.rolname, r.rolsuper, r.rolcanlogin FROM pg_proc AS p JOIN pg_roles AS r ON r.oid = p.proowner
        JOIN pg_trigger AS t ON t.tgfoid = p.oid JOIN pg_class AS c ON c.oid = t.tgrelid
        WHERE p.pronamespace = 'guardwire'::regnamespace AND c.relnamespace = 'public'::regnamespace""")
    assert [tuple(owner) for owner in owners] == [("guardwire_inbox", False, False)]
    rights = await logins.owner.fetch("""
        SELECT c.relname, p.right FROM pg_class AS c,
               unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER']) AS p ("right")
        WHERE c.relnamespace IN ('guardwire'::regnamespace, 'public'::regnamespace) AND c.relkind IN ('r', 'p')
          AND has_table_privilege('guardwire_inbox', c.oid, p.right)""")
    assert [tuple(right) for right in rights] == [("inbox", "INSERT")]
    unprotected = await logins.owner.fetch("""
        SELECT p.oid::regprocedure::text FROM pg_proc AS p
        WHERE p.pronamespace = 'guardwire'::regnamespace AND p.prosecdef
          AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false)
          AND p.proowner <> 'guardwire_inbox'::regrole""")
    assert unprotected == []


async def test_a_role_that_is_nobody_may_call_no_function(logins: Logins) -> None:
    callable_by_all = await logins.owner.fetch("""
        SELECT p.oid::regprocedure::text FROM pg_proc AS p
        WHERE p.pronamespace = 'guardwire'::regnamespace AND has_function_privilege('public', p.oid, 'EXECUTE')""")
    assert callable_by_all == []


async def test_a_login_that_may_not_migrate_is_refused_in_one_sentence(
    logins: Logins, databases: Any
) -> None:
    empty = databases.make()
    name = urlsplit(logins.server_url)
    try:
        with pytest.raises(MigrationError, match=r"this login may not migrate: .*permission denied"):
            await migrate(urlunsplit(name._replace(path=urlsplit(empty).path)))
    finally:
        await asyncio.to_thread(databases.drop, empty)
