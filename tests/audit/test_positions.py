"""The oracle on examples worked out by hand: which positions are open, and what they are worth."""

from __future__ import annotations

from decimal import Decimal

from realtime.audit.history import LogRow, backfill_order
from realtime.audit.state import Oracle
from tests.audit.history_builder import GOLD, USER, HistoryBuilder, at


def test_a_tenth_of_a_lot_of_gold_that_rose_by_five_and_a_quarter_earns_52_50() -> None:
    history = HistoryBuilder()
    history.sync(0)
    position = history.book()["1"]
    assert (position["unrealized_pnl"], position["unrealized_pnl_pct"], position["pnl_currency"]) == (
        52.5,
        0.27,
        "USD",
    )


def test_a_sell_loses_what_a_buy_earns() -> None:
    history = HistoryBuilder()
    history.sync(0, direction="1")
    position = history.book()["1"]
    assert (position["unrealized_pnl"], position["unrealized_pnl_pct"]) == (-52.5, -0.27)


def test_a_position_that_is_synced_again_and_again_is_one_position() -> None:
    history = HistoryBuilder()
    first = history.sync(0)
    for second in range(10, 60, 10):
        history.sync(second, current_price=Decimal(1950 + second))
    position = history.book()["1"]
    assert (position["position_id"], position["entry_time"]) == (first.id, "2024-05-06T12:00:00.000000Z")
    assert position["current_price"] == 2000.0
    assert history.state()["status"]["total_syncs"] == 6


def test_a_close_takes_the_position_off() -> None:
    history = HistoryBuilder()
    history.sync(0)
    history.close(10)
    assert history.book() == {}
    assert history.state()["status"]["status"] == "idle"


def test_a_close_closes_even_when_its_time_is_before_the_last_sync() -> None:
    history = HistoryBuilder()
    history.sync(0)
    history.sync(20)
    history.close(10)
    assert history.book() == {}


def test_a_late_sync_from_before_the_close_does_not_reopen() -> None:
    history = HistoryBuilder()
    history.sync(0)
    history.close(20)
    history.sync(10)
    assert history.book() == {}


def test_a_sync_later_than_the_close_in_time_and_arrival_reopens() -> None:
    history = HistoryBuilder()
    first = history.sync(0)
    history.close(10)
    history.sync(20)
    assert history.book()["1"]["position_id"] == first.id


def test_a_sync_in_the_same_instant_as_the_close_does_not_reopen() -> None:
    history = HistoryBuilder()
    history.close(10)
    history.sync(10)
    assert history.book() == {}


def test_an_older_row_that_arrives_late_changes_the_entry_time_alone() -> None:
    history = HistoryBuilder()
    history.sync(10, current_price=Decimal(1960))
    history.sync(5, current_price=Decimal(1940))
    position = history.book()["1"]
    assert position["current_price"] == 1960.0
    assert position["entry_time"] == "2024-05-06T12:00:05.000000Z"


def test_a_partial_close_is_the_same_position_with_less_volume() -> None:
    history = HistoryBuilder()
    history.sync(0)
    history.sync(10, volume=Decimal("0.04"))
    assert (history.book()["1"]["volume"], history.book()["1"]["unrealized_pnl"]) == (0.04, 21.0)


def test_a_row_closed_in_place_is_closed_and_stays_closed_when_it_is_unclosed() -> None:
    history = HistoryBuilder()
    row = history.sync(0)
    closed = history.update(row, close_reason="stop_loss")
    assert history.book() == {}
    history.update(closed, close_reason=None)
    assert history.book() == {}
    assert history.state()["status"]["total_syncs"] == 1


def test_in_a_backfill_a_close_wins_a_tie() -> None:
    rows = [
        LogRow(id="close", user_id=USER, ticket=1, event_type="close", created_at=at(0)),
        LogRow(id="sync", user_id=USER, ticket=1, matched=1, created_at=at(0)),
    ]
    state = Oracle(USER, (GOLD,)).state(backfill_order(rows, at(60)))
    assert state["positions"]["total_positions"] == 0


