"""The platform's tables, written from the oracle's records. Values travel as text, because text can also be odd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from realtime.audit.history import EquityRow, FxRate, Instrument, Limits, LogRow


@dataclass(frozen=True)
class Table:
    """A table of the platform: its columns by the record's fields, each with its type."""

    name: str
    columns: Mapping[str, tuple[str, str]]

    async def insert(self, connection: Any, rows: Sequence[Any]) -> None:
        """Insert ``rows`` with one statement, in their order."""
        names = ", ".join(name for name, _ in self.columns.values())
        values = ", ".join(f"row.{name}::{kind}" for name, kind in self.columns.values())
        arrays = ", ".join(f"${at}::text[]" for at in range(1, len(self.columns) + 1))
        await connection.execute(
            f"INSERT INTO {self.name} ({names}) SELECT {values} FROM unnest({arrays}) AS row ({names})",
            *([_text(getattr(row, field)) for row in rows] for field in self.columns),
        )

    async def update(self, connection: Any, ids: Sequence[str], values: Mapping[str, Any]) -> list[str]:
        """Set ``values`` (by field) in the rows ``ids`` with one statement; ids in that order."""
        columns = [self.columns[field] for field in values]
        assignments = ", ".join(f"{name} = ${at}::text::{kind}" for at, (name, kind) in enumerate(columns, 2))
        updated = await connection.fetch(
            f"UPDATE {self.name} SET {assignments} WHERE id = ANY ($1::text[]::uuid[]) RETURNING id",
            list(ids),
            *map(_text, values.values()),
        )
        return [str(row["id"]) for row in updated]


LOG: Final = Table(
    "reconciliation_logs",
    {
        "id": ("id", "uuid"),
        "user_id": ("user_id", "uuid"),
        "ticket": ("mt5_position_id", "bigint"),
        "event_type": ("event_type", "text"),
        "symbol": ("symbol", "text"),
        "direction": ("direction", "text"),
        "volume": ("volume", "numeric"),
        "entry_price": ("entry_price", "numeric"),
        "current_price": ("current_price", "numeric"),
        "take_profit": ("take_profit", "numeric"),
        "stop_loss": ("stop_loss", "numeric"),
        "matched": ("matched", "integer"),
        "divergence_reason": ("divergence_reason", "text"),
        "close_reason": ("close_reason", "text"),
        "closed_price": ("closed_price", "numeric"),
        "pnl_gbp": ("pnl_gbp", "numeric"),
        "status": ("status", "text"),
        "error_message": ("error_message", "text"),
        "created_at": ("created_at", "timestamptz"),
        "updated_at": ("updated_at", "timestamptz"),
    },
)
EQUITY: Final = Table(
    "equity_snapshots",
    {
        "id": ("id", "uuid"),
        "user_id": ("user_id", "uuid"),
        "equity": ("equity", "numeric"),
        "balance": ("balance", "numeric"),
        "currency": ("currency", "text"),
        "cash_flow": ("cash_flow", "numeric"),
        "created_at": ("created_at", "timestamptz"),
    },
)
FX: Final = Table(
    "fx_rates",
    {
        "base": ("base", "text"),
        "quote": ("quote", "text"),
        "rate": ("rate", "numeric"),
        "created_at": ("created_at", "timestamptz"),
    },
)
_LIMITS: Final = tuple(name for name in Limits.__dataclass_fields__ if name != "user_id")


async def insert(connection: Any, *rows: LogRow | EquityRow | FxRate) -> None:
    """Insert ``rows``, each with a statement of its own."""
    for row in rows:
        table = LOG if isinstance(row, LogRow) else EQUITY if isinstance(row, EquityRow) else FX
        await table.insert(connection, [row])


async def set_limits(connection: Any, limits: Limits) -> None:
    """Give a user these limits."""
    names = ", ".join(_LIMITS)
    places = ", ".join(f"${at}" for at in range(2, len(_LIMITS) + 2))
    changes = ", ".join(f"{name} = excluded.{name}" for name in _LIMITS)
    await connection.execute(
        f"INSERT INTO guard_limits (user_id, {names}) VALUES ($1, {places}) "
        f"ON CONFLICT (user_id) DO UPDATE SET {changes}",
        limits.user_id,
        *(getattr(limits, name) for name in _LIMITS),
    )


async def forget_limits(connection: Any, user_id: UUID) -> bool:
    """Remove a user's limits; the defaults apply again. Whether there were any."""
    done: str = await connection.execute("DELETE FROM guard_limits WHERE user_id = $1", user_id)
    return done != "DELETE 0"


async def set_instrument(connection: Any, instrument: Instrument) -> None:
    """Give a symbol this contract."""
    await connection.execute(
        """INSERT INTO instruments (symbol, contract_size, quote_currency) VALUES ($1, $2, $3)
           ON CONFLICT (symbol) DO UPDATE
           SET contract_size = excluded.contract_size, quote_currency = excluded.quote_currency""",
        instrument.symbol,
        instrument.contract_size,
        instrument.quote_currency,
    )


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value.isoformat() if isinstance(value, datetime) else str(value)
