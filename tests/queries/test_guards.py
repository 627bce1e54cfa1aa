"""Equity and guard triggers change an account's guards: drawdown, market conditions and breaches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from queries.capture import housekeep
from tests.queries.database_writer import DatabaseWriter

# ---------------------------------------------------------------- drawdown


@pytest.mark.parametrize(
    ("equity", "level", "pct"), [(9500, "normal", 5.0), (8500, "warning", 15.0), (8000, "critical", 20.0)]
)
async def test_a_drawdown_is_measured_from_the_peak(
    writer: DatabaseWriter, equity: int, level: str, pct: float
) -> None:
    await writer.equity(10_000)
    await writer.equity(equity, 1)
    drawdown = await writer.drawdown()
    assert (drawdown["alert_type"], drawdown["current_drawdown_pct"]) == (level, pct)
    assert drawdown["should_close_all"] is (level == "critical")


async def test_a_breach_is_latched_and_its_countdown_is_never_restarted(writer: DatabaseWriter) -> None:
    await writer.equity(10_000, 0)
    breach = await writer.equity(7_900, 1)
    counted_to = (await writer.account())["liquidation_at"]
    await writer.equity(7_000, 2)
    assert (await writer.account())["liquidation_at"] == counted_to == writer.at(61)
    await writer.equity(9_900, 3)
    (latched,) = await writer.rows("breaches")
    assert latched["breach_id"] == str(breach)
    assert (latched["raised_at"], latched["cleared_at"]) == (writer.at(1), writer.at(3))
    assert latched["observed_pct"] == 21
    assert "liquidation_at" not in await writer.drawdown()
    assert await writer.events() == ["drawdown_alert"]


async def test_a_breach_that_came_and_went_before_one_batch_is_latched(writer: DatabaseWriter) -> None:
    await writer.equity(10_000, 0)
    writer.applies = False
    breach = await writer.equity(7_900, 1)
    await writer.equity(9_900, 2)
    await writer.apply()
    (latched,) = await writer.rows("breaches")
    assert latched["breach_id"] == str(breach)
    assert (latched["raised_at"], latched["cleared_at"]) == (writer.at(1), writer.at(2))
    assert (await writer.account())["drawdown_level"] == "normal"


async def test_a_breach_is_latched_although_its_row_was_updated_and_deleted_before_the_batch(
    writer: DatabaseWriter,
) -> None:
    """The inbox holds copies, so later statements of the platform take nothing away."""
    await writer.equity(10_000, 0)
    writer.applies = False
    breach = await writer.equity(7_900, 1)
    await writer.execute("DELETE FROM equity_snapshots WHERE id = $1", breach)
    await writer.equity(9_900, 2)
    await writer.execute("TRUNCATE equity_snapshots")
    await writer.apply()
    assert [row["breach_id"] for row in await writer.rows("breaches")] == [str(breach)]
    assert (await writer.account())["equity"] == 9_900


async def test_little_equity_is_critical_at_any_peak(writer: DatabaseWriter) -> None:
    await writer.equity("99.99")
    assert (await writer.account())["drawdown_level"] == "critical"


async def test_a_withdrawal_is_no_drawdown(writer: DatabaseWriter) -> None:
    await writer.equity(10_000, 0)
    await writer.equity(6_000, 1, cash_flow=-4_000)
    account = await writer.account()
    assert (account["drawdown_pct"], account["peak_equity"]) == (0, 6_000)


async def test_late_equity_counts_for_the_peak_with_the_flows_since(writer: DatabaseWriter) -> None:
    await writer.equity(1_000, 0)
    await writer.equity(6_000, 5, cash_flow=5_000)
    await writer.equity(1_500, 3)
    account = await writer.account()
    assert (account["equity"], account["peak_equity"]) == (6_000, 9_000)


async def test_a_late_flow_moves_what_came_after_it(writer: DatabaseWriter) -> None:
    await writer.equity(1_000, 0)
    await writer.equity(3_000, 5)
    await writer.equity(2_000, 2, cash_flow=1_000)
    assert (await writer.account())["peak_equity"] == 3_000
    await writer.equity(1_200, 1, cash_flow=200)
    assert (await writer.account())["peak_equity"] == 3_000


async def test_a_late_flow_counts_once_whatever_waits_with_it(writer: DatabaseWriter) -> None:
    await writer.equity(1_000, 0)
    writer.applies = False
    await writer.equity(1_001, 0.5, cash_flow=1)
    await writer.equity(13, 1, cash_flow=-987)
    await writer.equity(900, 2, cash_flow=887)
    await writer.equity(1_001, 0.7, cash_flow=1)
    for batch_rows in (1, 2, 10):
        await writer.apply(batch_rows=batch_rows)
    account = await writer.account()
    # 1000 x 1001/1000 x 13/1000 x 900/13 x 1001/1000
    assert (account["equity"], account["peak_equity"]) == (900, Decimal("901.80"))


async def test_negative_or_unusable_equity_never_moves_the_peak(writer: DatabaseWriter) -> None:
    await writer.equity(1_000, 0)
    for equity in ("NaN", "Infinity", "1e15", None):
        await writer.equity(equity, 1)
    assert (await writer.account())["ignored_rows"] == 4
    await writer.equity(-50, 2)
    assert (await writer.account())["equity"] == 1_000
    await writer.equity(-60, 3)
    account = await writer.account()
    assert (account["equity"], account["peak_equity"], account["drawdown_pct"]) == (-60, 1_000, 100)


async def test_the_peak_can_be_restarted_and_put_back(writer: DatabaseWriter) -> None:
    await writer.equity(10_000, 0)
    await writer.equity(8_000, 10)
    revision = await writer.revision()
    await writer.set_limits(peak_since=datetime.now(UTC))
    account = await writer.account()
    assert (account["peak_equity"], account["drawdown_level"]) == (8_000, "normal")
    assert account["revision"] > revision
    await writer.execute("TRUNCATE equity_snapshots")
    await writer.execute("DELETE FROM guard_limits")
    account = await writer.account()
    assert (account["peak_equity"], account["drawdown_level"]) == (10_000, "critical")


async def test_a_peak_that_is_restarted_begins_with_the_equity_that_stood(writer: DatabaseWriter) -> None:
    """Rows are compared by their arrival: the platform's clock may be hours off."""
    await writer.equity(10_000, -7_200)
    await writer.set_limits(peak_since=datetime.now(UTC))
    await writer.equity(7_900, -7_190)
    account = await writer.account()
    assert (account["peak_equity"], account["drawdown_pct"]) == (10_000, 21)
    assert (await writer.drawdown())["alert_type"] == "critical"


