"""The screen of `guardwire watch`: a state as text in boxes. Pure."""

from __future__ import annotations

from typing import Final

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from guardwire.state import (
    AccountState,
    Alert,
    Alerts,
    Attendance,
    Drawdown,
    Guards,
    Position,
    Positions,
    Status,
)

FRESHNESS_STYLES: Final = {"connected": "bold green", "stale": "bold yellow", "blind": "bold red"}
LEVEL_STYLES: Final = {"normal": "green", "warning": "yellow", "critical": "bold red", "unknown": "dim"}
NOTHING: Final = Text("–", style="dim")


def screen(
    state: AccountState, *, status: str, age_seconds: float | None, transport: str | None
) -> RenderableType:
    """The whole screen; ``status``, ``age_seconds`` and ``transport`` are the client's own (`Account`)."""
    parts: list[RenderableType] = [_freshness(status, age_seconds, transport)]
    if state.status is not None:
        parts.append(_reconciliation(state.status))
    if state.alerts is not None:
        parts.append(_alerts(state.alerts))
    if state.guards is not None:
        parts.append(_guards(state.guards))
    if state.positions is not None:
        parts.append(_positions(state.positions))
    if state.status is not None:
        parts.append(_events(state.status))
    parts.append(Text("Ctrl-C ends this view", style="dim"))
    return Group(*parts)


def _freshness(status: str, age_seconds: float | None, transport: str | None) -> Text:
    age = "no state yet" if age_seconds is None else f"{age_seconds:.1f} s old"
    over = f" over {transport}" if transport else ", reconnecting"
    return Text.assemble((f"● {status}", FRESHNESS_STYLES.get(status, "bold")), f"  {age}{over}")


def _reconciliation(status: Status) -> Text:
    style = {"healthy": "green", "warning": "bold yellow"}.get(status.status, "dim")
    return Text.assemble(
        "Reconciliation ",
        (status.status, style),
        f"  {status.source}, {status.total_syncs:,} syncs, last {_clock(status.last_sync_at)}, ",
        f"{status.divergences_detected} diverging",
        (f"  {status.error_message}", "red") if status.error_message else "",
    )


def _alerts(alerts: Alerts) -> Panel:
    rows: list[RenderableType] = [_attendance(alerts.attendance)]
    most_urgent_first = sorted(
        alerts.open.values(), key=lambda alert: (alert.resolved_at is not None, alert.first_raised_at)
    )
    rows += [_alert(alert) for alert in most_urgent_first]
    style = "red" if alerts.unacknowledged else "dim"
    title = f"Open alerts: {len(alerts.open)}, not acknowledged: {alerts.unacknowledged}"
    return Panel(Group(*rows), title=title, title_align="left", border_style=style)


def _attendance(attendance: Attendance) -> Text:
    names = ", ".join(sorted(attendance.attendants)) or "nobody"
    armed = "armed" if attendance.armed else "not armed"
    style = {"attended": "green", "unattended": "bold red"}.get(attendance.status, "dim")
    grace = f", alarm at {_clock(attendance.grace_until)}" if attendance.grace_until else ""
    return Text.assemble((attendance.status, style), f"  {armed}, {names} attends{grace}")


def _alert(alert: Alert) -> Text:
    answer = (
        "  nobody acknowledged it"
        if alert.acknowledged_by is None
        else f"  {alert.acknowledged_by} {alert.action} at {_clock(alert.acknowledged_at)}"
    )
    is_over = alert.resolved_at is not None
    return Text.assemble(
        (f"{alert.severity:<9}", "dim" if is_over else LEVEL_STYLES[alert.severity]),
        f"{alert.kind} {alert.subject}".rstrip(),
        f" since {_clock(alert.first_raised_at)}",
        (f"  act by {_clock(alert.deadline_at)}", "bold red") if alert.deadline_at and not is_over else "",
        f"  over since {_clock(alert.resolved_at)}" if is_over else "",
        answer,
        f"  level {alert.level}" if alert.level else "",
    )


