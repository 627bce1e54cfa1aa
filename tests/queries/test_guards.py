"""Equity and guard triggers change an account's guards: drawdown, market conditions and breaches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

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
    assert (account["equity"], account["peak_equity"]) == (6_000, 6_500)


async def test_a_late_flow_moves_what_came_after_it(writer: DatabaseWriter) -> None:
    await writer.equity(1_000, 0)
    await writer.equity(3_000, 5)
    await writer.equity(2_000, 2, cash_flow=1_000)
    account = await writer.account()
    assert (account["equity_flow"], account["peak_equity"]) == (1_000, 3_000)


async def test_a_late_flow_counts_once_whatever_waits_with_it(writer: DatabaseWriter) -> None:
    """A late flow makes the equity be computed from the table, where rows that are still to come stand too."""
    await writer.equity(1_000, 0)
    writer.applies = False
    await writer.equity(1_001, 0.5, cash_flow=1)
    await writer.equity(13, 1, cash_flow=-987)
    await writer.equity(900, 2, cash_flow=887)
    await writer.equity(1_001, 0.7, cash_flow=1)
    for batch_rows in (1, 2, 10):
        await writer.apply(batch_rows=batch_rows)
    account = await writer.account()
    assert (account["equity"], account["equity_flow"], account["peak_equity"]) == (900, -98, 902)


async def test_negative_or_unusable_equity_never_moves_the_peak(writer: DatabaseWriter) -> None:
    await writer.equity(1_000, 0)
    for equity in ("NaN", "Infinity", "1e15", None):
        await writer.equity(equity, 1)
    assert (await writer.account())["ignored_rows"] == 4
    await writer.equity(-50, 2)
    account = await writer.account()
    assert (account["equity"], account["peak_equity"], account["drawdown_pct"]) == (-50, 1_000, 100)


async def test_the_peak_can_be_restarted_and_put_back(writer: DatabaseWriter) -> None:
    await writer.equity(10_000, 0)
    await writer.equity(8_000, 10)
    revision = await writer.revision()
    await writer.set_limits(peak_since=writer.at(5))
    account = await writer.account()
    assert (account["peak_equity"], account["drawdown_level"]) == (8_000, "normal")
    assert account["revision"] > revision
    await writer.execute("DELETE FROM guard_limits")
    assert (await writer.account())["drawdown_level"] == "critical"


async def test_equity_read_before_the_peak_was_restarted_is_no_peak_of_what_follows(
    writer: DatabaseWriter,
) -> None:
    await writer.equity(10_000, 0)
    await writer.set_limits(peak_since=writer.at(5))
    await writer.equity(9_000, 6)
    account = await writer.account()
    assert (account["peak_equity"], account["drawdown_pct"]) == (9_000, 0)
    await writer.equity(8_900, 7)
    assert (await writer.account())["peak_equity"] == 9_000


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
