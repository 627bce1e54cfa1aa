"""Writes a platform's rows of one account."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg

Run = Callable[[Coroutine[Any, Any, Any]], Any]

_LOG: Final = "reconciliation_logs"
_END_SESSIONS: Final = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"
_OPENED: Final = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)


class Trader:
    """Appends rows for one account, each call in a transaction of its own."""

    def __init__(self, run: Run, database_url: str, *, another_database_url: str) -> None:
        self.user_id: UUID = uuid4()
        self._run = run
        self._url = database_url
        self._another_url = another_database_url

    def open(self, ticket: int, symbol: str, price: float, *, minutes: int = 0, **columns: Any) -> None:
        """Open a position of 0.1 lot at ``price``, ``minutes`` after the others."""
        opened = _OPENED + timedelta(minutes=minutes)
        row = {"entry_price": price, "current_price": price, "direction": "buy", "volume": 0.1, "matched": 1}
        # Only the present row is a sync, because a sync of two hours ago would mean that the clock is wrong.
        self.append(ticket, event_type="warning", symbol=symbol, created_at=opened, **{**row, **columns})
        self.append(ticket, symbol=symbol, **{**row, **columns})

    def move(
        self, ticket: int, price: float, *, symbol: str = "XAUUSD", entry_price: float = 1950.50
    ) -> None:
        """Write a new price of a position that `open` opened."""
        row: dict[str, Any] = {"symbol": symbol, "direction": "buy", "volume": 0.1, "matched": 1}
        self.append(ticket, event_type="sync", entry_price=entry_price, current_price=price, **row)

    def close(self, ticket: int) -> None:
        """A position is closed."""
        self.append(ticket, event_type="close", close_reason="stop loss", closed_price=1940)

    def append(self, ticket: int | None, *, event_type: str = "sync", **columns: Any) -> None:
        """Write one row of the log with these values."""
        row = {"event_type": event_type, "status": "success", "mt5_position_id": ticket, **columns}
        self.insert(_LOG, **row)

    def equity(self, equity: float, *, balance: float = 10_000, currency: str = "USD") -> None:
        """Write one equity row."""
        self.insert("equity_snapshots", equity=equity, balance=balance, currency=currency)

    def insert(self, table: str, **columns: Any) -> None:
        """Write one row into any of the platform's tables."""
        row = {"user_id": self.user_id, **columns}
        names = ", ".join(row)
        # Values as text, because the server reads them by the columns' own types.
        values = ", ".join(f"${at}::text::{_type(name)}" for at, name in enumerate(row, 1))
        self.execute(f"INSERT INTO {table} ({names}) VALUES ({values})", *map(_text, row.values()))

    def execute(self, statement: str, *arguments: Any) -> None:
        """Run one statement and commit it."""
        self._run(self._execute(statement, arguments))

    @contextlib.contextmanager
    def nobody_else_connected(self) -> Iterator[None]:
        """Make the database unreachable for everybody while the context lasts."""
        name = urlsplit(self._url).path.removeprefix("/")
        self._run(self._beside(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'))
        try:
            self._run(self._beside(_END_SESSIONS, name))
            yield
        finally:
            self._run(self._beside(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'))

    async def _beside(self, statement: str, *arguments: Any) -> None:
        """Run one statement from a database that stays reachable."""
        connection = await asyncpg.connect(self._another_url)
        try:
            await connection.execute(statement, *arguments)
        finally:
            await connection.close()

    async def _execute(self, statement: str, arguments: tuple[Any, ...]) -> None:
        connection = await asyncpg.connect(self._url)
        try:
            await connection.execute(statement, *arguments)
        finally:
            await connection.close()


def _type(column: str) -> str:
    if column in ("user_id", "id"):
        return "uuid"
    if column.endswith("_at"):
        return "timestamptz"
    if column in ("mt5_position_id", "matched", "countdown_seconds", "sync_overdue_seconds"):
        return "bigint"
    return "text" if column in _TEXTS else "numeric"


_TEXTS: Final = frozenset(
    {
        "symbol",
        "direction",
        "event_type",
        "status",
        "currency",
        "divergence_reason",
        "close_reason",
        "error_message",
    }
)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
