"""DatabaseWriter writes rows as a platform does, and reads the state that Guardwire makes of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg

from guardwire.patch import State
from queries.channels import LIVE_QUERIES
from queries.live_query import Evaluation
from tests.inbox import apply_inbox

Record = dict[str, Any]

#: Columns of a sync of 0.1 lots of gold; a test names the columns that differ.
SYNC: Final[Mapping[str, Any]] = {
    "event_type": "sync",
    "status": "success",
    "symbol": "XAUUSD",
    "direction": "buy",
    "volume": "0.1",
    "entry_price": "1950.50",
    "current_price": "1955.75",
    "matched": 1,
}


class DatabaseWriter:
    """Writes rows of one account over one connection of asyncpg; each method is one statement.

    Outside a transaction the inbox is applied after each statement, and before anything is read. With
    ``applies=False`` the inbox is applied by `apply` alone.
    """

    def __init__(self, connection: Any, user_id: UUID | None = None, *, applies: bool = True) -> None:
        self.connection = connection
        self.user_id = user_id or uuid4()
        #: Second 0 of the rows: so long ago that no clock is called off.
        self.begun = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=40)
        self.applies = applies

    def of(self, user_id: UUID | None = None) -> DatabaseWriter:
        """A writer of another account, with the same connection and the same second 0."""
        other = DatabaseWriter(self.connection, user_id, applies=self.applies)
        other.begun = self.begun
        return other

    def at(self, second: float) -> datetime:
        """The moment of a second."""
        return self.begun + timedelta(seconds=second)

    # ------------------------------------------------------------ writing

    async def execute(self, statement: str, *arguments: Any) -> None:
        """Run any statement."""
        await self.connection.execute(statement, *arguments)
        await self._apply_outside_transactions()

    async def insert(self, table: str, **columns: Any) -> UUID:
        """Insert one row; its id. Values are literals, so that the database and not the driver reads them."""
        row = {"id": uuid4(), **columns}
        values = ", ".join(literal(value) for value in row.values())
        await self.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({values})")
        return UUID(str(row["id"]))

    async def sync(self, second: float = 0, *, ticket: Any = 1, **columns: Any) -> UUID:
        """Insert a row of the log: a sync of ``ticket`` that differs from `SYNC` in ``columns``."""
        row = {"user_id": self.user_id, "mt5_position_id": ticket, "created_at": self.at(second), **SYNC}
        return await self.insert("reconciliation_logs", **{**row, **columns})

    async def close(self, second: float = 0, *, ticket: Any = 1, **columns: Any) -> UUID:
        """Insert a row of the log that closes ``ticket``."""
        row = {"event_type": "close", "close_reason": "tp", "closed_price": "1960", **columns}
        return await self.sync(second, ticket=ticket, **row)

    async def guard(self, reason: str, before: Any, after: Any, second: float = 0, **columns: Any) -> UUID:
        """Insert a guard trigger of gold that found a market condition between two prices."""
        row = {"event_type": "guard_trigger", "divergence_reason": reason, "mt5_position_id": None}
        prices = {"entry_price": before, "current_price": after}
        return await self.sync(second, **{**row, **prices, **columns})

    async def equity(self, equity: Any, second: float = 0, **columns: Any) -> UUID:
        """Insert a row of equity in USD; the balance is the same."""
        row = {"user_id": self.user_id, "equity": equity, "balance": equity, "currency": "USD"}
        return await self.insert("equity_snapshots", **{**row, "created_at": self.at(second), **columns})

    async def rate(self, base: str, quote: str, rate: Any, second: float = 0, **columns: Any) -> UUID:
        """Insert an exchange rate."""
        row = {"base": base, "quote": quote, "rate": rate, "created_at": self.at(second), **columns}
        return await self.insert("fx_rates", **row)

    async def set_limits(self, **limits: Any) -> None:
        """Insert or update the account's guard limits."""
        names, values = ", ".join(limits), ", ".join(map(literal, limits.values()))
        changes = ", ".join(f"{name} = excluded.{name}" for name in limits)
        await self.execute(
            f"INSERT INTO guard_limits (user_id, {names}) VALUES ('{self.user_id}', {values})"
            f" ON CONFLICT (user_id) DO UPDATE SET {changes}"
        )

    async def update(self, row_id: UUID, **columns: Any) -> None:
        """Change a row of the log in place."""
        changes = ", ".join(f"{name} = {literal(value)}" for name, value in columns.items())
        await self.execute(f"UPDATE reconciliation_logs SET {changes} WHERE id = '{row_id}'")

    async def apply(self, *, batch_rows: int = 1000) -> int:
        """Apply the inbox, as the applier does; how many rows left it."""
        return await apply_inbox(self.connection, batch_rows=batch_rows)

    async def _apply_outside_transactions(self) -> None:
        if self.applies and not self.connection.is_in_transaction():
            await self.apply()

    # ------------------------------------------------------------ what the live queries show

    async def evaluation(self) -> Evaluation:
        """The account, as the live queries show it."""
        await self._apply_outside_transactions()
        (evaluation,) = await LIVE_QUERIES.evaluate(self.connection, [self.user_id])
        return evaluation

    async def state(self) -> State:
        """State of the account."""
        return (await self.evaluation()).state

    async def revision(self) -> int:
        """Revision of the account; 0 where it has none."""
        return (await self.evaluation()).revision

    async def book(self) -> State:
        """Open positions of the account that are matched, by ticket."""
        book: State = (await self.state())["positions"]["open"]
        return book

    async def drawdown(self) -> State:
        """Drawdown of the account."""
        drawdown: State = (await self.state())["guards"]["drawdown"]
        return drawdown

    # ------------------------------------------------------------ what the tables hold

    async def value(self, query: str, *arguments: Any) -> Any:
        """First column of the first row of any query."""
        await self._apply_outside_transactions()
        return await self.connection.fetchval(query, *arguments)

    async def account(self) -> Record:
        """The account's row of guardwire.accounts; empty where it has none."""
        return next(iter(await self.rows("accounts")), {})

    async def position(self, ticket: int = 1) -> Record:
        """A row of guardwire.positions, open or closed; empty where there is none."""
        return next((row for row in await self.rows("positions") if row["ticket"] == ticket), {})

    async def rows(self, table: str, order: str = "1") -> list[Record]:
        """The account's rows of a table of schema guardwire."""
        await self._apply_outside_transactions()
        query = f"SELECT * FROM guardwire.{table} WHERE user_id = $1 ORDER BY {order}"
        return [dict(row) for row in await self.connection.fetch(query, self.user_id)]

    async def events(self) -> list[str]:
        """Types of the account's recent events, oldest first."""
        return [row["event_type"] for row in await self.rows("events", "created_at, revision, ordinal")]

    async def revisions(self) -> dict[UUID, int]:
        """Revision of every account."""
        await self._apply_outside_transactions()
        return dict(await self.connection.fetch("SELECT user_id, revision FROM guardwire.accounts"))

    async def inbox(self) -> list[Record]:
        """Rows that wait in the inbox, in order; nothing is applied before."""
        rows = await self.connection.fetch("SELECT * FROM guardwire.inbox ORDER BY nth")
        return [dict(row) for row in rows]

    async def set_aside(self) -> list[Record]:
        """Rows that could not be applied, in order."""
        rows = await self.connection.fetch("SELECT * FROM guardwire.set_aside ORDER BY nth")
        return [dict(row) for row in rows]


def literal(value: Any) -> str:
    """A value as an SQL literal of no type."""
    if value is None:
        return "NULL"
    text = value.isoformat() if isinstance(value, datetime) else str(value)
    return "'" + text.replace("'", "''") + "'"


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
