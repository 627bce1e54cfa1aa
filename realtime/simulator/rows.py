"""The three kinds of row that a platform appends, as plain records in the order of their columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from random import Random
from typing import Final, NamedTuple
from uuid import UUID

# Never the same twice, whatever the seed: a platform that runs again adds rows to those that are there.
_IDS: Final = Random()  # noqa: S311


def new_id() -> UUID:
    """A random id; three times as fast as `uuid4`, which asks the system for each."""
    return UUID(int=_IDS.getrandbits(128), version=4)


class LogRow(NamedTuple):
    """One row of ``reconciliation_logs``; None where the platform has nothing to say."""

    id: UUID
    user_id: UUID
    signal_id: UUID | None = None
    approval_id: UUID | None = None
    mt5_position_id: int | None = None
    symbol: str | None = None
    direction: str | None = None
    volume: Decimal | None = None
    entry_price: Decimal | None = None
    current_price: Decimal | None = None
    take_profit: Decimal | None = None
    stop_loss: Decimal | None = None
    matched: int | None = None
    divergence_reason: str | None = None
    slippage_pips: Decimal | None = None
    close_reason: str | None = None
    closed_price: Decimal | None = None
    pnl_gbp: Decimal | None = None
    pnl_percent: Decimal | None = None
    event_type: str | None = "sync"
    status: str | None = "success"
    error_message: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class EquityRow(NamedTuple):
    """One row of ``equity_snapshots``; money is in ``currency``."""

    user_id: UUID
    equity: Decimal
    balance: Decimal
    currency: str
    cash_flow: Decimal
    created_at: datetime


class FxRow(NamedTuple):
    """One row of ``fx_rates``: ``rate`` units of ``quote`` for one of ``base``."""

    base: str
    quote: str
    rate: Decimal
    created_at: datetime


class InPlaceClose(NamedTuple):
    """A close that the platform writes into the position's last row, ``id``."""

    id: UUID
    close_reason: str
    closed_price: Decimal
    pnl_gbp: Decimal
    updated_at: datetime


#: PostgreSQL type of each column of the platform's table; assignment casts bridge to older tables.
LOG_COLUMN_TYPES: Final[dict[str, str]] = {
    name: {
        "id": "uuid", "user_id": "uuid", "signal_id": "uuid", "approval_id": "uuid",
        "mt5_position_id": "bigint",
        "matched": "integer", "created_at": "timestamptz", "updated_at": "timestamptz",
        "volume": "numeric", "entry_price": "numeric", "current_price": "numeric", "take_profit": "numeric",
        "stop_loss": "numeric", "slippage_pips": "numeric", "closed_price": "numeric", "pnl_gbp": "numeric",
        "pnl_percent": "numeric",
    }.get(name, "text")
    for name in LogRow._fields
}  # fmt: skip


@dataclass(slots=True)
class Transaction:
    """What the platform commits at once."""

    log: list[LogRow] = field(default_factory=list)
    equity: list[EquityRow] = field(default_factory=list)
    fx: list[FxRow] = field(default_factory=list)
    closes: list[InPlaceClose] = field(default_factory=list)
    #: Rows that no platform should write; each is tried alone, because the table itself may refuse it.
    odd: list[LogRow] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.log or self.equity or self.fx or self.closes or self.odd)
