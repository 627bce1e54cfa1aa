"""The screen of `guardwire watch`."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from guardwire.state import (
    AccountState,
    Alert,
    Alerts,
    Attendance,
    Attendant,
    Breach,
    Drawdown,
    Event,
    Guards,
    MarketAlert,
    Position,
    Positions,
    Status,
)
from realtime.cli.screen import screen

DRAWDOWN = Drawdown(
    alert_type="critical",
    should_close_all=True,
    alert_threshold_pct=20.0,
    warning_pct=15.0,
    critical_pct=20.0,
    minimum_equity=100.0,
    current_equity=7_900.5,
    peak_equity=10_000.0,
    current_drawdown_pct=21.0,
    currency="GBP",
    liquidation_at="2026-01-02T10:11:12.000000Z",
)
STATE = AccountState(
    status=Status(
        status="warning",
        source="live",
        total_syncs=8640,
        open_positions_count=1,
        matched_positions=1,
        divergences_detected=2,
        recent_events={
            "a": Event(
                event_type="position_closed", created_at="2026-01-02T10:00:01.000000Z", description="older"
            ),
            "b": Event(
                event_type="position_closed", created_at="2026-01-02T10:00:02.000000Z", description="newer"
            ),
        },
        last_sync_at="2026-01-02T10:00:00.000000Z",
    ),
    positions=Positions(
        total_positions=1,
        open={
            "2147483649": Position(
                position_id="x",
                entry_time="2026-01-02T09:00:00.000000Z",
                last_updated_at="2026-01-02T10:00:00.000000Z",
                symbol="XAUUSD",
                direction="buy",
                volume=0.1,
                entry_price=1950.5,
                current_price=1955.75,
                unrealized_pnl=52.5,
                unrealized_pnl_pct=0.27,
            )
        },
        unmatched={
            "2147483650": Position(
                position_id="y",
                entry_time="2026-01-02T09:00:00.000000Z",
                last_updated_at="2026-01-02T10:00:00.000000Z",
                symbol="EURUSD",
                matched=2,
                divergence_reason="volume differs",
            )
        },
        total_unrealized_pnl=52.5,
        currency="USD",
    ),
    guards=Guards(
        system_status="warning",
        any_positions_should_close=True,
        drawdown=DRAWDOWN,
        alerts={
            "EURUSD:price_gap": MarketAlert(
                symbol="EURUSD",
                condition_type="price_gap",
                alert_type="critical",
                should_close_positions=True,
                detected_at="2026-01-02T09:59:58.000000Z",
            )
        },
        breaches={"1": Breach(kind="drawdown", raised_at="2026-01-02T10:10:12.000000Z")},
    ),
)


def drawn(state: AccountState, *, status: str = "connected", age_seconds: float | None = 0.31) -> str:
    console = Console(file=io.StringIO(), width=140, color_system=None)
    console.print(screen(state, status=status, age_seconds=age_seconds, transport="websocket"))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    "shown",
    [
        *("connected", "0.3 s old", "over websocket", "8,640 syncs", "last 10:00:00", "2 diverging"),
        *("2147483649", "XAUUSD", "buy", "0.1", "1,950.5", "1,955.75", "+52.50", "+0.27"),
        *("2147483650", "#2147483650 diverges: volume differs"),
        *("drawdown 21.00 %", "warning 15 %, critical 20 %", "7,900.50 GBP", "liquidation at 10:11:12"),
        *("EURUSD price gap since 09:59:58", "close positions"),
    ],
)
def test_the_screen_shows_state_age_and_transport(shown: str) -> None:
    assert shown in drawn(STATE)


def test_events_come_newest_first() -> None:
    assert drawn(STATE).index("newer") < drawn(STATE).index("older")


def test_a_state_of_which_nothing_is_known_claims_nothing() -> None:
    unknown = AccountState(
        guards=Guards(
            system_status="unknown",
            any_positions_should_close=False,
            drawdown=Drawdown(
                alert_type="unknown",
                should_close_all=False,
                alert_threshold_pct=15.0,
                warning_pct=15.0,
                critical_pct=20.0,
                minimum_equity=100.0,
            ),
            alerts={},
            breaches={},
        )
    )
    text = drawn(unknown, status="blind", age_seconds=None)
    assert "drawdown unknown" in text
    assert "equity unknown" in text
    assert "no state yet" in text
    assert "0.00" not in text


ALERT = Alert(
    generation=2,
    kind="market",
    severity="critical",
    subject="XAUUSD price_gap",
    first_raised_at="2026-01-02T10:00:01.000000Z",
    raised_at="2026-01-02T10:00:01.000000Z",
    deadline_at="2026-01-02T10:01:01.000000Z",
    occurrences=1,
    level=1,
)
ANSWERED = Alert(
    generation=1,
    kind="drawdown",
    severity="critical",
    subject="",
    first_raised_at="2026-01-02T10:00:05.000000Z",
    raised_at="2026-01-02T10:00:05.000000Z",
    occurrences=1,
    level=0,
    acknowledged_by="closer-1",
    acknowledged_at="2026-01-02T10:00:07.000000Z",
    action="acting",
)


def test_open_alerts_say_how_long_and_who_answered() -> None:
    attendance = Attendance(
        armed=True,
        status="attended",
        attendants={"closer-1": Attendant(since="2026-01-02T09:00:00.000000Z")},
    )
    alerts = Alerts(unacknowledged=1, open={"a": ANSWERED, "b": ALERT}, attendance=attendance)
    text = drawn(AccountState(alerts=alerts))
    assert "Open alerts: 2, not acknowledged: 1" in text
    assert "attended  armed, closer-1 attends" in text
    assert "market XAUUSD price_gap since 10:00:01  act by 10:01:01  nobody acknowledged it  level 1" in text
    assert "drawdown since 10:00:05  closer-1 acting at 10:00:07" in text


def test_an_armed_account_that_nobody_attends_says_when_the_alarm_comes() -> None:
    attendance = Attendance(
        armed=True, status="unattended", attendants={}, grace_until="2026-01-02T10:00:45.000000Z"
    )
    text = drawn(AccountState(alerts=Alerts(unacknowledged=0, open={}, attendance=attendance)))
    assert "unattended  armed, nobody attends, alarm at 10:00:45" in text
