"""What a platform writes, in a few words: rows that it writes, and what the live queries then say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from queries.channels import LIVE_QUERIES
from realtime.patch import State
from tests.inbox import apply_inbox

#: What a sync of a tenth of a lot of gold says; a test names what it wants otherwise.
GOLD: Mapping[str, Any] = {
    "event_type": "sync",
    "mt5_position_id": 1,
    "symbol": "XAUUSD",
    "direction": "buy",
    "volume": "0.1",
    "entry_price": "1950.50",
    "current_price": "1955.75",
    "matched": 1,
}


class Ledger:
    """Writes over one connection of asyncpg; seconds count from the moment it was made, a minute ago."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.begun = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)

    def at(self, second: float) -> datetime:
        """The moment that a row of ``second`` carries."""
        return self.begun + timedelta(seconds=second)

    async def insert(self, table: str, **columns: Any) -> UUID:
        """Insert one row of whatever columns, as text that the database reads; its id."""
        row = {"id": uuid4(), **columns}
        names = ", ".join(row)
        values = ", ".join(_literal(value) for value in row.values())
        await self.connection.execute(f"INSERT INTO {table} ({names}) VALUES ({values})")
        await self.apply()
        return UUID(str(row["id"]))

    async def log(self, user_id: Any, second: float = 0, **columns: Any) -> UUID:
        """A row of the log: a sync of ticket 1, with these columns otherwise."""
        row = {**GOLD, "user_id": user_id, "created_at": self.at(second), **columns}
        return await self.insert("reconciliation_logs", **row)

    async def close(self, user_id: Any, second: float = 0, **columns: Any) -> UUID:
        """A row that closes ticket 1."""
        row: dict[str, Any] = {"event_type": "close", "close_reason": "take profit", **columns}
        return await self.log(user_id, second, **row)

    async def equity(self, user_id: Any, equity: Any, second: float = 0, **columns: Any) -> UUID:
        """A row of equity in USD."""
        row = {"equity": equity, "currency": "USD", "created_at": self.at(second), **columns}
        return await self.insert("equity_snapshots", user_id=user_id, **row)

    async def update(self, row_id: UUID, **columns: Any) -> None:
        """Change a row of the log in place."""
        changes = ", ".join(f"{name} = {_literal(value)}" for name, value in columns.items())
        await self.connection.execute(f"UPDATE reconciliation_logs SET {changes} WHERE id = $1", row_id)
        await self.apply()

    async def apply(self) -> None:
        """Apply the inbox, unless this connection is in a transaction: its rows arrive when it commits."""
        if not self.connection.is_in_transaction():
            await apply_inbox(self.connection)

    async def state(self, user_id: UUID) -> State:
        """What the live queries say of an account."""
        await self.apply()
        (evaluation,) = await LIVE_QUERIES.evaluate(self.connection, [user_id])
        return evaluation.state

    async def revision(self, user_id: UUID) -> int:
        """The account's revision; 0 when it has none."""
        await self.apply()
        (evaluation,) = await LIVE_QUERIES.evaluate(self.connection, [user_id])
        return evaluation.revision

    async def book(self, user_id: UUID) -> State:
        """The open positions of an account, by ticket."""
        book: State = (await self.state(user_id))["positions"]["open"]
        return book

    async def set_aside(self) -> list[Any]:
        """Rows that could not be applied, in order."""
        rows: list[Any] = await self.connection.fetch("SELECT * FROM guardwire.set_aside ORDER BY nth")
        return rows

    async def revisions(self) -> dict[UUID, int]:
        """Every account's revision."""
        await self.apply()
        rows = await self.connection.fetch("SELECT user_id, revision FROM guardwire.accounts")
        return dict(rows)


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    text = value.isoformat() if isinstance(value, datetime) else str(value)
    return "'" + text.replace("'", "''") + "'"
