"""A platform that writes one row at a time, and what the capture made of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from tests.inbox import apply_inbox

USER = UUID("11111111-1111-4111-8111-111111111111")
OTHER = UUID("22222222-2222-4222-8222-222222222222")

#: What a sync says unless the test says otherwise.
SYNC: dict[str, Any] = {
    "symbol": "XAUUSD",
    "direction": "buy",
    "volume": "0.1",
    "entry_price": "1950.50",
    "current_price": "1955.75",
    "matched": 1,
    "event_type": "sync",
    "status": "success",
}

Record = dict[str, Any]


def at(seconds: float) -> datetime:
    """A moment of the tests' day."""
    return datetime(2026, 3, 2, 9, 0, tzinfo=UTC) + timedelta(seconds=seconds)


def literal(value: Any) -> str:
    """A value as SQL, so that PostgreSQL and not the driver decides what it is."""
    if value is None:
        return "NULL"
    if isinstance(value, datetime):
        value = value.isoformat()
    return "'" + str(value).replace("'", "''") + "'"


@dataclass
class Platform:
    """One connection of the platform; every method is one statement."""

    connection: Any
    user: UUID = USER

    async def insert(self, table: str, **columns: Any) -> UUID:
        """Insert one row; its id."""
        columns = {"id": uuid4(), **columns}
        values = ", ".join(literal(value) for value in columns.values())
        await self.connection.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values})")
        await self.apply()
        return columns["id"]  # type: ignore[no-any-return]

    async def sync(self, ticket: Any = 7, **columns: Any) -> UUID:
        """A sync row of ``ticket``, differing from SYNC in ``columns``."""
        row = {"user_id": self.user, "mt5_position_id": ticket, "created_at": at(0), **SYNC, **columns}
        return await self.insert("reconciliation_logs", **row)

    async def close(self, ticket: Any = 7, **columns: Any) -> UUID:
        return await self.sync(ticket, event_type="close", close_reason="tp", closed_price="1960", **columns)

    async def guard(self, reason: str, before: Any, after: Any, **columns: Any) -> UUID:
        """A market condition between two prices, now unless ``columns`` says when."""
        return await self.sync(
            None, event_type="guard_trigger", divergence_reason=reason, entry_price=before,
            current_price=after, **{"created_at": datetime.now(UTC), **columns},
        )  # fmt: skip

    async def equity(self, equity: Any, seconds: float | None = 0, **columns: Any) -> UUID:
        row = {"user_id": self.user, "equity": equity, "balance": equity, "currency": "USD"}
        moment = None if seconds is None else at(seconds)
        return await self.insert("equity_snapshots", **{**row, "created_at": moment, **columns})

    async def limit(self, **limits: Any) -> None:
        names, values = ", ".join(limits), ", ".join(map(literal, limits.values()))
        changes = ", ".join(f"{name} = excluded.{name}" for name in limits)
        await self.connection.execute(
            f"INSERT INTO guard_limits (user_id, {names}) VALUES ('{self.user}', {values}) "
            f"ON CONFLICT (user_id) DO UPDATE SET {changes}"
        )
        await self.apply()

    async def update(self, row_id: UUID, **columns: Any) -> None:
        changes = ", ".join(f"{name} = {literal(value)}" for name, value in columns.items())
        await self.connection.execute(f"UPDATE reconciliation_logs SET {changes} WHERE id = '{row_id}'")
        await self.apply()

    async def apply(self) -> None:
        """Apply the inbox, unless this connection is in a transaction: its rows arrive when it commits."""
        if not self.connection.is_in_transaction():
            await apply_inbox(self.connection)

    # ------------------------------------------------------------ what came of it

    async def account(self, user: UUID | None = None) -> Record:
        await self.apply()
        found = await self.connection.fetchrow(
            "SELECT * FROM guardwire.accounts WHERE user_id = $1", user or self.user
        )
        return dict(found) if found else {}

    async def revision(self) -> int:
        return (await self.account()).get("revision", 0)  # type: ignore[no-any-return]

    async def position(self, ticket: int = 7, user: UUID | None = None) -> Record:
        await self.apply()
        found = await self.connection.fetchrow(
            "SELECT * FROM guardwire.positions WHERE user_id = $1 AND ticket = $2", user or self.user, ticket
        )
        return dict(found) if found else {}

    async def rows(self, table: str, order: str = "1") -> list[Record]:
        """This user's rows of a derived table."""
        await self.apply()
        found = await self.connection.fetch(
            f"SELECT * FROM guardwire.{table} WHERE user_id = $1 ORDER BY {order}", self.user
        )
        return [dict(row) for row in found]

    async def events(self) -> list[str]:
        """Types of the recent events, oldest first."""
        return [row["event_type"] for row in await self.rows("events", "created_at, revision, ordinal")]

    async def set_aside(self) -> list[Record]:
        rows = await self.connection.fetch("SELECT * FROM guardwire.set_aside ORDER BY nth")
        return [dict(row) for row in rows]


@asynccontextmanager
async def connected(database_url: str, **options: Any) -> AsyncIterator[Any]:
    """A connection that is closed in the end, also when it is stuck."""
    connection = await asyncpg.connect(database_url, **options)
    try:
        yield connection
    finally:
        try:
            await asyncio.wait_for(connection.close(), 5)
        except TimeoutError:
            connection.terminate()
