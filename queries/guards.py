"""Channel `guards`: what must make a bot act, and what already should have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from guardwire.patch import State
from queries.live_query import LiveQuery
from queries.records import Remembered, read

# Rounded, because a limit too small for floating point would make the account unreadable.
# The applier decides levels; nothing here looks at the clock.
_COLUMNS = """
       record_send(ROW(
           -- While the platform's clock may have gone back nobody knows that all is normal.
           CASE WHEN account.clock_doubted_at IS NULL OR account.drawdown_level <> 'normal'
                THEN account.drawdown_level END,
           account.equity, account.peak_equity, account.drawdown_pct,
           account.currency, account.liquidation_at, account.equity_at,
           round(coalesce(limits.drawdown_warning_pct, defaults.drawdown_warning_pct), 15),
           round(coalesce(limits.drawdown_critical_pct, defaults.drawdown_critical_pct), 15),
           round(coalesce(limits.minimum_equity, defaults.minimum_equity), 15),
           CASE WHEN (account.doubted).row_id IS NOT NULL THEN 'implausible'
                WHEN account.clock_doubted_at IS NOT NULL THEN 'older'
                WHEN account.equity_overdue THEN 'overdue' END,
           (account.doubted).equity)) AS drawdown,
       ARRAY(SELECT record_send(ROW(m.symbol, m.condition_type, m.alert_type, m.detected_at, m.gap_pct,
                                    m.spread_pct, m.open_price, m.close_price, m.bid, m.ask,
                                    m.user_id = watched.user_id))
             FROM guardwire.market_alerts AS m
             WHERE m.user_id = watched.user_id) AS market_alerts,
       ARRAY(SELECT record_send(ROW(b.breach_id, b.kind, b.raised_at, b.cleared_at, b.observed_pct, b.symbol,
                                    b.condition_type, b.user_id = watched.user_id))
             FROM guardwire.breaches AS b
             WHERE b.user_id = watched.user_id) AS breaches
"""

#: States that are shared between reads.
_GUARDS_REMEMBERED: Final = 16_384

_ALERT_FIELDS = ("price_gap_pct", "bid_ask_spread_pct", "open_price", "close_price", "bid", "ask")


def _shape(row: Mapping[str, Any]) -> State:
    return _remembered((row["drawdown"], tuple(row["market_alerts"]), tuple(row["breaches"])))


def _guards(records: tuple[bytes, tuple[bytes, ...], tuple[bytes, ...]]) -> State:
    # Prices move all the time, guards seldom.
    drawdown_record, alert_records, breach_records = records
    level, *values = read(drawdown_record)
    drawdown = _drawdown(level, *values)
    reported = dict(map(_alert, alert_records))
    alerts = {key: alert for key, alert in reported.items() if alert["alert_type"] != "normal"}
    state: State = {
        "system_status": _system_status(drawdown["alert_type"], level, drawdown.get("doubt"), bool(alerts)),
        "any_positions_should_close": drawdown["should_close_all"]
        or any(alert["should_close_positions"] for alert in alerts.values()),
        "drawdown": drawdown,
        "alerts": alerts,
        "breaches": dict(map(_breach, breach_records)),
    }
    # Beside the alerts, because clients of 0.1.0 end when an alert's type is not one of the two that they know.
    if len(alerts) < len(reported):
        state["normal_alerts"] = {key: reported[key] for key in reported.keys() - alerts.keys()}
    return state


def _system_status(alert_type: str, level: str | None, doubt: str | None, any_alert: bool) -> str:
    # A value that is unknown never ends a warning that was measured.
    if any_alert or level in ("warning", "critical") or doubt == "implausible":
        return "warning"
    # Without equity that is known to be good nothing is known, and unknown is never called healthy.
    return "healthy" if alert_type == "normal" else "unknown"


def _drawdown(
    level: str | None,
    equity: float | None,
    peak_equity: float | None,
    drawdown_pct: float | None,
    currency: str | None,
    liquidation_at: str | None,
    equity_at: str | None,
    warning_pct: float,
    critical_pct: float,
    minimum_equity: float,
    doubt: str | None,
    doubted_equity: float | None,
) -> State:
    # Unknown is no level: it never takes the place of critical.
    alert_type = level if level is not None and (doubt is None or level == "critical") else "unknown"
    state: State = {
        "alert_type": alert_type,
        "should_close_all": level == "critical",
        "alert_threshold_pct": critical_pct if level == "critical" else warning_pct,
        "warning_pct": warning_pct,
        "critical_pct": critical_pct,
        "minimum_equity": minimum_equity,
        "current_equity": equity,
        "peak_equity": peak_equity,
        "current_drawdown_pct": None if alert_type == "unknown" else drawdown_pct,
        "currency": currency,
        "liquidation_at": liquidation_at,
        "last_checked_at": equity_at,
        "doubt": doubt if equity is not None or doubt == "implausible" else None,
        "doubted_equity": doubted_equity,
    }
    return _without_none(state)


def _alert(record: bytes) -> tuple[str, State]:
    symbol, condition_type, alert_type, detected_at, *observed, _ = read(record)
    state: State = {
        "symbol": symbol,
        "condition_type": condition_type,
        "alert_type": alert_type,
        "should_close_positions": alert_type == "critical",
        "detected_at": detected_at,
    }
    state.update(zip(_ALERT_FIELDS, observed, strict=True))
    return f"{symbol}:{condition_type}", _without_none(state)


def _breach(record: bytes) -> tuple[str, State]:
    breach_id, kind, raised_at, cleared_at, observed_pct, symbol, condition_type, _ = read(record)
    state: State = {
        "kind": kind,
        "raised_at": raised_at,
        "cleared_at": cleared_at,
        "observed_pct": observed_pct,
        "symbol": symbol,
        "condition_type": condition_type,
    }
    return breach_id, _without_none(state)


def _without_none(state: State) -> State:
    return {name: value for name, value in state.items() if value is not None}


_remembered = Remembered(_guards, most=_GUARDS_REMEMBERED)
GUARDS = LiveQuery("guards", _COLUMNS, _shape, collections=("market_alerts", "breaches"))
