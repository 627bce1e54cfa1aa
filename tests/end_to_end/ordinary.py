"""Ordinary rows of a healthy platform, and the values that a mirror shows of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from realtime.audit.history import EquityRow, LogRow
from tests.end_to_end.mirror import Mirror


def row(user_id: UUID, price: str = "1955.75", **columns: Any) -> LogRow:
    """A sync of a tenth of a lot of gold."""
    now = datetime.now(UTC)
    synced = LogRow(
        id=str(uuid4()),
        user_id=user_id,
        ticket=1,
        symbol="XAUUSD",
        direction="buy",
        volume=Decimal("0.1"),
        entry_price=Decimal("1950.50"),
        current_price=Decimal(price),
        matched=1,
        created_at=now,
        updated_at=now,
    )
    return replace(synced, **columns)


def equity(user_id: UUID, amount: int, **columns: Any) -> EquityRow:
    """Equity in dollars."""
    now = datetime.now(UTC)
    return replace(
        EquityRow(id=str(uuid4()), user_id=user_id, equity=amount, currency="USD", created_at=now), **columns
    )


def price(account: Mirror, ticket: str = "1") -> float | None:
    """The price that ``account`` shows for a position; None without that position."""
    shown: float | None = account.state["positions"]["open"].get(ticket, {}).get("current_price")
    return shown
