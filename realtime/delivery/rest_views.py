"""From the state on the stream to the documents of REST: pure, one function for each document."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from guardwire.patch import State
from realtime.delivery.rest_documents import (
    DrawdownGuard,
    EventMetadata,
    GuardsStatus,
    MarketGuardAlert,
    OpenPositions,
    PositionRecord,
    RecentEvent,
    ReconciliationStatus,
)

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
    listed = book if symbol is None else {t: p for t, p in book.items() if _is_named(p.get("symbol"), symbol)}
    whole = len(listed) == len(book)
    total = positions.get("total_unrealized_pnl") if whole else _total(listed.values())
    currency = positions.get("currency") if whole else _currency(listed.values(), positions.get("currency"))
    return OpenPositions(
        user_id=user_id,
        total_positions=len(listed),
        total_unrealized_pnl=total,
        total_unrealized_pnl_pct=positions.get("total_unrealized_pnl_pct") if whole else None,
        currency=currency,
        positions=[_position(ticket, position) for ticket, position in _newest_first(listed)],
        last_updated_at=positions.get("last_updated_at"),
    )


def _is_named(symbol: str | None, wanted: str) -> bool:
    # Outside ASCII different letters share a case (K, the kelvin sign, lowers to k), and then "exactly" would
    # be untrue.
    return symbol is not None and symbol.isascii() and symbol.lower() == wanted.lower()


def _newest_first(book: State) -> list[tuple[int, State]]:
    tickets = ((int(ticket), position) for ticket, position in book.items())
    return sorted(tickets, key=lambda entry: (entry[1]["entry_time"], entry[0]), reverse=True)


def _total(listed: Iterable[State]) -> float | None:
    """Their profit in cents, summed as whole numbers so that it never errs by one; None where a sum would
    be wrong.
    """
    cents = 0
    currencies = set()
    for position in listed:
        pnl = position.get("unrealized_pnl")
        if pnl is None:
            return None
        cents += round(pnl * 100)
        currencies.add(position.get("pnl_currency"))
    return cents / 100 if len(currencies) < 2 else None


def _currency(listed: Iterable[State], account_currency: str | None) -> str | None:
    currencies = {position.get("pnl_currency") for position in listed}
    return currencies.pop() if len(currencies) == 1 else account_currency


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
        # Only what broker and bot agree on is listed.
        matched_with_bot=True,
        last_updated_at=position["last_updated_at"],
    )


def guards_status(user_id: str, guards: State, *, as_of: str, countdown_seconds: int | None) -> GuardsStatus:
    """The channel ``guards`` of ``user_id`` as it stood at ``as_of``, with what `countdown_seconds` gave."""
    drawdown: State = guards["drawdown"]
    alerts = sorted(
        guards["alerts"].items(), key=lambda entry: (entry[1]["detected_at"], entry[0]), reverse=True
    )
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