async def test_a_peak_may_be_restarted_in_the_past_and_in_the_future(writer: DatabaseWriter) -> None:
    await writer.equity(12_000, 0)
    await writer.equity(10_000, 1)
    between = datetime.now(UTC)
    await writer.equity(9_000, 2)
    await writer.set_limits(peak_since=between)
    assert (await writer.account())["peak_equity"] == 10_000
    await writer.set_limits(peak_since=between + timedelta(hours=1))
    await writer.equity(8_000, 3)
    assert (await writer.account())["peak_equity"] == 8_000
    await writer.set_limits(peak_since=None)
    assert (await writer.account())["peak_equity"] == 12_000


@pytest.mark.parametrize(
    ("before", "after", "flow", "pct", "level", "peak"),
    [(8_600, 5_600, -3_000, 14, "normal", "6511.63"), (7_500, 17_500, 10_000, 25, "critical", "23333.33"),
     (8_500, 850, -7_650, 15, "warning", "1000.00"), (8_000, 4_000, -4_000, 20, "critical", "5000.00")],
)  # fmt: skip
async def test_a_cash_flow_changes_no_percentage(
    writer: DatabaseWriter, before: int, after: int, flow: int, pct: int, level: str, peak: str
) -> None:
    await writer.equity(10_000, 0)
    await writer.equity(before, 1)
    await writer.equity(after, 2, cash_flow=flow)
    account = await writer.account()
    assert (account["drawdown_pct"], account["drawdown_level"]) == (pct, level)
    assert account["peak_equity"] == Decimal(peak)
    await writer.equity(after, 3)
    assert (await writer.account())["drawdown_level"] == level


