"""The whole state of one account after a history, as a client must mirror it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from realtime.audit import values
from realtime.audit.book import Reference, positions_channel
from realtime.audit.clock import Clock, settle
from realtime.audit.history import Arrival, EquityRow, History, Instrument, LogRow, WentSilent
from realtime.audit.market import Condition, conditions, is_guard_trigger
from realtime.audit.money import Money, Step, limits_of
from realtime.audit.occurrences import breaches, recent_events
from realtime.audit.ticket import Ticket


@dataclass(frozen=True)
class Oracle:
    """Judges one account; ``instruments`` are the rows that the table held before the history began."""

    user_id: UUID
    instruments: Iterable[Instrument] = field(default=())
    #: Since when the platform's clock is known to have gone back, before the history begins.
    stepped_at: datetime | None = None

    def state(self, history: History) -> dict[str, Any]:
        """All three channels after ``history``, which may speak of other users too."""
        history, clock = settle(history, self.user_id, self.stepped_at)
        own = [arrival for arrival in history if self._is_own(arrival)]
        tickets = clock.tickets.all()
        account = clock.purse.money(is_clock_doubted=clock.doubted_at is not None)
        drawdowns = clock.purse.steps
        reference = Reference.of(history, self.instruments)
        channels = {
            "status": self._status(own, history, drawdowns, clock),
            "positions": positions_channel(tickets, own, reference, account.currency, account.balance),
            "guards": self._guards(history, account, drawdowns),
        }
        state = {name: wire(channel) for name, channel in channels.items()}
        if "error_message" not in state["status"] and state["status"]["status"] == "warning":
            state["status"]["error_message"] = warning(state["positions"])
        return state

    def _is_own(self, arrival: Arrival) -> bool:
        return isinstance(arrival.change, LogRow) and arrival.change.owner == self.user_id

    def _status(self, own: History, history: History, drawdowns: list[Step], clock: Clock) -> dict[str, Any]:
        tickets = [ticket for ticket in clock.tickets.all() if ticket.state is not None]
        matches = [_match(ticket) for ticket in tickets]
        matched, diverging = matches.count(1), matches.count(2)
        unconfirmed = sum(ticket.unconfirmed_since is not None for ticket in tickets)
        syncs = [arrival for arrival in own if _is_sync(arrival)]
        good = [arrival for arrival in syncs if arrival.is_alive]
        status = "warning" if diverging or unconfirmed else "healthy" if matched else "idle"
        return {
            "status": status,
            "source": self._source(history),
            "last_sync_at": values.iso(max(arrival.time for arrival in good)) if good else None,
            "last_sync_duration_ms": _duration_ms(max(good, key=lambda arrival: arrival.recency))
            if good
            else None,
            "total_syncs": sum(isinstance(each.change, LogRow) and each.change.inserted for each in syncs),
            "open_positions_count": matched,
            "matched_positions": matched,
            "divergences_detected": diverging,
            "error_message": error_message(own),
            "clock_offset_seconds": clock.offset_seconds,
            "counts_at_arrival": True if clock.stepped_at is not None else None,
            "recorded": None if any(map(self._records, history)) else False,
            "recent_events": recent_events(history, self.user_id, drawdowns, clock),
        }

    def _records(self, arrival: Arrival) -> bool:
        """Whether the platform recorded something of the account that is shown."""
        match arrival.change:
            case EquityRow(user_id=self.user_id) as row:
                return values.number(row.equity) is not None
            case LogRow(owner=self.user_id) as row:
                return row.bears_position or _is_sync(arrival) or is_guard_trigger(row, self.user_id)
        return False

    def _source(self, history: History) -> str:
        silent = [each.order for each in history if each.change == WentSilent(self.user_id)]
        sign_of_life = max((arrival.order for arrival in history if arrival.is_alive), default=None)
        return "live" if sign_of_life is not None and sign_of_life > max(silent, default=0) else "silent"

    def _guards(self, history: History, account: Money, drawdowns: list[Step]) -> dict[str, Any]:
        market = conditions(history, self.user_id)
        reported = list(market.remembered.values())
        live = [each for each in reported if each.level != "normal"]
        harmless = [each for each in reported if each.level == "normal"]
        limits = limits_of(history, self.user_id)
        critical = account.level == "critical"
        if account.level in ("warning", "critical") or live or account.doubt == "implausible":
            system_status = "warning"
        else:
            system_status = "healthy" if account.alert_type == "normal" else "unknown"
        return {
            "system_status": system_status,
            "any_positions_should_close": critical or any(each.level == "critical" for each in live),
            "drawdown": {
                "alert_type": account.alert_type,
                "should_close_all": critical,
                "alert_threshold_pct": limits.drawdown_critical_pct
                if critical
                else limits.drawdown_warning_pct,
                "warning_pct": limits.drawdown_warning_pct,
                "critical_pct": limits.drawdown_critical_pct,
                "minimum_equity": limits.minimum_equity,
                "current_equity": account.equity,
                "peak_equity": None if account.peak is None else account.peak.shown,
                "current_drawdown_pct": None if account.alert_type == "unknown" else account.pct,
                "currency": account.currency,
                "liquidation_at": _iso_or_none(drawdowns[-1].liquidation_at) if drawdowns else None,
                "last_checked_at": _iso_or_none(account.equity_at),
                "doubt": account.doubt,
                "doubted_equity": account.doubted_equity,
            },
            "alerts": dict(map(_alert, live)),
            "normal_alerts": dict(map(_alert, harmless)) or None,
            "breaches": breaches(drawdowns, market.raised.values()),
        }


def _is_sync(arrival: Arrival) -> bool:
    row = arrival.change
    return isinstance(row, LogRow) and row.kind == "sync" and (row.usable or row.is_loop)


def _match(ticket: Ticket) -> int | None:
    row = None if ticket.state is None else ticket.state.change
    return row.match if isinstance(row, LogRow) else None


def warning(positions: Mapping[str, Any]) -> str:
    """One sentence that names those of channel ``positions`` for which the status is a warning."""
    book = {**positions["open"], **positions.get("unmatched", {})}
    found = []
    for one, many, concerned in (
        ("diverges from the broker", "diverge from the broker",
         [ticket for ticket, each in book.items() if each.get("matched") == 2]),
        ("is no longer mentioned by the platform", "are no longer mentioned by the platform",
         [ticket for ticket, each in book.items() if "unconfirmed_since" in each]),
    ):  # fmt: skip
        if concerned:
            how_many = "1 position " + one if len(concerned) == 1 else f"{len(concerned)} positions {many}"
            names = [_name(ticket, book[ticket]) for ticket in sorted(concerned, key=int)[:3]]
            rest = f" and {len(concerned) - 3} more" if len(concerned) > 3 else ""
            found.append(f"{how_many}: {', '.join(names)}{rest}")
    return "; ".join(found)


def _name(ticket: str, position: Mapping[str, Any]) -> str:
    return f"{position['symbol']} #{ticket}" if "symbol" in position else f"#{ticket}"


def _duration_ms(arrival: Arrival) -> Decimal | None:
    row = arrival.change
    assert isinstance(row, LogRow)
    begun, ended = values.moment(row.created_at), values.moment(row.updated_at)
    if begun is None or ended is None or ended <= begun:
        return None
    return Decimal((ended - begun) // timedelta(microseconds=1)) / 1000


def error_message(own: History) -> str | None:
    """The message in the platform's latest row about a position."""
    speaking = [
        arrival
        for arrival in own
        if isinstance(arrival.change, LogRow) and _speaks_of_a_position(arrival.change)
    ]
    if not speaking:
        return None
    latest = max(speaking, key=lambda arrival: arrival.recency).change
    assert isinstance(latest, LogRow)
    return values.text(latest.error_message)


