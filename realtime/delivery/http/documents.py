"""The documents that REST answers with: one struct each, from which the OpenAPI schemas are made.

Here a field without a value is ``null`` and not absent, because a document is read whole and never patched.
Times are ISO 8601 UTC text with six decimals and ``Z``; money has two decimals; percentages are 0-100 with
two decimals.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from guardwire.patch import State
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
    """The subject of an event."""

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
    notice: (
        Annotated[str, Meta(description="what the server itself found; null for what the platform reported")]
        | None
    )
    metadata: EventMetadata


class ReconciliationStatus(Struct, frozen=True, kw_only=True):
    """Is the reconciliation of the account alive, and does it agree with the broker?

    ``source`` is ``silent`` when no sync came for longer than the account's limit. ``clock_offset_seconds`` is how far
    the platform's clock is behind (or, below 0, ahead), when it is off by more than a minute. ``counts_at_arrival`` is
    true since that clock went back: rows count at their arrival. ``recorded`` is false for an account that the platform
    never wrote a row of.
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
    clock_offset_seconds: int | None
    counts_at_arrival: bool
    recorded: bool


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
    instrument: (
        Annotated[str, Meta(description="what the symbol means, where that is not the symbol itself")] | None
    )
    divergence_reason: str | None
    unconfirmed_since: (
        Annotated[Timestamp, Meta(description="last row of a position that the platform no longer mentions")]
        | None
    )


class OpenPositions(Struct, frozen=True, kw_only=True):
    """The open book, or the part of it that was asked for; totals are of the positions listed.

    A total is null where a profit is unknown, assumed, or not converted to the account's currency. The percentage is of
    the account's balance. ``unmatched_positions`` are open, and in no total: broker and bot do not agree on them.
    """

    user_id: Identifier
    total_positions: Count
    total_unrealized_pnl: float | None
    total_unrealized_pnl_pct: float | None
    currency: Annotated[str, Meta(description="the account's")] | None
    positions: Annotated[list[PositionRecord], Meta(description="newest first, by entry time, then ticket")]
    unmatched_positions: Annotated[list[PositionRecord], Meta(description="in the same order")]
    last_updated_at: Timestamp | None