async def test_after_a_flow_that_leaves_nothing_the_peak_begins_anew(writer: DatabaseWriter) -> None:
    await writer.equity(10_000, 0)
    for second in (1, 2):
        await writer.equity(-5, second, cash_flow=-10_000 if second == 1 else 0)
    await writer.equity(3_000, 3, cash_flow=3_005)
    account = await writer.account()
    assert (account["peak_equity"], account["drawdown_pct"]) == (3_000, 0)


@pytest.mark.parametrize(
    ("equity", "level"), [("8000.50", "warning"), ("8000.00", "critical"), ("8500.01", "normal")]
)
async def test_levels_are_decided_on_unrounded_values(
    writer: DatabaseWriter, equity: str, level: str
) -> None:
    await writer.equity(10_000, 0)
    await writer.equity(equity, 1)
    assert (await writer.drawdown())["alert_type"] == level


# ---------------------------------------------------------------- equity in doubt


@pytest.mark.parametrize("equity", [0, -5, "1999.99", "50000.01"])
async def test_implausible_equity_is_a_warning_and_no_level(writer: DatabaseWriter, equity: Any) -> None:
    await writer.equity(10_000, 0)
    await writer.equity(equity, 1)
    guards = (await writer.state())["guards"]
    assert (guards["system_status"], guards["breaches"]) == ("warning", {})
    drawdown = guards["drawdown"]
    assert (drawdown["alert_type"], drawdown["doubt"]) == ("unknown", "implausible")
    assert drawdown["doubted_equity"] == float(equity)
    assert (drawdown["current_equity"], drawdown["peak_equity"]) == (10_000, 10_000)
    assert "current_drawdown_pct" not in drawdown
    (event,) = (await writer.state())["status"]["recent_events"].values()
    assert event["notice"] == "equity_implausible"
    assert f"{float(equity):.2f} USD was read after 10000.00" in event["description"]


@pytest.mark.parametrize("equity", [2_000, 50_000])
async def test_equity_at_the_edge_of_what_is_plausible_counts(writer: DatabaseWriter, equity: int) -> None:
    await writer.equity(10_000, 0)
    await writer.equity(equity, 1)
    assert (await writer.drawdown())["current_equity"] == equity


async def test_a_second_row_on_the_same_side_confirms_the_first(writer: DatabaseWriter) -> None:
    await writer.equity(10_000, 0)
    first = await writer.equity(1_500, 1)
    await writer.equity(1_200, 2)
    assert (await writer.drawdown())["current_equity"] == 1_200
    (breach,) = await writer.rows("breaches")
    assert (breach["breach_id"], breach["raised_at"], breach["observed_pct"]) == (
        str(first),
        writer.at(1),
        85,
    )
    assert (await writer.account())["liquidation_at"] == writer.at(61)


async def test_a_row_back_in_range_contradicts_an_implausible_one_but_not_its_cash_flow(
    writer: DatabaseWriter,
) -> None:
    await writer.equity(10_000, 0)
    await writer.equity(700, 1, cash_flow=-5_000)
    await writer.equity(4_900, 2)
    account = await writer.account()
    assert (account["equity"], account["drawdown_pct"]) == (4_900, 1)
    assert await writer.rows("breaches") == []


