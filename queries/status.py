"""Channel `status`: is the reconciliation of this account alive, and does it agree with the broker?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from guardwire.patch import State
from queries.live_query import LiveQuery
from queries.positions import position_of
from queries.records import Remembered, read
from queries.timestamps import iso

#: Events that are shared between reads.
_EVENTS_REMEMBERED: Final = 32_768

# The counts come from the open book, never from the log.
_COLUMNS = """
       coalesce(account.ready, backfill.done) AS ready,
       coalesce(account.source, 'silent') AS source,
       coalesce(account.total_syncs, 0) AS total_syncs,
       account.last_sync_at,
       account.last_sync_duration_ms,
       account.error_message,
       book.matched,
       book.diverging,
       book.unconfirmed,
       account.clock_offset_seconds,
       account.clock_stepped_at IS NOT NULL AS counts_at_arrival,
       coalesce(account.total_syncs > 0 OR account.last_position_at IS NOT NULL OR account.equity IS NOT NULL,
                false)
           OR EXISTS (SELECT FROM guardwire.events AS e WHERE e.user_id = watched.user_id) AS recorded,
       ARRAY(SELECT record_send(ROW(e.event_id, e.event_type, e.created_at, e.symbol, e.ticket, e.matched,
                                    e.pnl_gbp, e.divergence_reason, e.notice, e.detail,
                                    e.user_id = watched.user_id))
             FROM guardwire.events AS e
             WHERE e.user_id = watched.user_id
             ORDER BY e.created_at DESC, e.revision DESC, e.ordinal DESC
             LIMIT 5) AS recent_events
"""

_DIVERGES: Final = 2
#: Notices of a drawdown alert. All other notices report findings of the server itself.
_LEVELS: Final = ("warning", "critical")
_DIVERGE: Final = ("diverges from the broker", "diverge from the broker")
_UNCONFIRMED: Final = ("is no longer mentioned by the platform", "are no longer mentioned by the platform")
#: Positions that a warning names.
_MOST_NAMED: Final = 3

_DESCRIPTIONS = {
    "position_synced": "{what} synced",
    "position_matched": "{what} matched with the broker",
    "divergence_detected": "{what} diverges from the broker",
    "position_closed": "{what} closed",
    "drawdown_alert": "Drawdown alert",
    "market_condition_alert": "Market condition on {what}",
}


def _shape(row: Mapping[str, Any]) -> State:
    matched, diverging = row["matched"], row["diverging"]
    state: State = {
        "status": _status(row["ready"], matched, diverging + row["unconfirmed"]),
        "source": row["source"],
        "total_syncs": row["total_syncs"],
        "open_positions_count": matched,
        "matched_positions": matched,
        "divergences_detected": diverging,
        "recent_events": dict(map(_remembered, row["recent_events"])),
    }
    if row["last_sync_at"] is not None:
        state["last_sync_at"] = iso(row["last_sync_at"])
    for name in ("last_sync_duration_ms", "clock_offset_seconds"):
        if row[name] is not None:
            state[name] = row[name]
    if row["counts_at_arrival"]:
        state["counts_at_arrival"] = True
    if not row["recorded"]:
        state["recorded"] = False
    error_message = row["error_message"] or (_warning(row) if state["status"] == "warning" else None)
    if error_message is not None:
        state["error_message"] = error_message
    return state


def _status(ready: bool, matched: int, warnings: int) -> str:
    if not ready:
        return "unknown"
    if warnings:
        return "warning"
    return "healthy" if matched else "idle"


def _warning(row: Mapping[str, Any]) -> str:
    """One sentence that names the fault, for a platform that sent no message."""
    positions = [position_of(record) for record in row["open_positions"]]
    diverging = sorted(int(ticket) for ticket, each in positions if each.get("matched") == _DIVERGES)
    unconfirmed = sorted(int(ticket) for ticket, each in positions if "unconfirmed_since" in each)
    symbols = {int(ticket): each.get("symbol") for ticket, each in positions}
    return "; ".join(
        f"{_counted(len(tickets))} {verb[len(tickets) > 1]}: {_named(tickets, symbols)}"
        for tickets, verb in ((diverging, _DIVERGE), (unconfirmed, _UNCONFIRMED))
        if tickets
    )


def _counted(positions: int) -> str:
    return "1 position" if positions == 1 else f"{positions} positions"


def _named(tickets: list[int], symbols: Mapping[int, str | None]) -> str:
    """The first few by symbol and ticket."""
    named = [" ".join(filter(None, (symbols[ticket], f"#{ticket}"))) for ticket in tickets[:_MOST_NAMED]]
    more = len(tickets) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


def _event(record: bytes) -> tuple[str, State]:
    (event_id, event_type, created_at, symbol, ticket, matched, pnl_gbp, divergence_reason, notice, detail,
     _) = read(record)  # fmt: skip
    state: State = {
        "event_type": event_type,
        "created_at": created_at,
        "description": _describe_notice(symbol, ticket, detail)
        if notice is not None and event_type != "drawdown_alert"
        else _describe(event_type, None, None, detail)
        if notice is not None
        else _describe(event_type, symbol, ticket, divergence_reason),
    }
    if notice in _LEVELS:
        state["alert_type"] = notice
    elif notice is not None:
        state["notice"] = notice
    if symbol is not None:
        state["symbol"] = symbol
    if ticket is not None:
        # Text, because a JavaScript number cannot hold every ticket.
        state["mt5_ticket"] = str(ticket)
    if matched is not None:
        state["matched"] = matched
    if pnl_gbp is not None:
        state["pnl_gbp"] = pnl_gbp
    if divergence_reason is not None:
        state["divergence_reason"] = divergence_reason
    return event_id, state


def _describe_notice(symbol: str | None, ticket: int | None, detail: str | None) -> str:
    what = " ".join(filter(None, (symbol, f"#{ticket}" if ticket else None)))
    return ": ".join(filter(None, (what, detail)))


def _describe(event_type: str, symbol: str | None, ticket: int | None, reason: str | None) -> str:
    what = " ".join(filter(None, (symbol, f"#{ticket}" if ticket else None))) or "account"
    sentence = _DESCRIPTIONS[event_type].format(what=what)
    return f"{sentence}: {reason}" if reason else sentence


_remembered = Remembered(_event, most=_EVENTS_REMEMBERED)
STATUS = LiveQuery("status", _COLUMNS, _shape, collections=("recent_events",))