def test_failed_rows_and_guard_triggers_never_bear_a_position() -> None:
    history = HistoryBuilder()
    history.sync(0, status="FAILED")
    history.sync(1, event_type="guard_trigger")
    history.sync(2, event_type="margin_call")
    assert history.book() == {}


def test_divergences_count_now_and_not_for_ever() -> None:
    history = HistoryBuilder()
    history.sync(0)
    history.sync(10, event_type="divergence", matched=None, divergence_reason="volume")
    status = history.state()["status"]
    assert (status["status"], status["divergences_detected"], status["open_positions_count"]) == (
        "warning",
        1,
        0,
    )
    history.sync(20)
    status = history.state()["status"]
    assert (status["status"], status["divergences_detected"], status["open_positions_count"]) == (
        "healthy",
        0,
        1,
    )


def test_yen_are_turned_into_dollars_by_the_newest_rate_in_either_direction() -> None:
    history = HistoryBuilder()
    history.equity(10_000, 0)
    history.sync(
        0, symbol="gbpjpy", volume=Decimal("0.5"), entry_price=Decimal(190), current_price=Decimal("190.25")
    )  # 12,500 yen
    assert (history.book()["1"]["unrealized_pnl"], history.book()["1"]["pnl_currency"]) == (12_500.0, "JPY")
    history.rate("USD", "JPY", "150", 5)
    history.rate("USD", "JPY", "149", 1)
    assert (history.book()["1"]["unrealized_pnl"], history.book()["1"]["pnl_currency"]) == (83.33, "USD")
    history.rate("JPY", "USD", "0.01", 6)
    assert history.book()["1"]["unrealized_pnl"] == 125.0


def test_a_total_is_never_the_sum_of_different_currencies() -> None:
    history = HistoryBuilder()
    history.equity(10_000, 0, balance=Decimal(9_900))
    history.sync(0)
    assert history.state()["positions"]["total_unrealized_pnl"] == 52.5
    assert history.state()["positions"]["total_unrealized_pnl_pct"] == 0.53
    history.sync(0, ticket=2, symbol="GBPJPY")
    assert "total_unrealized_pnl" not in history.state()["positions"]


def test_an_unknown_symbol_is_counted_as_one_unit_and_says_so() -> None:
    history = HistoryBuilder()
    history.sync(0, symbol="XAUUSDPRO")
    position = history.book()["1"]
    assert (position["unrealized_pnl"], position["pnl_currency"]) == (0.53, "USD")
    assert position["contract_size_assumed"] is True


def test_a_symbol_with_a_brokers_decoration_means_its_instrument() -> None:
    for symbol in ("XAUUSD.pro", "XAUUSD-ecn", "XAUUSDm", "#XAUUSD", "xauusd"):
        history = HistoryBuilder()
        history.sync(0, symbol=symbol)
        position = history.book()["1"]
        assert position["unrealized_pnl"] == 52.5, symbol
        assert position["symbol"] == symbol
        assert position.get("instrument") == (None if symbol == "xauusd" else "XAUUSD")


def test_a_sync_without_a_price_keeps_the_last_one_and_zero_is_no_price() -> None:
    history = HistoryBuilder()
    history.sync(0, current_price=Decimal(1940))
    for second, price in ((10, None), (20, Decimal(0))):
        history.sync(second, current_price=price, stop_loss=Decimal(0))
        position = history.book()["1"]
        assert (position["current_price"], position["unrealized_pnl"]) == (1940.0, -105.0)
        assert "stop_loss" not in position


def test_numbers_that_are_none_are_absent() -> None:
    history = HistoryBuilder()
    history.sync(0, current_price=Decimal("NaN"), take_profit=Decimal("Infinity"), volume=Decimal(-1))
    position = history.book()["1"]
    assert position["current_price"] == 1950.5  # the entry price until one is known
    assert not {"take_profit", "volume", "unrealized_pnl"} & set(position)
    assert position["unrealized_pnl_pct"] == 0.0
