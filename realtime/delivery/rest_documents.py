"""The documents that REST answers with: one struct each, from which the OpenAPI schemas are made.

Here a field without a value is ``null`` and not absent, because a document is read whole and never patched.
Times are ISO 8601 UTC text with six decimals and ``Z``; money has two decimals; percentages are 0-100 with
two decimals.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from guardwire.state import ConditionType, EventType

Timestamp = Annotated[
    str, Meta(description="ISO 8601, UTC, six decimals", extra_json_schema={"format": "date-time"})
]
Identifier = Annotated[str, Meta(extra_json_schema={"format": "uuid"})]
Ticket = Annotated[
    int, Meta(ge=1, le=2**63 - 1, description="MT5 ticket", extra_json_schema={"format": "int64"})
]
Count = Annotated[int, Meta(ge=0)]
Percentage = Annotated[float, Meta(ge=0, le=100)]


class EventMetadata(Struct, frozen=True, kw_only=True):
    """What the event was about."""

    symbol: str | None
    mt5_ticket: Ticket | None
    matched: Annotated[int, Meta(ge=0, le=2, description="0 not matched, 1 matched, 2 divergence")] | None
    pnl_gbp: float | None


class RecentEvent(Struct, frozen=True, kw_only=True):
    """One thing that happened to the account."""

    event_id: str
    event_type: EventType
    user_id: Identifier
    created_at: Timestamp
    divergence_reason: str | None
    description: str
    metadata: EventMetadata


class ReconciliationStatus(Struct, frozen=True, kw_only=True):
    """Is the reconciliation of the account alive, and does it agree with the broker?

    ``source`` is ``silent`` when no sync came for longer than the account's limit.
    """

    user_id: Identifier
    status: Literal["healthy", "idle", "warning", "unknown"]
    source: Literal["live", "silent"]
    last_sync_at: Timestamp | None
    total_syncs: Count
    last_sync_duration_ms: float | None
    open_positions_count: Count
    matched_positions: Count
    divergences_detected: Count
    recent_events: Annotated[list[RecentEvent], Meta(max_length=5, description="newest first")]
    error_message: str | None


class PositionRecord(Struct, frozen=True, kw_only=True):
    """One position. Profit is in ``pnl_currency``; nothing is unrealized of a closed one.

    ``current_price`` is the entry price until another is known, and of a closed position the price that it
    closed at.
    """

    position_id: Identifier
    ticket: Ticket
    symbol: str | None
    direction: Literal["buy", "sell"] | None
    volume: float | None
    entry_price: float | None
    entry_time: Timestamp
    current_price: float | None
    unrealized_pnl: float | None
    unrealized_pnl_pct: float | None
    pnl_currency: str | None
    contract_size_assumed: Annotated[bool, Meta(description="the instrument is unknown, and 1 was assumed")]
    take_profit: float | None
    stop_loss: float | None
    status: Literal["open", "closed"]
    matched_with_bot: bool
    last_updated_at: Timestamp


class OpenPositions(Struct, frozen=True, kw_only=True):
    """The open book, or the part of it that was asked for; totals are of the positions listed.

    A total is null where it would mix currencies or leave out a position. The percentage is of the account's
    balance.
    """

    user_id: Identifier
    total_positions: Count
    total_unrealized_pnl: float | None
    total_unrealized_pnl_pct: float | None
    currency: Annotated[str, Meta(description="of the total, where there is one")] | None
    positions: Annotated[list[PositionRecord], Meta(description="newest first, by entry time, then ticket")]
    last_updated_at: Timestamp | None


class DrawdownGuard(Struct, frozen=True, kw_only=True):
    """How far equity is below its peak; without equity on record the numbers are null and the type
    ``unknown``.

    ``time_to_liquidation_seconds`` is reckoned on the database's clock as the server answers: whole seconds,
    rounded down.
    """

    user_id: Identifier
    current_equity: float | None
    peak_equity: float | None
    current_drawdown_pct: Percentage | None
    currency: str | None
    alert_type: Literal["normal", "warning", "critical", "unknown"]
    alert_threshold_pct: float
    should_close_all: bool
    time_to_liquidation_seconds: Count | None
    last_checked_at: Timestamp | None


class MarketGuardAlert(Struct, frozen=True, kw_only=True):
    """A market condition whose window has not passed; what the platform did not record is null."""

    symbol: Annotated[str, Meta(description="`*` when the platform named none")]
    condition_type: ConditionType
    alert_type: Literal["warning", "critical"]
    price_gap_pct: float | None
    bid_ask_spread_pct: float | None
    open_price: float | None
    close_price: float | None
    bid: float | None
    ask: float | None
    should_close_positions: bool
    detected_at: Timestamp


class GuardsStatus(Struct, frozen=True, kw_only=True):
    """What must make a bot act."""

    user_id: Identifier
    system_status: Literal["healthy", "warning", "unknown"]
    drawdown_guard: DrawdownGuard
    market_guard_alerts: Annotated[list[MarketGuardAlert], Meta(description="newest first")]
    any_positions_should_close: bool
    last_evaluated_at: Timestamp


class TradingHealth(Struct, frozen=True, kw_only=True):
    """The process answers; it says nothing of the database. ``/readyz`` does."""

    status: Literal["healthy"]
    timestamp: Timestamp
    service: Literal["trading-api"]