class DrawdownGuard(Struct, frozen=True, kw_only=True):
    """How far equity is below its peak; without equity on record the numbers are null and the type ``unknown``.

    ``doubt`` says why the equity may be another by now (``implausible``, ``older``, ``overdue``), which makes the type
    ``unknown``, too, unless it was ``critical``.

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
    doubt: str | None = None
    doubted_equity: float | None = None


class MarketGuardAlert(Struct, frozen=True, kw_only=True):
    """A market condition whose window has not passed; what the platform did not record is null.

    ``normal`` is one that the platform reported and that is within the account's limits.
    """

    symbol: Annotated[str, Meta(description="`*` when the platform named none")]
    condition_type: ConditionType
    alert_type: Literal["normal", "warning", "critical"]
    price_gap_pct: float | None
    bid_ask_spread_pct: float | None
    open_price: float | None
    close_price: float | None
    bid: float | None
    ask: float | None
    should_close_positions: bool
    detected_at: Timestamp


class GuardsStatus(Struct, frozen=True, kw_only=True):
    """The guards of an account: its drawdown and the alerts of its market."""

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


RECENT_EVENTS: Final = 5


def reconciliation_status(user_id: str, status: State) -> ReconciliationStatus:
    """The channel ``status`` of ``user_id``, as GET /api/v1/reconciliation/status answers it."""
    # The sort is stable: events of one moment keep the order of their arrival, in which the query gave them.
    events = sorted(status["recent_events"].items(), key=lambda entry: entry[1]["created_at"], reverse=True)
    return ReconciliationStatus(
        user_id=user_id,
        status=status["status"],
        source=status["source"],
        last_sync_at=status.get("last_sync_at"),
        total_syncs=status["total_syncs"],
        last_sync_duration_ms=status.get("last_sync_duration_ms"),
        open_positions_count=status["open_positions_count"],
        matched_positions=status["matched_positions"],
        divergences_detected=status["divergences_detected"],
        recent_events=[_event(user_id, event_id, event) for event_id, event in events[:RECENT_EVENTS]],
        error_message=status.get("error_message"),
        clock_offset_seconds=status.get("clock_offset_seconds"),
        counts_at_arrival=status.get("counts_at_arrival", False),
        recorded=status.get("recorded", True),
    )


def _event(user_id: str, event_id: str, event: State) -> RecentEvent:
    ticket = event.get("mt5_ticket")
    return RecentEvent(
        event_id=event_id,
        event_type=event["event_type"],
        user_id=user_id,
        created_at=event["created_at"],
        divergence_reason=event.get("divergence_reason"),
        description=event["description"],
        notice=event.get("notice"),
        metadata=EventMetadata(
            symbol=event.get("symbol"),
            mt5_ticket=None if ticket is None else int(ticket),
            matched=event.get("matched"),
            pnl_gbp=event.get("pnl_gbp"),
        ),
    )


def open_positions(user_id: str, positions: State, *, symbol: str | None = None) -> OpenPositions:
    """The channel ``positions`` of ``user_id``, restricted to ``symbol`` (ASCII, any case) unless that is
    None.

    The totals are of the positions listed, so that a reader may add them up and find them right. The
    account's balance is not part of the state, so the percentage of a part of the book is null.
    """
    book: State = positions["open"]
    listed = named(book, symbol)
    whole = len(listed) == len(book)
    currency = positions.get("currency")
    return OpenPositions(
        user_id=user_id,
        total_positions=len(listed),
        total_unrealized_pnl=positions.get("total_unrealized_pnl")
        if whole
        else total(listed.values(), currency),
        total_unrealized_pnl_pct=positions.get("total_unrealized_pnl_pct") if whole else None,
        currency=currency,
        positions=[_position(ticket, position) for ticket, position in _newest_first(listed)],
        unmatched_positions=[
            _position(ticket, position)
            for ticket, position in _newest_first(named(positions.get("unmatched", {}), symbol))
        ],
        last_updated_at=positions.get("last_updated_at"),
    )


def named(book: State, symbol: str | None) -> State:
    """The positions of a book in ``symbol``, by ticket; all of them for None."""
    return book if symbol is None else {t: p for t, p in book.items() if _is_named(p.get("symbol"), symbol)}


def _is_named(symbol: str | None, wanted: str) -> bool:
    # Outside ASCII different letters share a case (K, the kelvin sign, lowers to k), and then "exactly" would
    # be untrue.
    return symbol is not None and symbol.isascii() and symbol.lower() == wanted.lower()


def _newest_first(book: State) -> list[tuple[int, State]]:
    tickets = ((int(ticket), position) for ticket, position in book.items())
    return sorted(tickets, key=lambda entry: (entry[1]["entry_time"], entry[0]), reverse=True)


def total(listed: Iterable[State], currency: str | None) -> float | None:
    """Their profit in cents, summed as whole numbers so that it never errs by one; None where a sum would
    be wrong.
    """
    cents = 0
    for position in listed:
        pnl = position.get("unrealized_pnl")
        if pnl is None or position.get("contract_size_assumed") or position.get("pnl_currency") != currency:
            return None
        cents += round(pnl * 100)
    return cents / 100


def _position(ticket: int, position: State) -> PositionRecord:
    return PositionRecord(
        position_id=position["position_id"],
        ticket=ticket,
        symbol=position.get("symbol"),
        direction=position.get("direction"),
        volume=position.get("volume"),
        entry_price=position.get("entry_price"),
        entry_time=position["entry_time"],
        current_price=position.get("current_price", position.get("entry_price")),
        unrealized_pnl=position.get("unrealized_pnl"),
        unrealized_pnl_pct=position.get("unrealized_pnl_pct"),
        pnl_currency=position.get("pnl_currency"),
        contract_size_assumed=position.get("contract_size_assumed", False),
        take_profit=position.get("take_profit"),
        stop_loss=position.get("stop_loss"),
        status="open",
        # The state names a match only where broker and bot do not agree.
        matched_with_bot="matched" not in position,
        last_updated_at=position["last_updated_at"],
        instrument=position.get("instrument"),
        divergence_reason=position.get("divergence_reason"),
        unconfirmed_since=position.get("unconfirmed_since"),
    )


def guards_status(user_id: str, guards: State, *, as_of: str, countdown_seconds: int | None) -> GuardsStatus:
    """The channel ``guards`` of ``user_id`` as it stood at ``as_of``, with what `countdown_seconds` gave."""
    drawdown: State = guards["drawdown"]
    reported: State = guards["alerts"] | guards.get("normal_alerts", {})
    alerts = sorted(reported.items(), key=lambda entry: (entry[1]["detected_at"], entry[0]), reverse=True)
    return GuardsStatus(
        user_id=user_id,
        system_status=guards["system_status"],
        drawdown_guard=DrawdownGuard(
            user_id=user_id,
            current_equity=drawdown.get("current_equity"),
            peak_equity=drawdown.get("peak_equity"),
            current_drawdown_pct=drawdown.get("current_drawdown_pct"),
            currency=drawdown.get("currency"),
            alert_type=drawdown["alert_type"],
            alert_threshold_pct=drawdown["alert_threshold_pct"],
            should_close_all=drawdown["should_close_all"],
            time_to_liquidation_seconds=countdown_seconds,
            last_checked_at=drawdown.get("last_checked_at"),
            doubt=drawdown.get("doubt"),
            doubted_equity=drawdown.get("doubted_equity"),
        ),
        market_guard_alerts=[_alert(alert) for _, alert in alerts],
        any_positions_should_close=guards["any_positions_should_close"],
        last_evaluated_at=as_of,
    )


def _alert(alert: dict[str, Any]) -> MarketGuardAlert:
    return MarketGuardAlert(
        symbol=alert["symbol"],
        condition_type=alert["condition_type"],
        alert_type=alert["alert_type"],
        price_gap_pct=alert.get("price_gap_pct"),
        bid_ask_spread_pct=alert.get("bid_ask_spread_pct"),
        open_price=alert.get("open_price"),
        close_price=alert.get("close_price"),
        bid=alert.get("bid"),
        ask=alert.get("ask"),
        should_close_positions=alert["should_close_positions"],
        detected_at=alert["detected_at"],
    )


def countdown_seconds(guards: State, now: datetime) -> int | None:
    """Whole seconds from ``now`` to the liquidation that ``guards`` announces, at least 0; None when there is
    none.

    Rounded down, because a bot that believes it has more time than it has is worse off than the other way
    round.
    """
    liquidation_at = guards["drawdown"].get("liquidation_at")
    if liquidation_at is None:
        return None
    return max(0, int((datetime.fromisoformat(liquidation_at) - now).total_seconds()))