def _guards(guards: Guards) -> Panel:
    rows: list[RenderableType] = [_drawdown(guards.drawdown)]
    rows += [
        Text.assemble(
            (f"{alert.alert_type:<9}", LEVEL_STYLES[alert.alert_type]),
            f"{alert.symbol} {alert.condition_type.replace('_', ' ')} since {_clock(alert.detected_at)}",
            ("  close positions", "bold red") if alert.should_close_positions else "",
        )
        for alert in [*guards.alerts.values(), *(guards.normal_alerts or {}).values()]
    ]
    style = "red" if guards.any_positions_should_close else "dim"
    return Panel(
        Group(*rows), title=f"Guards: {guards.system_status}", title_align="left", border_style=style
    )


def _drawdown(drawdown: Drawdown) -> RenderableType:
    style = LEVEL_STYLES[drawdown.alert_type]
    pct = drawdown.current_drawdown_pct
    table = Table.grid(padding=(0, 2))
    bar = ProgressBar(
        total=drawdown.critical_pct or 100.0,
        completed=pct or 0.0,
        width=24,
        complete_style=style,
        finished_style=style,
    )
    table.add_row(
        Text(f"{drawdown.alert_type:<9}", style=style),
        Text(f"drawdown unknown {drawdown.doubt or ''}".rstrip() if pct is None else f"drawdown {pct:.2f} %"),
        bar,
        Text(f"warning {drawdown.warning_pct:g} %, critical {drawdown.critical_pct:g} %", style="dim"),
        Text(f"equity {_money(drawdown.current_equity, drawdown.currency)}"),
        Text(
            f"liquidation at {_clock(drawdown.liquidation_at)}" if drawdown.liquidation_at else "",
            style="bold red",
        ),
    )
    return table


def _positions(positions: Positions) -> Panel:
    table = Table(box=None, pad_edge=False, expand=True)
    for name in ("ticket", "symbol", "side"):
        table.add_column(name, no_wrap=True)
    for name in ("volume", "entry", "price", "P&L", "%", "stop", "target"):
        table.add_column(name, justify="right", no_wrap=True)
    for ticket, position in _newest_first(positions.open):
        table.add_row(ticket, *_cells(position))
    for ticket, position in _newest_first(positions.unmatched or {}):
        table.add_row(ticket, *_cells(position), style="yellow")
    total = _format_signed(positions.total_unrealized_pnl)
    title = Text.assemble(f"Positions: {positions.total_positions}, ", total, f" {positions.currency or ''}")
    unmatched = [
        Text(f"#{ticket} {_mismatch(position)}", style="yellow")
        for ticket, position in _newest_first(positions.unmatched or {})
    ]
    return Panel(Group(table, *unmatched), title=title, title_align="left", border_style="dim")


def _newest_first(book: dict[str, Position]) -> list[tuple[str, Position]]:
    return sorted(book.items(), key=lambda item: item[1].entry_time, reverse=True)


def _mismatch(position: Position) -> str:
    """Why a position is in no sum."""
    what = "diverges" if position.matched == 2 else "not matched"
    return f"{what}: {position.divergence_reason}" if position.divergence_reason else what


def _cells(position: Position) -> list[RenderableType]:
    return [
        position.symbol or NOTHING,
        Text(position.direction, style="cyan" if position.direction == "buy" else "magenta")
        if position.direction
        else NOTHING,
        *(_format_number(value) for value in (position.volume, position.entry_price, position.current_price)),
        _format_signed(position.unrealized_pnl),
        _format_signed(position.unrealized_pnl_pct),
        *(_format_number(value) for value in (position.stop_loss, position.take_profit)),
    ]


def _events(status: Status) -> Group:
    newest_first = sorted(status.recent_events.values(), key=lambda event: event.created_at, reverse=True)
    return Group(
        *(Text(f"{_clock(event.created_at)}  {event.description}", style="dim") for event in newest_first)
    )


def _format_number(value: float | None) -> RenderableType:
    return NOTHING if value is None else f"{value:,.10g}"


def _format_signed(value: float | None) -> Text:
    if value is None:
        return NOTHING
    return Text(f"{value:+,.2f}", style="green" if value > 0 else "red" if value < 0 else "")


def _money(value: float | None, currency: str | None) -> str:
    return "unknown" if value is None else f"{value:,.2f} {currency or ''}".rstrip()


def _clock(time: str | None) -> str:
    """Time of day, UTC, of an ISO 8601 text."""
    return "never" if time is None else time[11:19]
