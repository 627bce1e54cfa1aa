"""Channel `guards`: what must make a bot act, and what already should have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from queries.live_query import LiveQuery
from queries.timestamps import iso
from realtime.patch import State

# Rounded, because a limit too small for floating point would make the account unreadable.
# Levels are decided by the capture, in the writer's transaction; nothing here looks at the clock.
_COLUMNS = """
       account.equity::float8 AS equity,
       account.currency AS equity_currency,
       account.peak_equity::float8 AS peak_equity,
       account.drawdown_pct::float8 AS drawdown_pct,
       account.drawdown_level,
       account.liquidation_at,
       account.equity_at,
       round(coalesce(limits.drawdown_warning_pct, 15), 15)::float8 AS warning_pct,
       round(coalesce(limits.drawdown_critical_pct, 20), 15)::float8 AS critical_pct,
       round(coalesce(limits.minimum_equity, 100), 15)::float8 AS minimum_equity,
       ARRAY(SELECT ROW(m.symbol, m.condition_type, m.alert_type, m.detected_at, m.gap_pct::float8,
                        m.spread_pct::float8, m.open_price::float8, m.close_price::float8,
                        m.bid::float8, m.ask::float8, m.user_id = watched.user_id)
             FROM guardwire.market_alerts AS m
             WHERE m.user_id = watched.user_id AND m.alert_type <> 'normal') AS market_alerts,
       ARRAY(SELECT ROW(b.breach_id, b.kind, b.raised_at, b.cleared_at, b.observed_pct::float8, b.symbol,
                        b.condition_type, b.user_id = watched.user_id)
             FROM guardwire.breaches AS b
             WHERE b.user_id = watched.user_id) AS breaches
"""

_ALERT_FIELDS = ("price_gap_pct", "bid_ask_spread_pct", "open_price", "close_price", "bid", "ask")


def _shape(row: Mapping[str, Any]) -> State:
    drawdown = _drawdown(row)
    alerts = {f"{alert[0]}:{alert[1]}": _alert(alert) for alert in row["market_alerts"]}
    return {
        "system_status": _system_status(drawdown["alert_type"], bool(alerts)),
        "any_positions_should_close": drawdown["should_close_all"]
        or any(alert["should_close_positions"] for alert in alerts.values()),
        "drawdown": drawdown,
        "alerts": alerts,
        "breaches": {breach[0]: _breach(breach) for breach in row["breaches"]},
    }


def _system_status(drawdown_level: str, any_alert: bool) -> str:
    if any_alert or drawdown_level in ("warning", "critical"):
        return "warning"
    # Without equity on record nothing is known, and unknown is never called healthy.
    return "healthy" if drawdown_level == "normal" else "unknown"


def _drawdown(row: Mapping[str, Any]) -> State:
    level = row["drawdown_level"] or "unknown"
    state: State = {
        "alert_type": level,
        "should_close_all": level == "critical",
        "alert_threshold_pct": row["critical_pct"] if level == "critical" else row["warning_pct"],
        "warning_pct": row["warning_pct"],
        "critical_pct": row["critical_pct"],
        "minimum_equity": row["minimum_equity"],
    }
    for name, column in (
        ("current_equity", "equity"),
        ("peak_equity", "peak_equity"),
        ("current_drawdown_pct", "drawdown_pct"),
        ("currency", "equity_currency"),
    ):
        if row[column] is not None:
            state[name] = row[column]
    if row["liquidation_at"] is not None:
        state["liquidation_at"] = iso(row["liquidation_at"])
    if row["equity_at"] is not None:
        state["last_checked_at"] = iso(row["equity_at"])
    return state


def _alert(alert: tuple[Any, ...]) -> State:
    symbol, condition_type, alert_type, detected_at, *observed, _ = alert
    state: State = {
        "symbol": symbol,
        "condition_type": condition_type,
        "alert_type": alert_type,
        "should_close_positions": alert_type == "critical",
        "detected_at": iso(detected_at),
    }
    state.update(
        (name, value) for name, value in zip(_ALERT_FIELDS, observed, strict=True) if value is not None
    )
    return state


def _breach(breach: tuple[Any, ...]) -> State:
    _, kind, raised_at, cleared_at, observed_pct, symbol, condition_type, _ = breach
    state: State = {"kind": kind, "raised_at": iso(raised_at)}
    if cleared_at is not None:
        state["cleared_at"] = iso(cleared_at)
    for name, value in (
        ("observed_pct", observed_pct),
        ("symbol", symbol),
        ("condition_type", condition_type),
    ):
        if value is not None:
            state[name] = value
    return state


GUARDS = LiveQuery("guards", _COLUMNS, _shape, collections=("market_alerts", "breaches"))