async def test_a_minute_without_a_row_in_range_confirms_an_implausible_one(writer: DatabaseWriter) -> None:
    await writer.equity(10_000, 0)
    first = await writer.equity(1_500, 1)
    await writer.execute(
        "UPDATE guardwire.accounts SET equity_due_at = now(),"
        " doubted.arrived_at = (doubted).arrived_at - interval '61 s' WHERE user_id = $1",
        writer.user_id,
    )
    revision = await writer.revision()
    await housekeep(writer.connection)
    assert (await writer.drawdown())["alert_type"] == "critical"
    assert [row["breach_id"] for row in await writer.rows("breaches")] == [str(first)]
    assert await writer.revision() > revision


@pytest.mark.parametrize("cause", ["no balance", "positions"])
async def test_a_zero_of_a_terminal_without_its_broker_is_never_confirmed(
    writer: DatabaseWriter, cause: str
) -> None:
    await writer.equity(10_000, 0)
    balance = 0 if cause == "no balance" else 10_000
    if cause == "positions":
        await writer.sync(1, created_at=datetime.now(UTC))
    for second in (1, 2, 3):
        await writer.equity(0, second, balance=balance)
    await writer.execute(
        "UPDATE guardwire.accounts SET equity_due_at = now(),"
        " doubted.arrived_at = (doubted).arrived_at - interval '61 s' WHERE user_id = $1",
        writer.user_id,
    )
    await housekeep(writer.connection)
    guards = (await writer.state())["guards"]
    assert (guards["system_status"], guards["drawdown"]["alert_type"]) == ("warning", "unknown")
    assert await writer.rows("breaches") == []
    await writer.equity(9_900, 4)
    assert (await writer.drawdown())["alert_type"] == "normal"


async def test_unknown_never_ends_or_lowers_a_critical(writer: DatabaseWriter) -> None:
    await writer.equity(10_000, 0)
    await writer.equity(7_000, 1)
    counted_to = (await writer.account())["liquidation_at"]
    for second in (2, 3):
        await writer.equity(0, second)
    drawdown = await writer.drawdown()
    assert (drawdown["alert_type"], drawdown["doubt"]) == ("critical", "implausible")
    assert (await writer.account())["liquidation_at"] == counted_to
    assert [row["cleared_at"] for row in await writer.rows("breaches")] == [None]


async def test_a_row_without_balance_or_currency_keeps_the_last_known_ones(writer: DatabaseWriter) -> None:
    await writer.equity(10_000, 0, balance=9_000)
    await writer.equity(9_500, 1, balance=None, currency=None)
    account = await writer.account()
    assert (account["equity"], account["balance"], account["currency"]) == (9_500, 9_000, "USD")


async def test_amounts_of_two_currencies_are_never_compared(writer: DatabaseWriter) -> None:
    await writer.equity(10_000, 0)
    await writer.equity(1_500, 1, currency="BTC", balance=None)
    account = await writer.account()
    assert (account["equity"], account["peak_equity"], account["balance"]) == (1_500, 1_500, None)
    (event,) = (await writer.state())["status"]["recent_events"].values()
    assert event["notice"] == "currency_changed"
    await writer.equity(9_000, 0.5, currency="USD")
    assert (await writer.account())["peak_equity"] == 1_500


async def test_what_was_folded_stays_when_rows_are_removed_or_corrected(writer: DatabaseWriter) -> None:
    await writer.equity(10_000, 0)
    row = await writer.equity(8_400, 1)
    await writer.execute("DELETE FROM equity_snapshots WHERE equity = 10000")
    await writer.execute("UPDATE equity_snapshots SET balance = 8500 WHERE id = $1", row)
    assert (await writer.drawdown())["alert_type"] == "warning"
    await writer.execute("UPDATE equity_snapshots SET equity = 8300 WHERE id = $1", row)
    account = await writer.account()
    assert (account["equity"], account["peak_equity"]) == (8_300, 10_000)


