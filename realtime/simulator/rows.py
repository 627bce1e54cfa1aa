"""The rows that a platform writes, as plain records in the order of their columns, and odd rows among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Final, NamedTuple, TypeVar
from uuid import UUID

# Without a seed: a platform that runs again with the same seed adds new rows to the present ones.
_IDS: Final = Random()  # noqa: S311


def new_id() -> UUID:
    """A random id; three times as fast as `uuid4`, which asks the system for each."""
    return UUID(int=_IDS.getrandbits(128), version=4)


class LogRow(NamedTuple):
    """One row of ``reconciliation_logs``; None in the columns that the platform leaves empty."""

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


class PeakReset(NamedTuple):
    """A new beginning of an account's peak: equity from before ``peak_since`` counts no more."""

    user_id: UUID
    peak_since: datetime


#: The PostgreSQL type of each column of the platform's table; assignment casts convert to those of older tables.
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


Row = TypeVar("Row", LogRow, EquityRow, FxRow, InPlaceClose)


@dataclass(slots=True)
class Transaction:
    """The rows that the platform commits together."""

    log: list[LogRow] = field(default_factory=list)
    equity: list[EquityRow] = field(default_factory=list)
    fx: list[FxRow] = field(default_factory=list)
    closes: list[InPlaceClose] = field(default_factory=list)
    peaks: list[PeakReset] = field(default_factory=list)
    #: Rows that no platform should write. Each is inserted alone, because the table itself may refuse it.
    odd: list[LogRow] = field(default_factory=list)

    def shifted(self, offset: timedelta) -> Transaction:
        """The same rows as a clock that is off by ``offset`` stamps them."""
        if not offset:
            return self
        return Transaction(
            log=[_shifted(row, offset, "created_at", "updated_at") for row in self.log],
            equity=[_shifted(row, offset, "created_at") for row in self.equity],
            fx=[_shifted(row, offset, "created_at") for row in self.fx],
            closes=[_shifted(row, offset, "updated_at") for row in self.closes],
            peaks=self.peaks,  # compared with the arrival of rows
            odd=[_shifted(row, offset, "created_at", "updated_at") for row in self.odd],
        )

    def __bool__(self) -> bool:
        return bool(self.log or self.equity or self.fx or self.closes or self.peaks or self.odd)


#: Changes that turn an ordinary row into one that no platform should write, and that a server must survive.
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


def _shifted(row: Row, offset: timedelta, *times: str) -> Row:
    """``row`` with these of its times moved."""
    moved = {name: getattr(row, name) + offset for name in times if isinstance(getattr(row, name), datetime)}
    return row._replace(**moved)
