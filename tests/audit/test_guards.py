"""The oracle on examples worked out by hand: drawdown, alerts, breaches, events."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.audit.tale import Tale, at


@pytest.mark.parametrize(
    ("equity", "pct", "level"),
    [
        (9_500, 5.0, "normal"),
        (8_500, 15.0, "warning"),
        (8_500.51, 14.99, "normal"),
        (8_000, 20.0, "critical"),
    ],
)
def test_levels_of_a_drawdown_from_ten_thousand(equity: float, pct: float, level: str) -> None:
    tale = Tale()
    tale.equity(0, 10_000)
    tale.equity(1, equity)
    assert (tale.drawdown["current_drawdown_pct"], tale.drawdown["alert_type"]) == (pct, level)
    assert tale.drawdown["should_close_all"] is (level == "critical")


def test_without_equity_nothing_is_known_and_nothing_is_healthy() -> None:
    tale = Tale()
    tale.row(0)
    assert tale.drawdown["alert_type"] == "unknown"
    assert tale.state()["guards"]["system_status"] == "unknown"


def test_a_withdrawal_is_no_drawdown_and_a_deposit_no_gain() -> None:
    tale = Tale()
    tale.equity(0, 10_000)
    tale.equity(1, 5_000, cash_flow=Decimal(-5_000))
    assert (tale.drawdown["peak_equity"], tale.drawdown["current_drawdown_pct"]) == (5_000.0, 0.0)
    tale.equity(2, 6_500, cash_flow=Decimal(2_000))
    assert (tale.drawdown["peak_equity"], tale.drawdown["current_drawdown_pct"]) == (7_000.0, 7.14)


def test_a_flow_that_arrives_late_counts_from_its_own_time() -> None:
    tale = Tale()
    tale.equity(0, 10_000)
    tale.equity(20, 5_000)
    assert tale.drawdown["current_drawdown_pct"] == 50.0
    tale.equity(10, 5_100, cash_flow=Decimal(-5_000))
    assert (tale.drawdown["peak_equity"], tale.drawdown["current_drawdown_pct"]) == (5_100.0, 1.96)


def test_equity_that_is_none_is_ignored_and_a_negative_one_never_moves_the_peak() -> None:
    tale = Tale()
    tale.equity(0, 1_000)
    tale.equity(1, "NaN")
    assert tale.drawdown["current_equity"] == 1_000.0
    tale.equity(2, -50)
    assert (tale.drawdown["peak_equity"], tale.drawdown["current_drawdown_pct"]) == (1_000.0, 100.0)


def test_equity_below_the_minimum_is_critical_without_a_drawdown() -> None:
    tale = Tale()
    tale.equity(0, 99.99)
    assert (tale.drawdown["current_drawdown_pct"], tale.drawdown["alert_type"]) == (0.0, "critical")


def test_the_peak_can_be_restarted() -> None:
    tale = Tale()
    tale.equity(0, 10_000)
    tale.equity(10, 8_000)
    tale.limits(peak_since=at(5))
    assert (tale.drawdown["peak_equity"], tale.drawdown["alert_type"]) == (8_000.0, "normal")


def test_the_countdown_runs_from_the_breach_and_later_syncs_do_not_restart_it() -> None:
    tale = Tale()
    tale.equity(0, 10_000)
    tale.equity(10, 8_000)
    tale.equity(30, 7_900)
    assert tale.drawdown["liquidation_at"] == "2024-05-06T12:01:10.000000Z"
    tale.equity(40, 9_900)
    assert "liquidation_at" not in tale.drawdown


def test_a_breach_that_came_and_went_stays_latched() -> None:
    tale = Tale()
    tale.equity(0, 10_000)
    breach = tale.equity(10, 7_900)
    tale.equity(20, 9_900)
    assert tale.state()["guards"]["breaches"] == {
        breach.id: {
            "kind": "drawdown",
            "raised_at": "2024-05-06T12:00:10.000000Z",
            "cleared_at": "2024-05-06T12:00:20.000000Z",
            "observed_pct": 21.0,
        }
    }


def test_tighter_limits_raise_the_level_of_an_unchanged_equity() -> None:
    tale = Tale()
    tale.equity(0, 10_000)
    tale.equity(1, 9_000)
    tale.limits(drawdown_warning_pct=Decimal(5), drawdown_critical_pct=Decimal(8))
    assert (tale.drawdown["alert_type"], tale.drawdown["alert_threshold_pct"]) == ("critical", 8.0)
    assert tale.events() == ["drawdown_alert"]


@pytest.mark.parametrize(
    ("reason", "prices", "shown", "level"),
    [
        ("Price GAP at the open", ("100", "104.99"), None, None),
        ("gap", ("100", "105"), {"price_gap_pct": 5.0, "close_price": 100.0, "open_price": 105.0}, "warning"),
        ("gap", ("100", "89.99"), {"price_gap_pct": 10.01}, "critical"),
        ("spread", ("100", "100.50"), None, None),  # 0.498…, rounded 0.50, is not over 0.5
        ("spread", ("100", "100.51"), {"bid_ask_spread_pct": 0.51, "bid": 100.0, "ask": 100.51}, "warning"),
        ("spread", ("100", "101.01"), {"bid_ask_spread_pct": 1.0}, "critical"),
        ("gap", ("100", None), {"close_price": 100.0}, "warning"),
        ("liquidity is thin", (None, None), {"condition_type": "low_liquidity"}, "warning"),
        ("something else", (None, None), {"condition_type": "other"}, "warning"),
    ],
)
def test_market_conditions_and_their_levels(
    reason: str, prices: tuple[str | None, str | None], shown: dict[str, object] | None, level: str | None
) -> None:
    tale = Tale()
    tale.trigger(0, reason, *prices)
    alerts = tale.state()["guards"]["alerts"]
    if shown is None:
        assert alerts == {}
    else:
        (alert,) = alerts.values()
        assert alert["alert_type"] == level
        assert alert.items() >= shown.items()
        assert alert["should_close_positions"] is (level == "critical")


def test_the_latest_condition_of_a_symbol_replaces_the_one_before_and_its_window_ends_it() -> None:
    tale = Tale()
    critical = tale.trigger(0, "gap", "100", "120")
    tale.trigger(10, "gap", "100", "106")
    guards = tale.state()["guards"]
    assert guards["alerts"]["XAUUSD:price_gap"]["alert_type"] == "warning"
    assert guards["breaches"][critical.id]["cleared_at"] == "2024-05-06T12:00:10.000000Z"
    tale.end_alerts(3_600)
    assert tale.state()["guards"]["alerts"] != {}
    tale.end_alerts(3_610)
    assert tale.state()["guards"]["alerts"] == {}


def test_a_critical_alert_that_ends_clears_its_breach_at_the_end_of_the_window() -> None:
    tale = Tale()
    critical = tale.trigger(0, "gap", "100", "120")
    tale.end_alerts(4_000)
    assert tale.state()["guards"]["breaches"][critical.id]["cleared_at"] == "2024-05-06T13:00:00.000000Z"


def test_a_condition_whose_window_passed_before_it_arrived_is_an_event_only() -> None:
    tale = Tale()
    tale.row(4_000)
    tale.trigger(0, "gap", "100", "120")
    assert tale.state()["guards"]["alerts"] == {}
    assert tale.state()["guards"]["breaches"] == {}
    assert tale.events() == ["position_matched", "market_condition_alert"]


def test_a_sync_is_an_event_only_if_it_changes_more_than_price_and_times() -> None:
    tale = Tale()
    tale.row(0)
    tale.row(10, current_price=Decimal(1960))
    tale.row(20, stop_loss=Decimal(1940))
    tale.row(30, stop_loss=Decimal(1940), matched=2, event_type="divergence")
    tale.row(40, stop_loss=Decimal(1940))
    tale.close(50)
    tale.close(60)
    assert tale.events() == [
        "position_closed",
        "position_matched",
        "divergence_detected",
        "position_synced",
        "position_matched",
    ]


def test_only_the_five_newest_events_are_listed() -> None:
    tale = Tale()
    for ticket in range(1, 9):
        tale.row(ticket, ticket)
    assert len(tale.events()) == 5


def test_a_source_falls_silent_and_lives_again_with_the_next_sync() -> None:
    tale = Tale()
    assert tale.state()["status"]["source"] == "silent"
    tale.row(0)
    assert tale.state()["status"]["source"] == "live"
    tale.silence()
    assert tale.state()["status"]["source"] == "silent"
    tale.row(1, status="failed", error_message="no answer")
    assert tale.state()["status"]["source"] == "silent"
    assert tale.state()["status"]["error_message"] == "no answer"
    tale.row(2)
    assert tale.state()["status"]["source"] == "live"
    assert "error_message" not in tale.state()["status"]