async def test_a_peak_whose_own_row_is_corrected_moves_with_an_event(writer: DatabaseWriter) -> None:
    await writer.equity(10_000, 0)
    row = await writer.equity(15_000, 1)
    await writer.equity(9_900, 2)
    assert (await writer.drawdown())["alert_type"] == "critical"
    await writer.execute("UPDATE equity_snapshots SET equity = 10050 WHERE id = $1", row)
    drawdown = await writer.drawdown()
    assert (drawdown["peak_equity"], drawdown["alert_type"]) == (10_050, "normal")
    events = (await writer.state())["status"]["recent_events"].values()
    assert "peak_corrected" in {event.get("notice") for event in events}


async def test_a_row_whose_time_is_corrected_in_place_is_read_again_and_is_no_new_row(
    writer: DatabaseWriter,
) -> None:
    await writer.equity(10_000, 0)
    row = await writer.equity(9_000, 5)
    await writer.equity(9_500, 3)
    await writer.execute("UPDATE equity_snapshots SET created_at = $2 WHERE id = $1", row, writer.at(1))
    account = await writer.account()
    assert (account["equity"], account["equity_at"]) == (9_500, writer.at(3))


async def test_a_breach_that_rises_again_by_an_update_is_another_one(writer: DatabaseWriter) -> None:
    await writer.equity(10_000, 0)
    row = await writer.equity(7_000, 1)
    for equity in (9_900, 7_000):
        await writer.execute("UPDATE equity_snapshots SET equity = $2 WHERE id = $1", row, equity)
    breaches = await writer.rows("breaches", "cleared_at")
    assert len({breach["breach_id"] for breach in breaches}) == 2
    assert [breach["cleared_at"] is None for breach in breaches] == [False, True]


# ---------------------------------------------------------------- old equity


async def test_old_equity_is_not_good_equity(writer: DatabaseWriter) -> None:
    await writer.equity(10_000, -3 * 86_400)
    guards = (await writer.state())["guards"]
    assert (guards["system_status"], guards["drawdown"]["alert_type"]) == ("unknown", "unknown")
    assert (guards["drawdown"]["doubt"], guards["drawdown"]["current_equity"]) == ("overdue", 10_000)
    await writer.equity(9_900, 0)
    assert (await writer.drawdown())["alert_type"] == "normal"


async def test_equity_becomes_overdue_by_a_commit(writer: DatabaseWriter) -> None:
    await writer.set_limits(equity_overdue_seconds=120)
    await writer.equity(10_000, 0)
    await housekeep(writer.connection)
    assert (await writer.drawdown())["alert_type"] == "normal"
    await writer.execute(
        "UPDATE guardwire.accounts SET equity_due_at = now(), equity_fresh_at = now() - interval '121 s'"
        " WHERE user_id = $1",
        writer.user_id,
    )
    revision = await writer.revision()
    await housekeep(writer.connection)
    assert (await writer.drawdown())["doubt"] == "overdue"
    assert await writer.revision() > revision
    await writer.set_limits(equity_overdue_seconds=3_600)
    assert (await writer.drawdown())["alert_type"] == "normal"


async def test_equity_of_a_clock_that_is_hours_behind_is_not_old(writer: DatabaseWriter) -> None:
    for _ in range(2):
        await writer.equity(10_000, created_at=datetime.now(UTC) - timedelta(hours=2))
    assert (await writer.drawdown())["alert_type"] == "normal"


async def test_equity_of_a_clock_that_is_hours_ahead_silences_nobody(writer: DatabaseWriter) -> None:
    await writer.equity(10_000, created_at=datetime.now(UTC) + timedelta(hours=3))
    await writer.equity(7_000, created_at=datetime.now(UTC))
    assert (await writer.drawdown())["alert_type"] == "critical"


