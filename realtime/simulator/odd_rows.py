"""Rows that no platform should write and that some platform will: a server must survive each. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Final
from uuid import UUID

from realtime.simulator.rows import LogRow, new_id

#: Each turns an ordinary row into an odd one.
ODDITIES: Final[tuple[Callable[[LogRow], LogRow], ...]] = (
    lambda row: row._replace(mt5_position_id=2**31 + 7),
    lambda row: row._replace(mt5_position_id=2**63 - 1),
    lambda row: row._replace(mt5_position_id=0),
    lambda row: row._replace(mt5_position_id=-5),
    lambda row: row._replace(mt5_position_id=None),
    lambda row: row._replace(direction="1"),
    lambda row: row._replace(direction="SELL"),
    lambda row: row._replace(direction="sideways"),
    lambda row: row._replace(current_price=Decimal("NaN")),
    lambda row: row._replace(entry_price=Decimal("Infinity")),
    lambda row: row._replace(entry_price=Decimal(-1), current_price=Decimal("-Infinity")),
    lambda row: row._replace(volume=Decimal(0)),
    lambda row: row._replace(volume=Decimal("-0.1")),
    lambda row: row._replace(volume=Decimal("1e20")),
    lambda row: row._replace(symbol=""),
    lambda row: row._replace(symbol="  eurusd  "),
    lambda row: row._replace(symbol="X" * 300),
    lambda row: row._replace(symbol=None, direction=None, volume=None, entry_price=None, current_price=None),
    lambda row: row._replace(event_type="margin_call"),
    lambda row: row._replace(event_type=" SYNC "),
    lambda row: row._replace(event_type=None),
    lambda row: row._replace(matched=None),
    lambda row: row._replace(matched=7),
    lambda row: row._replace(status="FAILED", error_message="e" * 5_000),
    lambda row: row._replace(divergence_reason="d" * 5_000, matched=2),
    lambda row: row._replace(close_reason="", event_type="position_closed"),
    lambda row: row._replace(created_at=None, updated_at=None),
    lambda row: row._replace(
        created_at=datetime(1960, 1, 1, tzinfo=row.created_at.tzinfo if row.created_at else None)
    ),
    lambda row: row._replace(updated_at=row.created_at - timedelta(hours=1) if row.created_at else None),
    lambda row: row._replace(event_type="guard_trigger", divergence_reason=None, symbol=None),
    lambda row: row._replace(event_type="guard_trigger", divergence_reason="GAP", entry_price=Decimal(0)),
    lambda row: row._replace(
        event_type="guard_trigger", divergence_reason="spread", entry_price=Decimal("NaN")
    ),
)


def odd_row(random: Random, user_id: UUID, near_ticket: int | None, now: datetime) -> LogRow:
    """An ordinary row of ``user_id``, spoilt in one way; its ticket is far from ``near_ticket``."""
    row = LogRow(
        id=new_id(),
        user_id=user_id,
        mt5_position_id=(near_ticket or 1) + 900_000_000,
        symbol="EURUSD",
        direction="buy",
        volume=Decimal("0.10"),
        entry_price=Decimal("1.08"),
        current_price=Decimal("1.09"),
        matched=0,
        created_at=now,
        updated_at=now,
    )
    return random.choice(ODDITIES)(row)
