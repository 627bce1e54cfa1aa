"""Commits the platform's rows to PostgreSQL, over one connection for each writer of the platform."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Self
from uuid import UUID

import asyncpg

from realtime.simulator.incidents import spread_row
from realtime.simulator.platform import Past
from realtime.simulator.rows import (
    LOG_COLUMN_TYPES,
    EquityRow,
    FxRow,
    InPlaceClose,
    LogRow,
    Transaction,
    new_id,
)

_LOG_COLUMNS: Final = ", ".join(LOG_COLUMN_TYPES)
_LOG_ARRAYS: Final = ", ".join(f"${at}::{kind}[]" for at, kind in enumerate(LOG_COLUMN_TYPES.values(), 1))

_INSERT_LOG: Final = f"INSERT INTO reconciliation_logs ({_LOG_COLUMNS}) SELECT * FROM unnest({_LOG_ARRAYS})"  # noqa: S608 constants only
_INSERT_EQUITY: Final = """
INSERT INTO equity_snapshots (user_id, equity, balance, currency, cash_flow, created_at)
SELECT * FROM unnest($1::uuid[], $2::numeric[], $3::numeric[], $4::text[], $5::numeric[], $6::timestamptz[])
"""
_INSERT_FX: Final = """
INSERT INTO fx_rates (base, quote, rate, created_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::numeric[], $4::timestamptz[])
"""
_CLOSE_IN_PLACE: Final = """
UPDATE reconciliation_logs SET close_reason = $2, closed_price = $3, pnl_gbp = $4, updated_at = $5
WHERE id = $1
"""
_RESET_PEAK: Final = """
INSERT INTO guard_limits (user_id, peak_since) VALUES ($1, $2)
ON CONFLICT (user_id) DO UPDATE SET peak_since = excluded.peak_since
"""
# A real platform knows its open positions. This one reads those of an earlier run from Guardwire's tables.
_LEFT_OPEN: Final = """
SELECT user_id, ticket, symbol, direction FROM guardwire.positions WHERE is_open AND user_id = ANY ($1)
"""
_LEFT_WIDE: Final = """
SELECT user_id, symbol FROM guardwire.market_alerts
WHERE condition_type = 'bid_ask_spread' AND alert_type = 'critical' AND user_id = ANY ($1)
"""
_PAST: Final = """
SELECT account.user_id, account.equity, account.currency, account.peak_equity,
       coalesce((SELECT max(ticket) FROM guardwire.positions AS p
                 WHERE p.user_id = account.user_id AND ticket < 2000000000), 0) AS last_ticket
FROM guardwire.accounts AS account WHERE account.user_id = ANY ($1)
"""


@dataclass(slots=True)
class RowCounts:
    """The numbers of rows and commits so far."""

    log_rows: int = 0
    equity_rows: int = 0
    fx_rows: int = 0
    updated_rows: int = 0
    odd_rows: int = 0
    refused_rows: int = 0
    commits: int = 0


@dataclass(slots=True)
class Writer:
    """Open connections to the platform's database."""

    pool: asyncpg.Pool
    written: RowCounts = field(default_factory=RowCounts)

    @classmethod
    async def connect(cls, database_url: str, *, connections: int) -> Self:
        """Connect; raises asyncpg's errors."""
        # Older platforms have timestamp columns without a zone, which hold UTC.
        settings = {"timezone": "UTC", "application_name": "guardwire simulate"}
        pool = await asyncpg.create_pool(
            database_url.replace("+asyncpg", ""), min_size=1, max_size=connections, server_settings=settings
        )
        return cls(pool)

    async def close(self) -> None:
        """Close every connection after its present statement."""
        await self.pool.close()

    async def past(self, user_ids: Sequence[UUID]) -> dict[UUID, Past]:
        """The state of these accounts after an earlier run; empty in a database without Guardwire."""
        if await self.pool.fetchval("SELECT to_regclass('guardwire.accounts')") is None:
            return {}
        rows = await self.pool.fetch(_PAST, user_ids)
        return {
            row["user_id"]: Past(
                last_ticket=row["last_ticket"],
                equity=float(row["equity"]) if row["equity"] is not None and row["equity"] > 0 else None,
                currency=row["currency"],
                peak=float(row["peak_equity"] or 0),
            )
            for row in rows
        }

    async def leftovers(self, user_ids: Sequence[UUID], now: datetime) -> list[LogRow]:
        """Rows that end what an earlier run left: they close its positions and report that its spreads are normal."""
        if await self.pool.fetchval("SELECT to_regclass('guardwire.positions')") is None:
            return []
        closes = [
            LogRow(
                id=new_id(),
                user_id=row["user_id"],
                mt5_position_id=row["ticket"],
                symbol=row["symbol"],
                direction=row["direction"],
                matched=1,
                close_reason="platform restarted",
                event_type="close",
                created_at=now,
                updated_at=now,
            )
            for row in await self.pool.fetch(_LEFT_OPEN, user_ids)
        ]
        wide = await self.pool.fetch(_LEFT_WIDE, user_ids)
        return [*closes, *(spread_row(row["user_id"], row["symbol"], 1, 2, 0.0, now) for row in wide)]

    async def commit(self, transaction: Transaction, *, hold_seconds: float = 0.0) -> None:
        """Commit ``transaction``, holding it open for ``hold_seconds`` after its rows are written."""
        written = self.written
        async with self.pool.acquire() as connection:
            async with connection.transaction():
                await self._insert(connection, transaction)
                if hold_seconds:
                    await asyncio.sleep(hold_seconds)
            written.commits += 1
            written.log_rows += len(transaction.log)
            written.equity_rows += len(transaction.equity)
            written.fx_rows += len(transaction.fx)
            for row in transaction.odd:
                await self._try(connection, row)

    async def _insert(self, connection: Any, transaction: Transaction) -> None:
        if transaction.log:
            await connection.execute(_INSERT_LOG, *_columns(transaction.log))
        if transaction.equity:
            await connection.execute(_INSERT_EQUITY, *_columns(transaction.equity))
        if transaction.fx:
            await connection.execute(_INSERT_FX, *_columns(transaction.fx))
        for close in transaction.closes:
            await connection.execute(_CLOSE_IN_PLACE, *close)
            self.written.updated_rows += 1
        for peak in transaction.peaks:
            await connection.execute(_RESET_PEAK, *peak)

    async def _try(self, connection: Any, row: LogRow) -> None:
        try:
            await connection.execute(_INSERT_LOG, *_columns([row]))
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError):
            # A type or constraint of the platform's own table refused the row, so no other part ever sees it.
            self.written.refused_rows += 1
        else:
            self.written.odd_rows += 1
            self.written.commits += 1


def _columns(
    rows: Sequence[LogRow] | Sequence[EquityRow] | Sequence[FxRow] | Sequence[InPlaceClose],
) -> list[Any]:
    """The rows as one array for each column."""
    return [list(column) for column in zip(*rows, strict=True)]
