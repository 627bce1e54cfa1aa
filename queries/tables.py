"""Every table that Guardwire reads, as SQLAlchemy sees it; a column's meaning is its comment in the database.

The tables themselves are made by `queries/migrations/sql/tables.sql`, and a test compares the two.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import CHAR
from sqlalchemy.types import TypeEngine

METADATA = MetaData()

_TIMESTAMP = DateTime(timezone=True)


def _table(
    schema: str, name: str, key: tuple[str, ...], **columns: type[TypeEngine[Any]] | TypeEngine[Any]
) -> Table:
    return Table(
        name,
        METADATA,
        *(Column(column, kind, primary_key=column in key) for column, kind in columns.items()),
        schema=schema,
    )


# ---------------------------------------------------------------- what the platform writes

# As the migration makes it where it is missing; an existing one may have other types of the same meaning.
RECONCILIATION_LOGS = _table(
    "public",
    "reconciliation_logs",
    ("id",),
    id=Uuid,
    user_id=Uuid,
    signal_id=Uuid,
    approval_id=Uuid,
    mt5_position_id=BigInteger,
    symbol=Text,
    direction=Text,
    volume=Numeric,
    entry_price=Numeric,
    current_price=Numeric,
    take_profit=Numeric,
    stop_loss=Numeric,
    matched=Integer,
    divergence_reason=Text,
    slippage_pips=Numeric,
    close_reason=Text,
    closed_price=Numeric,
    pnl_gbp=Numeric,
    pnl_percent=Numeric,
    event_type=Text,
    status=Text,
    error_message=Text,
    created_at=_TIMESTAMP,
    updated_at=_TIMESTAMP,
)

EQUITY_SNAPSHOTS = _table(
    "public",
    "equity_snapshots",
    ("id",),
    id=Uuid,
    user_id=Uuid,
    equity=Numeric,
    balance=Numeric,
    currency=Text,
    cash_flow=Numeric,
    created_at=_TIMESTAMP,
)

GUARD_LIMITS = _table(
    "public",
    "guard_limits",
    ("user_id",),
    user_id=Uuid,
    drawdown_warning_pct=Numeric,
    drawdown_critical_pct=Numeric,
    minimum_equity=Numeric,
    countdown_seconds=Integer,
    gap_warning_pct=Numeric,
    gap_critical_pct=Numeric,
    spread_warning_pct=Numeric,
    spread_critical_pct=Numeric,
    alert_window_seconds=Integer,
    sync_overdue_seconds=Integer,
    peak_since=_TIMESTAMP,
)

INSTRUMENTS = _table(
    "public",
    "instruments",
    ("symbol",),
    symbol=Text,
    contract_size=Numeric,
    pip_size=Numeric,
    quote_currency=Text,
)

FX_RATES = _table(
    "public",
    "fx_rates",
    ("id",),
    id=Uuid,
    base=Text,
    quote=Text,
    rate=Numeric,
    created_at=_TIMESTAMP,
)

# ---------------------------------------------------------------- what the capture derives

ACCOUNTS = _table(
    "guardwire",
    "accounts",
    ("user_id",),
    user_id=Uuid,
    revision=BigInteger,
    base_revision=BigInteger,
    ready=Boolean,
    source=Text,
    last_sync_at=_TIMESTAMP,
    last_sync_arrived_at=_TIMESTAMP,
    last_sync_duration_ms=Double,
    total_syncs=BigInteger,
    sync_due_at=_TIMESTAMP,
    last_position_at=_TIMESTAMP,
    error_message=Text,
    error_at=_TIMESTAMP,
    currency=Text,
    balance=Numeric,
    equity=Numeric,
    equity_at=_TIMESTAMP,
    equity_flow=Numeric,
    peak_adjusted=Numeric,
    peak_since=_TIMESTAMP,
    peak_equity=Numeric,
    drawdown_pct=Numeric,
    drawdown_level=Text,
    liquidation_at=_TIMESTAMP,
    ignored_rows=BigInteger,
)

POSITIONS = _table(
    "guardwire",
    "positions",
    ("user_id", "ticket"),
    user_id=Uuid,
    ticket=BigInteger,
    position_id=Uuid,
    is_open=Boolean,
    matched=SmallInteger,
    symbol=Text,
    direction=Text,
    volume=Numeric,
    entry_price=Numeric,
    current_price=Numeric,
    take_profit=Numeric,
    stop_loss=Numeric,
    entry_time=_TIMESTAMP,
    state_at=_TIMESTAMP,
    state_revision=BigInteger,
    state_ordinal=Integer,
    updated_at=_TIMESTAMP,
    last_close_at=_TIMESTAMP,
    close_reason=Text,
    closed_price=Numeric,
    closed_at=_TIMESTAMP,
    divergence_reason=Text,
    quote_currency=Text,
    contract_size=Numeric,
    contract_size_assumed=Boolean,
    point_value=Numeric,
    pct_unit=Numeric,
    fingerprint=BigInteger,
    pnl=Numeric,
    pnl_pct=Numeric,
)

FX_CURRENT = _table(
    "guardwire",
    "fx_current",
    ("base", "quote"),
    base=Text,
    quote=Text,
    rate=Numeric,
    as_of=_TIMESTAMP,
)

EVENTS = _table(
    "guardwire",
    "events",
    ("user_id", "event_id"),
    user_id=Uuid,
    event_id=Text,
    event_type=Text,
    created_at=_TIMESTAMP,
    revision=BigInteger,
    ordinal=Integer,
    symbol=Text,
    ticket=BigInteger,
    matched=SmallInteger,
    pnl_gbp=Numeric,
    divergence_reason=Text,
)

MARKET_ALERTS = _table(
    "guardwire",
    "market_alerts",
    ("user_id", "symbol", "condition_type"),
    user_id=Uuid,
    symbol=Text,
    condition_type=Text,
    alert_type=Text,
    gap_pct=Numeric,
    spread_pct=Numeric,
    open_price=Numeric,
    close_price=Numeric,
    bid=Numeric,
    ask=Numeric,
    detected_at=_TIMESTAMP,
    expires_at=_TIMESTAMP,
    revision=BigInteger,
    ordinal=Integer,
    log_id=Uuid,
)

BREACHES = _table(
    "guardwire",
    "breaches",
    ("user_id", "breach_id"),
    user_id=Uuid,
    breach_id=Text,
    kind=Text,
    symbol=Text,
    condition_type=Text,
    raised_at=_TIMESTAMP,
    cleared_at=_TIMESTAMP,
    observed_pct=Numeric,
)

# ---------------------------------------------------------------- how the capture works

EPOCH = _table(
    "guardwire",
    "epoch",
    ("singleton",),
    singleton=Boolean,
    epoch=BigInteger,
    system_identifier=Text,
    timeline=Text,
)

CONFIGURATION = _table(
    "guardwire",
    "configuration",
    ("singleton",),
    singleton=Boolean,
    notify=Boolean,
    told_channel=Text,
    arrival_hours=Integer,
    told_secret=LargeBinary,
)

BACKFILL = _table(
    "guardwire",
    "backfill",
    ("singleton",),
    singleton=Boolean,
    listed=Boolean,
    done=Boolean,
    started_at=_TIMESTAMP,
    done_at=_TIMESTAMP,
)

ARRIVALS = _table(
    "guardwire",
    "arrivals",
    ("user_id", "source", "revision", "ordinal"),
    user_id=Uuid,
    revision=BigInteger,
    ordinal=Integer,
    log_id=Uuid,
    source=CHAR(1),
    inserted=Boolean,
)

CAPTURE_NOTES = _table(
    "guardwire",
    "capture_notes",
    ("id",),
    id=BigInteger,
    noted_at=_TIMESTAMP,
    xid=BigInteger,
    source=Text,
    row_key=Text,
    inserted=Boolean,
    sqlstate=Text,
    message=Text,
    attempts=Integer,
    given_up_at=_TIMESTAMP,
    user_id=Uuid,
    concerns_all=Boolean,
)

IGNORED_ROWS = _table(
    "guardwire",
    "ignored_rows",
    (),
    noted_at=_TIMESTAMP,
    source=Text,
    row_key=Text,
    user_id=Uuid,
    reason=Text,
)
