"""The oracle on examples worked out by hand: drawdown, alerts, breaches, events."""

from __future__ import annotations

from decimal import Decimal

import pytest

from realtime.audit.market import condition_type
from tests.audit.history_builder import HistoryBuilder, at


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
    history = HistoryBuilder()
    history.equity(10_000, 0)
    history.equity(equity, 1)
    assert (history.drawdown()["current_drawdown_pct"], history.drawdown()["alert_type"]) == (pct, level)
    assert history.drawdown()["should_close_all"] is (level == "critical")


def test_without_equity_nothing_is_known_and_nothing_is_healthy() -> None:
    history = HistoryBuilder()
    history.sync(0)
    assert history.drawdown()["alert_type"] == "unknown"
    assert history.state()["guards"]["system_status"] == "unknown"


def test_a_withdrawal_is_no_drawdown_and_a_deposit_no_gain() -> None:
    history = HistoryBuilder()
    history.equity(10_000, 0)
    history.equity(5_000, 1, cash_flow=Decimal(-5_000))
    assert (history.drawdown()["peak_equity"], history.drawdown()["current_drawdown_pct"]) == (5_000.0, 0.0)
    history.equity(6_500, 2, cash_flow=Decimal(2_000))
    assert (history.drawdown()["peak_equity"], history.drawdown()["current_drawdown_pct"]) == (7_222.22, 10.0)


def test_a_flow_that_arrives_late_counts_from_its_own_time() -> None:
    history = HistoryBuilder()
    history.equity(10_000, 0)
    history.equity(5_000, 20)
    assert history.drawdown()["current_drawdown_pct"] == 50.0
    history.equity(5_100, 10, cash_flow=Decimal(-5_000))
    history.equity(5_000, 21)
    assert (history.drawdown()["peak_equity"], history.drawdown()["current_drawdown_pct"]) == (5_100.0, 1.96)


def test_equity_that_is_none_is_ignored_and_a_negative_one_counts_when_it_is_confirmed() -> None:
    history = HistoryBuilder()
    history.equity(1_000, 0)
    history.equity("NaN", 1)
    assert history.drawdown()["current_equity"] == 1_000.0
    history.equity(-50, 2)
    assert (history.drawdown()["current_equity"], history.drawdown()["alert_type"]) == (1_000.0, "unknown")
    history.equity(-60, 3)
    assert (history.drawdown()["peak_equity"], history.drawdown()["current_drawdown_pct"]) == (1_000.0, 100.0)


def test_equity_below_the_minimum_is_critical_without_a_drawdown() -> None:
    history = HistoryBuilder()
    history.equity(99.99, 0)
    assert (history.drawdown()["current_drawdown_pct"], history.drawdown()["alert_type"]) == (0.0, "critical")


def test_a_peak_that_is_restarted_begins_with_the_equity_that_stood() -> None:
    history = HistoryBuilder()
    history.equity(10_000, 0)
    history.equity(8_000, 10)
    history.set_limits(peak_since=at(11))
    assert (history.drawdown()["peak_equity"], history.drawdown()["alert_type"]) == (8_000.0, "normal")
    history.set_limits(peak_since=at(5))
    assert (history.drawdown()["peak_equity"], history.drawdown()["alert_type"]) == (10_000.0, "critical")
    history.set_limits()
    history.equity(7_900, 20)
    assert history.drawdown()["current_drawdown_pct"] == 21.0


def test_a_cash_flow_changes_no_percentage() -> None:
    history = HistoryBuilder()
    history.equity(10_000, 0)
    history.equity(8_600, 1)
    history.equity(5_600, 2, cash_flow=Decimal(-3_000))
    assert (history.drawdown()["current_drawdown_pct"], history.drawdown()["peak_equity"]) == (14.0, 6_511.63)
    history.set_limits(drawdown_warning_pct=Decimal(14))
    assert history.drawdown()["alert_type"] == "warning"


def test_implausible_equity_is_confirmed_by_a_second_row_on_its_side_or_by_a_minute() -> None:
    for second_row in (True, False):
        history = HistoryBuilder()
        history.equity(10_000, 0)
        first = history.equity(1_500, 1)
        drawdown = history.drawdown()
        assert (drawdown["alert_type"], drawdown["doubted_equity"], drawdown["peak_equity"]) == (
            "unknown",
            1_500,
            10_000,
        )
        assert history.state()["guards"]["system_status"] == "warning"
        if second_row:
            history.equity(1_200, 2)
        else:
            history.end_alerts(61)
        assert list(history.state()["guards"]["breaches"]) == [first.id]
        assert history.drawdown()["current_equity"] == (1_200 if second_row else 1_500)


def test_a_zero_without_balance_is_confirmed_by_nothing_and_ends_nothing_critical() -> None:
    history = HistoryBuilder()
    history.equity(10_000, 0)
    history.equity(7_000, 1)
    for second in (2, 3, 70):
        history.equity(0, second, balance=Decimal(0))
    history.end_alerts(200)
    assert (history.drawdown()["alert_type"], history.drawdown()["current_equity"]) == ("critical", 7_000.0)
    history.equity(9_900, 201)
    assert history.drawdown()["alert_type"] == "normal"


