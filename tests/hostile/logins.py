"""Logins of a database, each with the rights of one role, and the work of the others that goes on meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import asyncpg

from queries.capture import housekeep
from queries.migrations.run import migrate
from tests.audit.auditing import audited
from tests.databases import Databases
from tests.queries.database_writer import DatabaseWriter

SOURCES: Final = ("reconciliation_logs", "equity_snapshots", "guard_limits", "instruments", "fx_rates")
#: The grants of each role on the source tables, beside CONNECT.
GRANTS: Final = {
    "nobody": "",
    "reader": "".join(f"GRANT SELECT ON public.{table} TO {{login}};" for table in SOURCES),
    **{f"feed_{table}": f"GRANT INSERT ON public.{table} TO {{login}};" for table in SOURCES},
    "writer": "".join(
        f"GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON public.{table} TO {{login}};" for table in SOURCES
    ),
    "node": "GRANT guardwire_server TO {login};",
    # A cast to json of a stranger runs inside the copy with the rights of this role.
    "copier": "GRANT guardwire_inbox TO {login};",
}
ROLES: Final = tuple(GRANTS)
#: Roles that write, by the tables that they may insert into.
WRITES: Final = {
    **{f"feed_{table}": (table,) for table in SOURCES},
    "writer": SOURCES,
    "node": ("guard_limits",),
}
_PASSWORD: Final = "secret"
#: The modes of LOCK TABLE, weakest first.
LOCK_MODES: Final = (
    "ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE",
    "SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE",
)  # fmt: skip
#: Work that nobody delays takes at most this long, also on a busy machine.
PATIENCE_SECONDS: Final = 60.0


def insert(table: str, user: UUID) -> str:
    """An INSERT of one row of ``table``, of the account ``user`` where the table has users."""
    # More digits than old releases of PostgreSQL write for floating point by default.
    price = secrets.randbelow(10**15) / 10**12 + 1000
    return {
        "reconciliation_logs": "INSERT INTO public.reconciliation_logs (id, user_id, mt5_position_id, symbol,"
        " direction, volume, entry_price, current_price, matched, event_type, status, created_at) VALUES"
        f" ('{uuid4()}', '{user}', 7, 'XAUUSD', 'buy', 1, 1950, {price}, 1, 'sync', 'ok', pg_catalog.now())",
        "equity_snapshots": "INSERT INTO public.equity_snapshots (id, user_id, equity, balance, currency,"
        f" created_at) VALUES ('{uuid4()}', '{user}', {price}, {price}, 'GBP', pg_catalog.now())",
        "guard_limits": f"INSERT INTO public.guard_limits (user_id, minimum_equity) VALUES ('{uuid4()}', 5)",
        "instruments": "INSERT INTO public.instruments (symbol, contract_size, quote_currency)"
        f" VALUES ('S{secrets.token_hex(8).upper()}', 10, 'USD')",
        "fx_rates": "INSERT INTO public.fx_rates (id, base, quote, rate, created_at)"
        f" VALUES ('{uuid4()}', 'GBP', 'USD', {price} / 1000.0, pg_catalog.now())",
    }[table]


class Logins:
    """The URL of one login for each role, in a template database without connections."""

    def __init__(self, databases: Databases, migrated_template: str) -> None:
        self._databases = databases
        self.template = databases.make(like=migrated_template)
        suffix = secrets.token_hex(4)
        self.names = {role: f"{role}_{suffix}" for role in ROLES}
        databases.run(self._prepare())

    async def _prepare(self) -> None:
        await migrate(self.template, roles=True)
        connection = await asyncpg.connect(self.template)
        try:
            for role, name in self.names.items():
                await connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{_PASSWORD}'")
                await connection.execute(GRANTS[role].format(login=name) or "SELECT 1")
                # In this schema the login may make types, functions and operators, which others might use by mistake.
                await connection.execute(f"CREATE SCHEMA own_{name} AUTHORIZATION {name}")
        finally:
            await connection.close()

    def url(self, database_url: str, role: str) -> str:
        """The URL of the database for this role."""
        parts = urlsplit(database_url)
        address = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{self.names[role]}:{_PASSWORD}@{address}"))

    def drop(self) -> None:
        """Drop the template and the logins; the copies of the template are gone by then."""
        self._databases.drop(self.template)
        for name in self.names.values():
            self._databases.run(self._databases.execute(f"DROP ROLE {name}"))


class Stage:
    """A database with two accounts, one attacker, and a platform and a node that go on beside it."""

    def __init__(self, role: str, name: str, url: str, connections: tuple[Any, Any, Any, Any]) -> None:
        self.role, self.name = role, name
        self.owner, self.attacker, self._writer, self._node = connections
        self.url = url
        self._term = 0
        #: The attacker writes rows of the first account; the second one belongs to another user.
        self.own, self.other = uuid4(), uuid4()
        #: Messages of the server to the attacker beside results: notices, warnings and log lines.
        self.heard: list[str] = []
        self.attacker.add_log_listener(lambda _, message: self.heard.append(str(message.as_dict())))

    async def begin(self) -> None:
        """Write some rows of both accounts, and make the node the applier."""
        for user in (self.own, self.other):
            writer = DatabaseWriter(self.owner, user)
            await writer.sync()
            await writer.equity(1000, currency="GBP")
        await self.hold()

    async def hold(self) -> None:
        """Make the node the only applier."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (term := await self._node.fetchval("SELECT guardwire.take_lease('node', 86400)")):
                await asyncio.sleep(0.05)
        self._term = term

    async def release(self) -> None:
        """Let another process be the applier."""
        await self._node.execute("SELECT guardwire.release_lease($1)", self._term)

    async def write_of_platform(self) -> None:
        """Write one row as the platform."""
        await self._writer.execute(insert("reconciliation_logs", self.other))

    async def write(self, *, user: UUID | None = None) -> None:
        """Write one row as the attacker into each table that it may insert into, in one transaction."""
        statements = [insert(table, user or self.own) for table in WRITES.get(self.role, ())]
        await self.attacker.execute(";".join(statements) or "SELECT 1")

    async def others_go_on(self) -> None:
        """Check that no work is delayed: the platform commits rows of every kind, and the node applies them and keeps
        house.
        """
        async with asyncio.timeout(PATIENCE_SECONDS):
            async with self._writer.transaction():
                for table in SOURCES:
                    await self._writer.execute(insert(table, self.other))
            await self._writer.execute(insert("reconciliation_logs", self.other))
            await self.apply()
            await housekeep(self._node)

    async def apply(self) -> None:
        """Check that the node applies every visible row, and sets none aside."""
        assert await self._node.fetchval("SELECT guardwire.renew_lease($1, 86400)", self._term)
        while await self._node.fetchval("SELECT applied FROM guardwire.apply($1, 1000)", self._term):
            pass
        assert await self.owner.fetchval("SELECT count(*) FROM guardwire.inbox") == 0
        assert await self.owner.fetch("SELECT sqlstate, reason FROM guardwire.set_aside") == []

    async def is_migrated(self) -> None:
        """Check that a migration that replaces every function, trigger and grant is not delayed either."""
        await self.owner.execute("UPDATE guardwire.code SET digest = 'of another release'")
        async with asyncio.timeout(PATIENCE_SECONDS):
            await migrate(self.url, roles=True)

    async def is_right(self) -> None:
        """Apply the inbox as the node, and check that both accounts agree with the raw log."""
        await self.apply()
        await housekeep(self._node)
        for user in (self.own, self.other):
            verdict = await audited(self.owner, user)
            assert verdict.differences == []
            assert not verdict.passed_by

    async def secrets(self) -> list[str]:
        """Names and values of the owner that no message of the server may contain."""
        channel, secret = await self.owner.fetchrow(
            "SELECT delta_channel, delta_secret FROM guardwire.configuration"
        )
        return [channel, secret.hex(), str(self.other), self.other.hex]


@contextlib.asynccontextmanager
async def staged(logins: Logins, database_url: str, role: str) -> AsyncIterator[Stage]:
    """A stage on a database of its own, while the context lasts."""
    urls = [database_url, *(logins.url(database_url, each) for each in (role, "writer", "node"))]
    owner, attacker, writer, node = connections = [await asyncpg.connect(url) for url in urls]
    try:
        stage = Stage(role, logins.names[role], database_url, (owner, attacker, writer, node))
        await stage.begin()
        yield stage
    finally:
        for connection in connections:
            connection.terminate()