def _speaks_of_a_position(row: LogRow) -> bool:
    """Whether it would bear a position had it not failed."""
    return row.usable and row.kind in {
        "sync", "divergence", "warning", "unmatched_position", "close", "position_closed",
    }  # fmt: skip


def _alert(condition: Condition) -> tuple[str, dict[str, Any]]:
    gap, spread = condition.condition_type == "price_gap", condition.condition_type == "bid_ask_spread"
    return f"{condition.symbol}:{condition.condition_type}", {
        "symbol": condition.symbol,
        "condition_type": condition.condition_type,
        "alert_type": condition.level,
        "price_gap_pct": condition.pct if gap else None,
        "bid_ask_spread_pct": condition.pct if spread else None,
        "close_price": condition.before if gap else None,
        "open_price": condition.after if gap else None,
        "bid": condition.before if spread else None,
        "ask": condition.after if spread else None,
        "should_close_positions": condition.level == "critical",
        "detected_at": values.iso(condition.detected_at),
    }


def _iso_or_none(moment: Any) -> str | None:
    return None if moment is None else values.iso(moment)


def wire(value: Any) -> Any:
    """A value as it stands on the wire: absent instead of None, JSON numbers instead of decimals."""
    if isinstance(value, dict):
        return {key: wire(each) for key, each in value.items() if each is not None}
    return float(value) if isinstance(value, Decimal) else value