async def test_a_clock_that_went_back_is_known_by_three_rows_and_a_critical_one_among_them_is_latched(
    writer: DatabaseWriter,
) -> None:
    await writer.equity(10_000, 0)
    first = await writer.equity(7_900, -3_600)
    drawdown = await writer.drawdown()
    assert (drawdown["alert_type"], drawdown["current_equity"]) == ("critical", 10_000)
    assert [row["breach_id"] for row in await writer.rows("breaches")] == [str(first)]
    for number in (1, 2):
        await writer.equity(9_000 + number, -3_600 + number / 10)
    drawdown = await writer.drawdown()
    assert (drawdown["alert_type"], drawdown["current_equity"]) == ("normal", 9_002)


# ---------------------------------------------------------------- market conditions


@pytest.mark.parametrize(
    ("reason", "before", "after", "condition", "level", "pct"),
    [
        ("Weekend GAP", 100, "104.99", "price_gap", "normal", "4.99"),
        ("gap", 100, 95, "price_gap", "warning", "5.00"),
        ("gap", 100, 110, "price_gap", "critical", "10.00"),
        ("gap", 0, 110, "price_gap", "warning", None),
        ("wide spread", "99.75", "100.25", "bid_ask_spread", "normal", "0.50"),
        ("spread", "99.7", "100.3", "bid_ask_spread", "warning", "0.60"),
        ("spread", "99.5", "100.5", "bid_ask_spread", "critical", "1.00"),
        ("spread", None, 100, "bid_ask_spread", "warning", None),
        ("spread", 100, "100.505", "bid_ask_spread", "warning", "0.50"),
        ("spread", "100.505", 100, "bid_ask_spread", "warning", None),
        ("gap", "-37.63", "10.01", "price_gap", "critical", "126.60"),
        ("gap", 100, "104.996", "price_gap", "normal", "5.00"),
        ("Singapore open: spread", "99.4", "100.6", "bid_ask_spread", "critical", "1.20"),
        ("widespread volatility", 1, 2, "other", "warning", None),
        ("PRICE_GAP", 100, 110, "price_gap", "critical", "10.00"),
        ("PriceGap", 100, 110, "price_gap", "critical", "10.00"),
        ("Low Liquidity", 1, 2, "low_liquidity", "warning", None),
        ("volcano", 1, 2, "other", "warning", None),
    ],
)
async def test_a_market_condition_is_as_serious_as_the_limits_say(
    writer: DatabaseWriter, reason: str, before: Any, after: Any, condition: str, level: str, pct: str | None
) -> None:
    await writer.guard(reason, before, after)
    (alert,) = await writer.rows("market_alerts")
    assert (alert["condition_type"], alert["alert_type"]) == (condition, level)
    observed = alert["gap_pct"] if condition == "price_gap" else alert["spread_pct"]
    assert observed == (None if pct is None else Decimal(pct))
    assert len(await writer.rows("breaches")) == (level == "critical")


async def test_the_latest_alert_of_a_symbol_and_condition_replaces_the_one_before(
    writer: DatabaseWriter,
) -> None:
    await writer.guard("gap", 100, 120, 10)
    await writer.guard("gap", 100, 130, 1)
    await writer.guard("gap", 100, 120, 10, symbol="EURUSD")
    await writer.guard("gap", 100, 120, 10, symbol=None)
    alerts = await writer.rows("market_alerts", "symbol")
    assert [(each["symbol"], each["gap_pct"]) for each in alerts] == [
        ("*", 20),
        ("EURUSD", 20),
        ("XAUUSD", 20),
    ]
    await writer.guard("gap", 100, 101, 11)
    cleared = [each["symbol"] for each in await writer.rows("breaches") if each["cleared_at"]]
    assert cleared == ["XAUUSD"]


