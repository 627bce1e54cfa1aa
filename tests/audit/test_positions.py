"""The oracle on examples worked out by hand: which positions are open, and what they are worth."""

from __future__ import annotations

from decimal import Decimal

from realtime.audit.history import LogRow, backfill_order
from realtime.audit.state import Oracle
from tests.audit.tale import GOLD, USER, Tale, at


def test_a_tenth_of_a_lot_of_gold_that_rose_by_five_and_a_quarter_earns_52_50() -> None:
    tale = Tale()
    tale.row(0)
    position = tale.open["1"]
    assert (position["unrealized_pnl"], position["unrealized_pnl_pct"], position["pnl_currency"]) == (
        52.5,
        0.27,
        "USD",
    )


def test_a_sell_loses_what_a_buy_earns() -> None:
    tale = Tale()
    tale.row(0, direction="1")
    assert (tale.open["1"]["unrealized_pnl"], tale.open["1"]["unrealized_pnl_pct"]) == (-52.5, -0.27)


def test_a_position_that_is_synced_again_and_again_is_one_position() -> None:
    tale = Tale()
    first = tale.row(0)
    for second in range(10, 60, 10):
        tale.row(second, current_price=Decimal(1950 + second))
    position = tale.open["1"]
    assert (position["position_id"], position["entry_time"]) == (first.id, "2024-05-06T12:00:00.000000Z")
    assert position["current_price"] == 2000.0
    assert tale.state()["status"]["total_syncs"] == 6


def test_a_close_takes_the_position_off() -> None:
    tale = Tale()
    tale.row(0)
    tale.close(10)
    assert tale.open == {}
    assert tale.state()["status"]["status"] == "idle"


def test_a_close_closes_even_when_its_time_is_before_the_last_sync() -> None:
    tale = Tale()
    tale.row(0)
    tale.row(20)
    tale.close(10)
    assert tale.open == {}


def test_a_late_sync_from_before_the_close_does_not_reopen() -> None:
    tale = Tale()
    tale.row(0)
    tale.close(20)
    tale.row(10)
    assert tale.open == {}


def test_a_sync_later_than_the_close_in_time_and_arrival_reopens() -> None:
    tale = Tale()
    first = tale.row(0)
    tale.close(10)
    tale.row(20)
    assert tale.open["1"]["position_id"] == first.id


def test_a_sync_in_the_same_instant_as_the_close_does_not_reopen() -> None:
    tale = Tale()
    tale.close(10)
    tale.row(10)
    assert tale.open == {}


def test_an_older_row_that_arrives_late_changes_the_entry_time_alone() -> None:
    tale = Tale()
    tale.row(10, current_price=Decimal(1960))
    tale.row(5, current_price=Decimal(1940))
    position = tale.open["1"]
    assert position["current_price"] == 1960.0
    assert position["entry_time"] == "2024-05-06T12:00:05.000000Z"


def test_a_partial_close_is_the_same_position_with_less_volume() -> None:
    tale = Tale()
    tale.row(0)
    tale.row(10, volume=Decimal("0.04"))
    assert (tale.open["1"]["volume"], tale.open["1"]["unrealized_pnl"]) == (0.04, 21.0)


def test_a_row_closed_in_place_is_closed_and_stays_closed_when_it_is_unclosed() -> None:
    tale = Tale()
    row = tale.row(0)
    closed = tale.update(row, close_reason="stop_loss")
    assert tale.open == {}
    tale.update(closed, close_reason=None)
    assert tale.open == {}
    assert tale.state()["status"]["total_syncs"] == 1


def test_in_a_backfill_a_close_wins_a_tie() -> None:
    rows = [
        LogRow(id="close", user_id=USER, ticket=1, event_type="close", created_at=at(0)),
        LogRow(id="sync", user_id=USER, ticket=1, matched=1, created_at=at(0)),
    ]
    state = Oracle(USER, (GOLD,)).state(backfill_order(rows, at(60)))
    assert state["positions"]["total_positions"] == 0


def test_failed_rows_and_guard_triggers_never_bear_a_position() -> None:
    tale = Tale()
    tale.row(0, status="FAILED")
    tale.row(1, event_type="guard_trigger")
    tale.row(2, event_type="margin_call")
    assert tale.open == {}


def test_divergences_count_now_and_not_for_ever() -> None:
    tale = Tale()
    tale.row(0)
    tale.row(10, event_type="divergence", matched=None, divergence_reason="volume")
    status = tale.state()["status"]
    assert (status["status"], status["divergences_detected"], status["open_positions_count"]) == (
        "warning",
        1,
        0,
    )
    tale.row(20)
    status = tale.state()["status"]
    assert (status["status"], status["divergences_detected"], status["open_positions_count"]) == (
        "healthy",
        0,
        1,
    )


def test_yen_are_turned_into_dollars_by_the_newest_rate_in_either_direction() -> None:
    tale = Tale()
    tale.equity(0, 10_000)
    tale.row(
        0, symbol="gbpjpy", volume=Decimal("0.5"), entry_price=Decimal(190), current_price=Decimal("190.25")
    )  # 12,500 yen
    assert (tale.open["1"]["unrealized_pnl"], tale.open["1"]["pnl_currency"]) == (12_500.0, "JPY")
    tale.rate(5, "USD", "JPY", "150")
    tale.rate(1, "USD", "JPY", "149")
    assert (tale.open["1"]["unrealized_pnl"], tale.open["1"]["pnl_currency"]) == (83.33, "USD")
    tale.rate(6, "JPY", "USD", "0.01")
    assert tale.open["1"]["unrealized_pnl"] == 125.0


def test_a_total_is_never_the_sum_of_different_currencies() -> None:
    tale = Tale()
    tale.equity(0, 10_000, balance=Decimal(9_900))
    tale.row(0)
    assert tale.state()["positions"]["total_unrealized_pnl"] == 52.5
    assert tale.state()["positions"]["total_unrealized_pnl_pct"] == 0.53
    tale.row(0, 2, symbol="GBPJPY")
    assert "total_unrealized_pnl" not in tale.state()["positions"]


def test_an_unknown_symbol_is_counted_as_one_unit_and_says_so() -> None:
    tale = Tale()
    tale.row(0, symbol="XAUUSD.pro")
    position = tale.open["1"]
    assert (position["unrealized_pnl"], position["pnl_currency"]) == (0.53, "USD")
    assert position["contract_size_assumed"] is True


def test_numbers_that_are_none_are_absent() -> None:
    tale = Tale()
    tale.row(0, current_price=Decimal("NaN"), take_profit=Decimal("Infinity"), volume=Decimal(-1))
    position = tale.open["1"]
    assert position["current_price"] == 1950.5  # the entry price until one is known
    assert not {"take_profit", "volume", "unrealized_pnl"} & set(position)
    assert position["unrealized_pnl_pct"] == 0.0