def test_another_currency_begins_the_peak_anew() -> None:
    history = HistoryBuilder()
    history.equity(10_000, 0)
    history.equity(1_500, 1, currency="BTC")
    assert (history.drawdown()["peak_equity"], history.drawdown()["alert_type"]) == (1_500.0, "normal")


def test_equity_that_is_overdue_is_unknown_and_ends_nothing_critical() -> None:
    history = HistoryBuilder()
    history.equity(10_000, 0)
    history.end_alerts(299)
    assert history.drawdown()["alert_type"] == "normal"
    history.end_alerts(300)
    assert (history.drawdown()["alert_type"], history.drawdown()["doubt"]) == ("unknown", "overdue")
    assert history.state()["guards"]["system_status"] == "unknown"
    history.equity(7_900, 301)
    history.end_alerts(1_000)
    assert (history.drawdown()["alert_type"], history.drawdown()["doubt"]) == ("critical", "overdue")


def test_the_countdown_runs_from_the_breach_and_later_syncs_do_not_restart_it() -> None:
    history = HistoryBuilder()
    history.equity(10_000, 0)
    history.equity(8_000, 10)
    history.equity(7_900, 30)
    assert history.drawdown()["liquidation_at"] == "2024-05-06T12:01:10.000000Z"
    history.equity(9_900, 40)
    assert "liquidation_at" not in history.drawdown()


def test_a_breach_that_came_and_went_stays_latched() -> None:
    history = HistoryBuilder()
    history.equity(10_000, 0)
    breach = history.equity(7_900, 10)
    history.equity(9_900, 20)
    assert history.state()["guards"]["breaches"] == {
        breach.id: {
            "kind": "drawdown",
            "raised_at": "2024-05-06T12:00:10.000000Z",
            "cleared_at": "2024-05-06T12:00:20.000000Z",
            "observed_pct": 21.0,
        }
    }


def test_tighter_limits_raise_the_level_of_an_unchanged_equity() -> None:
    history = HistoryBuilder()
    history.equity(10_000, 0)
    history.equity(9_000, 1)
    history.set_limits(drawdown_warning_pct=Decimal(5), drawdown_critical_pct=Decimal(8))
    assert (history.drawdown()["alert_type"], history.drawdown()["alert_threshold_pct"]) == ("critical", 8.0)
    assert history.events() == ["drawdown_alert"]


@pytest.mark.parametrize(
    ("reason", "prices", "shown", "level"),
    [
        ("Price GAP at the open", ("100", "104.99"), {"price_gap_pct": 4.99}, "normal"),
        ("gap", ("100", "105"), {"price_gap_pct": 5.0, "close_price": 100.0, "open_price": 105.0}, "warning"),
        ("gap", ("100", "89.99"), {"price_gap_pct": 10.01}, "critical"),
        ("spread", ("100", "100.50"), {"bid_ask_spread_pct": 0.5}, "normal"),  # 0.4988 %
        ("spread", ("100", "100.505"), {"bid_ask_spread_pct": 0.5}, "warning"),  # 0.5037 %
        ("spread", ("100.505", "100"), {"bid": 100.505, "ask": 100.0}, "warning"),  # crossed: not measured
        ("spread", ("-37.7", "-37.6"), {"bid_ask_spread_pct": 0.27}, "normal"),
        ("gap", ("-37.63", "10.01"), {"price_gap_pct": 126.6}, "critical"),
        ("gap", ("0", "10.01"), {"open_price": 10.01}, "warning"),  # 0 is no price
        ("gap", ("100", "104.996"), {"price_gap_pct": 5.0}, "normal"),
        ("spread", ("100", "100.51"), {"bid_ask_spread_pct": 0.51, "bid": 100.0, "ask": 100.51}, "warning"),
        ("spread", ("100", "101.01"), {"bid_ask_spread_pct": 1.0}, "critical"),
        ("gap", ("100", None), {"close_price": 100.0}, "warning"),
        ("liquidity is thin", (None, None), {"condition_type": "low_liquidity"}, "warning"),
        ("something else", (None, None), {"condition_type": "other"}, "warning"),
    ],
)
def test_market_conditions_and_their_levels(
    reason: str, prices: tuple[str | None, str | None], shown: dict[str, object], level: str
) -> None:
    history = HistoryBuilder()
    history.guard(reason, *prices, 0)
    guards = history.state()["guards"]
    (alert,) = guards["normal_alerts" if level == "normal" else "alerts"].values()
    assert alert["alert_type"] == level
    assert alert.items() >= shown.items()
    assert alert["should_close_positions"] is (level == "critical")
    assert guards["system_status"] == ("unknown" if level == "normal" else "warning")