async def test_a_report_without_figures_never_ends_a_critical_alert(writer: DatabaseWriter) -> None:
    await writer.guard("gap", 100, 120, 1)
    await writer.guard("gap", None, None, 2)
    guards = (await writer.state())["guards"]
    assert guards["any_positions_should_close"] is True
    assert [row["cleared_at"] for row in await writer.rows("breaches")] == [None]
    await writer.guard("gap", 100, 101, 3, symbol="xauusd")
    guards = (await writer.state())["guards"]
    assert (guards["any_positions_should_close"], guards["alerts"]) == (False, {})
    assert guards["normal_alerts"]["xauusd:price_gap"]["alert_type"] == "normal"
    assert [row["cleared_at"] for row in await writer.rows("breaches")] == [writer.at(3)]


async def test_a_breach_that_rises_again_has_another_id_also_when_its_row_was_updated(
    writer: DatabaseWriter,
) -> None:
    row = await writer.guard("gap", 100, 120)
    for price in (100, 125):
        await writer.update(row, current_price=price)
    for limit in (50, 10):
        await writer.set_limits(gap_critical_pct=limit)
    breaches = await writer.rows("breaches", "cleared_at")
    assert len({breach["breach_id"] for breach in breaches}) == 3
    assert str(row) in {breach["breach_id"] for breach in breaches}
    assert [breach["cleared_at"] is None for breach in breaches] == [False, False, True]


async def test_limits_far_below_a_hundredth_work(writer: DatabaseWriter) -> None:
    await writer.set_limits(spread_warning_pct="0.012", spread_critical_pct="0.03")
    for before, after, level in (
        ("1.1", "1.10012", "normal"),
        ("1.1", "1.10015", "warning"),
        (1, "1.0004", "critical"),
    ):
        await writer.guard("spread", before, after, symbol=level)
        (alert,) = [row for row in await writer.rows("market_alerts") if row["symbol"] == level]
        assert alert["alert_type"] == level


async def test_an_alert_that_was_over_when_it_arrived_is_an_event_only(writer: DatabaseWriter) -> None:
    row_id = await writer.guard("gap", 100, 120, created_at="2001-01-01 00:00:00+00")
    state = await writer.state()
    assert state["guards"]["alerts"] == {}
    assert list(state["status"]["recent_events"]) == [str(row_id)]


async def test_an_alert_that_ended_while_its_row_waited_is_latched(writer: DatabaseWriter) -> None:
    """Its window is measured at the row's arrival, not when the row was applied."""
    writer.applies = False
    await writer.guard("gap", 100, 120)
    await writer.execute(
        "UPDATE guardwire.inbox SET arrived_at = arrived_at - interval '3 hours',"
        " new_row = jsonb_set(new_row::jsonb, '{created_at}', to_jsonb(now() - interval '3 hours'))::json"
    )
    await writer.apply()
    assert len(await writer.rows("breaches")) == 1


# ---------------------------------------------------------------- breaches


async def test_of_breaches_the_newest_twenty_and_those_of_the_last_hour_are_kept(
    writer: DatabaseWriter,
) -> None:
    two_hours_ago = -7200
    await writer.equity(10_000, two_hours_ago)
    for number in range(22):
        await writer.equity(7_000, two_hours_ago + 2 * number + 1)
        await writer.equity(10_000, two_hours_ago + 2 * number + 2)
    old = await writer.rows("breaches", "raised_at")
    assert (len(old), old[0]["raised_at"]) == (20, writer.at(two_hours_ago + 5))
    now = datetime.now(UTC)
    for number in range(25):
        await writer.guard("gap", 100, 120, symbol=f"S{number}", created_at=now)
    assert len(await writer.rows("breaches")) == 25


async def test_of_breaches_never_more_than_two_hundred_are_kept(writer: DatabaseWriter) -> None:
    writer.applies = False
    now = datetime.now(UTC)
    for number in range(205):
        at = now - timedelta(milliseconds=300 - number)
        await writer.guard("gap", 100, 120, symbol=f"S{number}", created_at=at)
    await writer.apply()
    kept = {row["symbol"] for row in await writer.rows("breaches")}
    assert kept == {f"S{number}" for number in range(5, 205)}
