"""Least privilege: the platform knows nothing of us, the server writes no row of the platform."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from auth.revoked_rows import RevokedRows
from queries.capture import housekeep
from queries.channels import LIVE_QUERIES
from queries.migrations.run import driver_url, migrate
from queries.position_by_id import find_position
from realtime.errors import MigrationError
from realtime.feed.epoch import check_server, raise_epoch
from realtime.feed.sweep import sweep
from tests.queries.ledger import Ledger


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


async def write_everything(platform: Ledger, user: UUID) -> UUID:
    """One row of every kind that a platform writes."""
    row = await platform.log(user)
    await platform.log(user, 1, current_price=1960)
    await platform.equity(user, 10_000, currency="GBP")
    await platform.connection.execute("INSERT INTO guard_limits (user_id) VALUES ($1)", user)
    await platform.connection.execute("UPDATE instruments SET pip_size = 1 WHERE symbol = 'XAUUSD'")
    await platform.connection.execute("INSERT INTO fx_rates (base, quote, rate) VALUES ('GBP', 'USD', 1.25)")
    await platform.connection.execute("DELETE FROM guard_limits WHERE user_id = $1", user)
    async with platform.connection.transaction():
        for ticket in range(1, 400):
            await platform.log(user, 2, mt5_position_id=ticket)
    return row


async def test_a_platform_without_any_right_on_our_schema_is_captured_whole(
    logins: Logins, user: UUID
) -> None:
    await write_everything(Ledger(logins.platform), user)
    owner = Ledger(logins.owner)
    assert await owner.notes() == []
    assert len(await owner.book(user)) == 399
    for statement in (
        "SELECT * FROM guardwire.accounts",
        "SELECT guardwire.housekeep()",
        "INSERT INTO guardwire.pending (token, wakes) VALUES ('-', true)",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await logins.platform.execute(statement)


async def test_a_platform_whose_capture_fails_may_leave_its_notes(logins: Logins, user: UUID) -> None:
    definition = await logins.owner.fetchval(
        "SELECT pg_get_functiondef('guardwire.lock_reference(boolean)'::regprocedure)"
    )
    await logins.owner.execute("""
        CREATE OR REPLACE FUNCTION guardwire.lock_reference(changes boolean) RETURNS void LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'broken on purpose'; END $$""")
    await Ledger(logins.platform).log(user)
    await logins.owner.execute(definition)
    assert (await housekeep(logins.server)).notes_applied == 1
    assert list(await Ledger(logins.owner).book(user)) == ["1"]


async def test_the_server_may_do_all_that_serving_takes(logins: Logins, user: UUID) -> None:
    row = await write_everything(Ledger(logins.platform), user)
    server = logins.server
    (evaluation,) = await LIVE_QUERIES.evaluate(server, [user])
    assert evaluation.state["positions"]["total_positions"] == 399
    swept = await sweep(server, [user], [0], canary="canary=1", timeout_seconds=5)
    assert swept.changed == [(user, 0, evaluation.revision)]
    await housekeep(server)
    await check_server(server)
    before = await server.fetchval("SELECT epoch FROM guardwire.epoch")
    await raise_epoch(server, seen=evaluation.epoch)
    assert await server.fetchval("SELECT epoch FROM guardwire.epoch") > before

    engine = create_async_engine(driver_url(logins.server_url))
    try:
        found = await find_position(engine, user_id=user, position_id=row)
        assert found is not None
        assert found.ticket == 1
        revoked = RevokedRows(engine=engine)
        added = {"user_id": None, "token_id": "t", "keep_seconds": 60, "reason": "", "capacity": 9}
        assert await revoked.add(locked_until=None, **added)  # type: ignore[arg-type]
        assert [each.token_id for each in (await revoked.read(since=0))[0]] == ["t"]
        assert await revoked.undo(user_id=None, token_id="t") == 1
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
        "UPDATE instruments SET contract_size = 1",
        "INSERT INTO fx_rates (base) VALUES ('EUR')",
        "UPDATE guardwire.accounts SET revision = 0",
        "DELETE FROM guardwire.positions",
        "UPDATE guardwire.breaches SET cleared_at = now()",
        "SELECT guardwire.apply_tokens('{}')",
        "SELECT guardwire.lock_accounts('{}')",
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


async def test_a_login_that_may_not_migrate_is_told_so(logins: Logins, databases: Any) -> None:
    empty = databases.make()
    name = urlsplit(logins.server_url)
    try:
        with pytest.raises(MigrationError, match="may not migrate"):
            await migrate(urlunsplit(name._replace(path=urlsplit(empty).path)))
    finally:
        await asyncio.to_thread(databases.drop, empty)
