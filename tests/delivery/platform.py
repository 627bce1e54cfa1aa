"""A trading platform in miniature, for tests of answers: it appends rows and knows nothing of Guardwire."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID, uuid4

from tests.inbox import apply_inbox

NINE, TEN = (datetime(2025, 1, 15, hour, tzinfo=UTC) for hour in (9, 10))
#: The position of `Platform.log` as REST shows it, besides what names it and its last update. The example of the API's
#: documents is the same position.
GOLD: Final = {
    "symbol": "XAUUSD",
    "direction": "buy",
    "volume": 0.1,
    "entry_price": 1950.5,
    "entry_time": "2025-01-15T09:00:00.000000Z",
    "current_price": 1955.75,
    "unrealized_pnl": 52.5,
    "unrealized_pnl_pct": 0.27,
    "pnl_currency": "USD",
    "contract_size_assumed": False,
    "take_profit": None,
    "stop_loss": 1940.0,
    "status": "open",
    "matched_with_bot": True,
    "instrument": None,
    "divergence_reason": None,
    "unconfirmed_since": None,
}


class Platform:
    """Writes over ``connection``, each row in a transaction of its own.

    With ``applies``, for tests that run no node, each row is applied before the method returns.
    """

    def __init__(self, connection: Any, *, applies: bool = False) -> None:
        self.connection = connection
        self._applies = applies

    async def log(self, user_id: UUID, ticket: int | None, **columns: Any) -> UUID:
        """A row of the log: a sync of 0.1 lot of gold, bought at nine, unless ``columns`` say otherwise."""
        row = {
            "id": uuid4(),
            "user_id": user_id,
            "mt5_position_id": ticket,
            "event_type": "sync",
            "matched": 1,
            "symbol": "XAUUSD",
            "direction": "buy",
            "volume": Decimal("0.1"),
            "entry_price": Decimal("1950.50"),
            "current_price": Decimal("1955.75"),
            "stop_loss": Decimal(1940),
            "created_at": NINE,
            "updated_at": None,
            **columns,
        }
        places = ", ".join(f"${place}" for place in range(1, len(row) + 1))
        await self._write(
            f"INSERT INTO reconciliation_logs ({', '.join(row)}) VALUES ({places})", *row.values()
        )
        row_id: UUID = row["id"]
        return row_id

    async def close(self, user_id: UUID, ticket: int, **columns: Any) -> UUID:
        """A row that closes the ticket at ten."""
        return await self.log(
            user_id, ticket, **{"event_type": "close", "close_reason": "tp", "created_at": TEN, **columns}
        )

    async def equity(self, user_id: UUID, equity: int, **columns: Any) -> None:
        """A reading of the account's equity and balance, in dollars."""
        row = {"user_id": user_id, "equity": equity, "balance": 10_000, "currency": "USD", **columns}
        places = ", ".join(f"${place}" for place in range(1, len(row) + 1))
        await self._write(f"INSERT INTO equity_snapshots ({', '.join(row)}) VALUES ({places})", *row.values())

    async def rate(self, base: str, quote: str, rate: str) -> None:
        """An exchange rate."""
        await self._write(
            "INSERT INTO fx_rates (base, quote, rate) VALUES ($1, $2, $3)", base, quote, Decimal(rate)
        )

    async def _write(self, statement: str, *values: Any) -> None:
        await self.connection.execute(statement, *values)
        if self._applies:
            await apply_inbox(self.connection)