@pytest.mark.parametrize(
    ("reason", "condition"),
    [
        ("Singapore open: spread 1.2 %", "bid_ask_spread"),
        ("widespread volatility", "other"),
        ("spread after a gap", "bid_ask_spread"),
        ("price_gap", "price_gap"),
        ("PriceGap", "price_gap"),
        ("BID_ASK_SPREAD", "bid_ask_spread"),
        ("Gaps!", "price_gap"),
        ("illiquidity", "other"),
        ("low-liquidity", "low_liquidity"),
        ("gapé", "other"),
        (None, "other"),
    ],
)
def test_the_kind_of_a_condition_is_the_first_whole_word_that_names_one(
    reason: str | None, condition: str
) -> None:
    assert condition_type(reason) == condition


def test_a_report_without_figures_never_ends_a_critical_condition() -> None:
    history = HistoryBuilder()
    history.guard("gap", "100", "120", 0)
    history.guard("gap", None, None, 10)
    assert history.state()["guards"]["any_positions_should_close"] is True
    history.guard("gap", "100", "101", 20)
    assert history.state()["guards"]["any_positions_should_close"] is False
    assert list(history.state()["guards"]["normal_alerts"]) == ["XAUUSD:price_gap"]


def test_a_breach_that_rises_again_has_another_id_also_when_its_row_was_updated_in_place() -> None:
    history = HistoryBuilder()
    row = history.guard("gap", "100", "120", 0)
    row = history.update(row, current_price=Decimal(100))
    history.update(row, current_price=Decimal(125))
    history.set_limits(gap_critical_pct=Decimal(50))
    history.set_limits()
    breaches = history.state()["guards"]["breaches"]
    assert next(iter(breaches)) == row.id
    assert ["cleared_at" in breach for breach in breaches.values()] == [True, True, False]


def test_symbols_are_compared_without_case_and_shown_as_they_were_written_last() -> None:
    history = HistoryBuilder()
    history.guard("gap", "100", "120", 0)
    history.update(history.guard("gap", "100", "100", 1), symbol="xauusd")
    guards = history.state()["guards"]
    assert guards["alerts"] == {}
    assert list(guards["normal_alerts"]) == ["xauusd:price_gap"]


def test_the_latest_condition_of_a_symbol_replaces_the_one_before_and_its_window_ends_it() -> None:
    history = HistoryBuilder()
    critical = history.guard("gap", "100", "120", 0)
    history.guard("gap", "100", "106", 10)
    guards = history.state()["guards"]
    assert guards["alerts"]["XAUUSD:price_gap"]["alert_type"] == "warning"
    assert guards["breaches"][critical.id]["cleared_at"] == "2024-05-06T12:00:10.000000Z"
    history.end_alerts(3_600)
    assert history.state()["guards"]["alerts"] != {}
    history.end_alerts(3_610)
    assert history.state()["guards"]["alerts"] == {}


def test_a_critical_alert_that_ends_clears_its_breach_at_the_end_of_the_window() -> None:
    history = HistoryBuilder()
    critical = history.guard("gap", "100", "120", 0)
    history.end_alerts(4_000)
    assert history.state()["guards"]["breaches"][critical.id]["cleared_at"] == "2024-05-06T13:00:00.000000Z"


def test_a_condition_whose_window_passed_before_it_arrived_is_an_event_only() -> None:
    history = HistoryBuilder()
    history.sync(4_000)
    history.guard("gap", "100", "120", 0)
    assert history.state()["guards"]["alerts"] == {}
    assert history.state()["guards"]["breaches"] == {}
    assert history.events() == ["position_matched", "market_condition_alert"]


def test_a_sync_is_an_event_only_if_it_changes_more_than_price_and_times() -> None:
    history = HistoryBuilder()
    history.sync(0)
    history.sync(10, current_price=Decimal(1960))
    history.sync(20, stop_loss=Decimal(1940))
    history.sync(30, stop_loss=Decimal(1940), matched=2, event_type="divergence")
    history.sync(40, stop_loss=Decimal(1940))
    history.close(50)
    history.close(60)
    assert history.events() == [
        "position_closed",
        "position_matched",
        "divergence_detected",
        "position_synced",
        "position_matched",
    ]


def test_only_the_five_newest_events_are_listed() -> None:
    history = HistoryBuilder()
    for ticket in range(1, 9):
        history.sync(ticket, ticket=ticket)
    assert len(history.events()) == 5


def test_a_source_falls_silent_and_lives_again_with_the_next_sync() -> None:
    history = HistoryBuilder()
    assert history.state()["status"]["source"] == "silent"
    history.sync(0)
    assert history.state()["status"]["source"] == "live"
    history.note_silence()
    assert history.state()["status"]["source"] == "silent"
    history.sync(1, status="failed", error_message="no answer")
    assert history.state()["status"]["source"] == "silent"
    assert history.state()["status"]["error_message"] == "no answer"
    history.sync(2)
    assert history.state()["status"]["source"] == "live"
    assert "error_message" not in history.state()["status"]
