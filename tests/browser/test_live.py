"""The dashboard shows what is committed, as it is committed."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from playwright.sync_api import expect

from tests.browser.dashboard import Dashboard
from tests.browser.trader import Trader


def test_it_opens_without_a_form_on_the_account_as_it_is(dashboard: Dashboard, trader: Trader) -> None:
    trader.equity(9_500)
    trader.equity(10_000)
    trader.equity(9_500)
    trader.open(7001, "XAUUSD", 1950.50, current_price=1955.75, stop_loss=1940, take_profit=1980)
    trader.open(7002, "EURUSD", 1.0842, minutes=5, direction="sell")
    dashboard.open()
    expect(dashboard.page.locator("gw-sign-in")).to_be_hidden()
    expect(dashboard.cell(7001, "pnl")).to_contain_text("+52.50")
    expect(dashboard.cell(7001, "share")).to_have_text("+0.27")
    expect(dashboard.cell(7001, "stop")).to_have_text("1,940.00")
    expect(dashboard.cell(7002, "side")).to_have_text("Sell")
    expect(dashboard.part("gw-profit", "total")).to_have_text("+52.50")
    expect(dashboard.part("gw-profit", "currency")).to_have_text("USD")
    expect(dashboard.part("gw-drawdown", "percent")).to_have_text("5.00 %")
    expect(dashboard.part("gw-drawdown", "level")).to_have_text("normal")
    expect(dashboard.part("gw-sync", "status")).to_have_text("Healthy")
    expect(dashboard.part("gw-sync", "matched")).to_have_text("2")
    tickets = dashboard.page.locator("gw-positions tbody .ticket")
    assert tickets.all_inner_texts() == ["7002", "7001"]
    dashboard.expect_transport("WebSocket")


def test_an_account_without_anything_says_so(dashboard: Dashboard) -> None:
    dashboard.open()
    expect(dashboard.page.get_by_text("No open positions")).to_be_visible()
    expect(dashboard.page.get_by_text("No market alerts.")).to_be_visible()
    expect(dashboard.page.get_by_text("No limit was breached.")).to_be_visible()
    expect(dashboard.page.get_by_text("No equity on record yet.")).to_be_visible()
    expect(dashboard.page.locator("gw-positions table")).to_be_hidden()
    expect(dashboard.part("gw-profit", "total")).to_have_text("0.00")


def test_a_changed_cell_flashes_in_the_direction_of_the_change_and_others_do_not(
    dashboard: Dashboard, trader: Trader
) -> None:
    trader.open(7001, "XAUUSD", 1950.50)
    trader.open(7002, "EURUSD", 1.0842)
    dashboard.open()
    expect(dashboard.row(7001)).to_be_visible()
    assert dashboard.page.locator("[data-flash]").count() == 0, "the first sight of a number is no change"
    trader.move(7001, 1955.75)
    up = dashboard.row(7001).locator("[data-flash=up]")
    expect(up).to_have_count(3)
    assert {cell.split()[-1] for cell in up.evaluate_all("cells => cells.map(cell => cell.className)")} == {
        "price",
        "pnl",
        "share",
    }
    assert dashboard.row(7002).locator("[data-flash]").count() == 0
    expect(dashboard.cell(7001, "price")).to_have_text("1,955.75")
    expect(dashboard.page.locator("[data-flash]")).to_have_count(0)
    trader.move(7001, 1951)
    expect(dashboard.row(7001).locator("[data-flash=down]")).to_have_count(3)


def test_where_motion_is_unwelcome_nothing_moves(dashboard: Dashboard, trader: Trader) -> None:
    dashboard.page.emulate_media(reduced_motion="reduce")
    trader.open(7001, "XAUUSD", 1950.50)
    dashboard.open()
    trader.move(7001, 1955.75)
    expect(dashboard.row(7001).locator("[data-flash]")).to_have_count(3)
    assert dashboard.evaluate("document.getAnimations().length") == 0


def test_rows_are_kept_and_moved_and_never_built_anew(dashboard: Dashboard, trader: Trader) -> None:
    trader.open(7001, "XAUUSD", 1950.50)
    trader.open(7002, "EURUSD", 1.0842, minutes=5)
    dashboard.open()
    dashboard.row(7001).evaluate("row => { row.mark = 'same' }")
    trader.open(7003, "GBPUSD", 1.2711, minutes=2)
    expect(dashboard.row(7003)).to_be_visible()
    trader.close(7002)
    expect(dashboard.row(7002)).to_have_count(0)
    tickets = dashboard.page.locator("gw-positions tbody .ticket")
    assert tickets.all_inner_texts() == ["7003", "7001"]
    assert dashboard.row(7001).evaluate("row => row.mark") == "same"
    expect(dashboard.part("gw-positions", "count")).to_have_text("2")


def test_a_drawdown_that_becomes_critical_counts_down_and_is_told(
    dashboard: Dashboard, trader: Trader
) -> None:
    trader.equity(10_000)
    dashboard.open()
    expect(dashboard.part("gw-drawdown", "countdown")).to_be_hidden()
    trader.equity(7_900)
    expect(dashboard.part("gw-drawdown", "level")).to_have_text("critical")
    remaining = dashboard.part("gw-drawdown", "remaining")
    expect(remaining).to_be_visible()
    first = _seconds(remaining.inner_text())
    assert 50 <= first <= 60
    expect(remaining).not_to_have_text(remaining.inner_text())
    assert _seconds(remaining.inner_text()) < first
    expect(dashboard.page.get_by_role("alert").filter(has_text="Critical drawdown")).to_have_count(1)
    expect(dashboard.page.locator("gw-breaches li")).to_contain_text("Ongoing")
    expect(dashboard.part("gw-alarm", "demand")).to_have_text("Close all positions")
    expect(dashboard.part("gw-alarm", "reason")).to_have_text("drawdown 21.00 %, limit 20 %")
    expect(dashboard.part("gw-alarm", "time")).to_contain_text("left")
    expect(dashboard.page).to_have_title(re.compile("CLOSE ALL"))
    trader.equity(10_000)
    expect(dashboard.page.locator("gw-alarm")).to_be_hidden()
    expect(dashboard.part("gw-drawdown", "countdown")).to_be_hidden()
    expect(dashboard.page.locator("gw-breaches li")).to_contain_text("cleared at")


def test_a_wrong_clock_on_the_users_machine_does_not_bend_the_countdown(
    dashboard: Dashboard, trader: Trader
) -> None:
    dashboard.page.clock.install(time=0)
    trader.equity(10_000)
    trader.equity(7_900)
    dashboard.open()
    remaining = dashboard.part("gw-drawdown", "remaining")
    expect(remaining).to_be_visible()
    assert 40 <= _seconds(remaining.inner_text()) <= 60


def test_market_alerts_are_listed_worst_first(dashboard: Dashboard, trader: Trader) -> None:
    dashboard.open()
    gap = {"event_type": "guard_trigger", "symbol": "XAUUSD", "divergence_reason": "price gap"}
    trader.append(None, **gap, entry_price=100, current_price=112)
    spread = {"event_type": "guard_trigger", "symbol": "EURUSD", "divergence_reason": "spread"}
    trader.append(None, **spread, entry_price=1.0900, current_price=1.0967)
    alerts = dashboard.page.locator("gw-alerts li")
    expect(alerts).to_have_count(2)
    expect(alerts.first).to_contain_text("XAUUSD")
    expect(alerts.first).to_contain_text("Close positions")
    expect(dashboard.part("gw-alarm", "demand")).to_have_text("Close XAUUSD")
    expect(dashboard.part("gw-alarm", "reason")).to_have_text("XAUUSD: price gap 12.00 %")
    expect(alerts.first).to_contain_text("12.00 %")
    expect(alerts.last).to_contain_text("Spread 0.61 %")
    expect(alerts.last).to_contain_text("Warning")


def test_an_unknown_instrument_is_marked(dashboard: Dashboard, trader: Trader) -> None:
    trader.open(7001, "WHEAT.X", 612.5)
    dashboard.open()
    assert dashboard.cell(7001, "pnl").locator("[data-assumed]").count() == 1
    expect(dashboard.part("gw-positions", "assumed")).to_be_visible()


def test_positions_in_several_currencies_without_a_rate_have_no_total(
    dashboard: Dashboard, trader: Trader
) -> None:
    trader.equity(10_000)
    trader.open(7001, "EURUSD", 1.0842, current_price=1.0852)
    trader.open(7002, "GBPJPY", 188.0, current_price=188.5)
    dashboard.open()
    expect(dashboard.page.get_by_text("No total: a rate between these")).to_be_visible()
    expect(dashboard.part("gw-profit", "total")).to_contain_text("USD")
    expect(dashboard.part("gw-profit", "total")).to_contain_text("JPY")
    expect(dashboard.cell(7002, "pnl")).to_contain_text("JPY")


def test_what_the_platform_writes_is_text_and_nothing_else(dashboard: Dashboard, trader: Trader) -> None:
    hostile = "<img src=x onerror=document.title='owned'>"
    trader.open(7001, hostile, 1.5)
    trader.append(
        7002, event_type="divergence", symbol="EURUSD", divergence_reason=hostile, entry_price=1.1, volume=1
    )
    dashboard.open()
    expect(dashboard.cell(7001, "symbol")).to_have_text(hostile)
    expect(dashboard.page.locator("gw-events li").first).to_be_visible()
    assert dashboard.page.locator("img").count() == 0
    assert "owned" not in dashboard.page.title()


def test_a_platform_that_falls_silent_takes_the_prices_their_colour(
    dashboard: Dashboard, trader: Trader
) -> None:
    trader.insert("guard_limits", sync_overdue_seconds=1)
    trader.open(7001, "XAUUSD", 1950.50, current_price=1955.75)
    dashboard.show()
    expect(dashboard.notice()).to_contain_text("The trading platform is silent", timeout=15_000)
    expect(dashboard.part("gw-sync", "status")).to_have_text("Platform silent")
    assert dashboard.colour(dashboard.part("gw-profit", "total")) == _grey(dashboard)
    dashboard.expect_word("Live link")
    expect(dashboard.part("gw-connection", "age")).to_contain_text("prices")


def test_everything_shown_follows_a_burst_to_its_end(dashboard: Dashboard, trader: Trader) -> None:
    trader.equity(10_000)
    for ticket in range(7001, 7011):
        trader.open(ticket, "EURUSD", 1.0842)
    dashboard.open()
    trader.execute(
        """INSERT INTO reconciliation_logs (user_id, mt5_position_id, symbol, direction, volume, entry_price,
                                            current_price, matched, event_type, status, created_at)
           SELECT $1::uuid, 7000 + (step % 10) + 1, 'EURUSD', 'buy', 0.1, 1.0842,
                  1.0842 + step * 0.0001, 1, 'sync', 'success', now() + step * interval '1 microsecond'
           FROM generate_series(1, 500) AS step""",
        trader.user_id,
    )
    expect(dashboard.cell(7001, "price")).to_have_text("1.1342")
    expect(dashboard.cell(7010, "price")).to_have_text("1.1341")
    shown = _sum(dashboard.page.locator("gw-positions tbody [data-part=pnl]").all_inner_texts())
    assert dashboard.part("gw-profit", "total").inner_text() == f"+{shown:,.2f}"


def _seconds(countdown: str) -> int:
    minutes, seconds = countdown.split(":")
    return int(minutes) * 60 + int(seconds)


def _sum(amounts: list[str]) -> float:
    return sum(float(text.replace("−", "-").replace(",", "").replace("+", "")) for text in amounts)


def _grey(dashboard: Dashboard) -> str:
    return dashboard.colour(dashboard.page.locator("gw-profit h2"))


def test_positions_that_do_not_match_are_seen_and_marked_and_in_no_sum(
    dashboard: Dashboard, trader: Trader
) -> None:
    trader.equity(10_000)
    trader.open(7001, "XAUUSD", 1950.50, current_price=1955.75)
    trader.open(7002, "XAUUSD", 1950.50, current_price=1955.75, matched=2, divergence_reason="volume differs")
    dashboard.open()
    expect(dashboard.part("gw-profit", "total")).to_have_text("+52.50")
    expect(dashboard.part("gw-profit", "share")).to_contain_text("+1 not counted")
    expect(dashboard.part("gw-positions", "count")).to_have_text("1 + 1 not matched")
    expect(dashboard.row(7002)).to_contain_text("Diverges from the broker: volume differs")
    expect(dashboard.part("gw-sync", "error")).to_have_text(
        "1 position diverges from the broker: XAUUSD #7002"
    )


def test_an_assumed_contract_size_leaves_no_total(dashboard: Dashboard, trader: Trader) -> None:
    trader.equity(10_000)
    trader.open(7001, "XAUUSD.r", 1950.50, current_price=1955.75)
    trader.open(7002, "NOSUCH", 10, current_price=11)
    dashboard.open()
    expect(dashboard.part("gw-profit", "share")).to_contain_text(
        "1 of 2 positions has no known contract size"
    )
    expect(dashboard.cell(7001, "pnl")).to_contain_text("+52.50")


def test_a_platform_whose_clock_is_off_is_named(dashboard: Dashboard, trader: Trader) -> None:
    ahead = datetime.now(UTC) + timedelta(hours=3)
    trader.equity(10_000)
    for price in (1951, 1952, 1953, 1954):
        trader.append(
            7001, symbol="XAUUSD", direction="buy", volume=0.1, entry_price=1950, current_price=price, matched=1,
            created_at=ahead,
        )  # fmt: skip
    dashboard.open()
    expect(dashboard.cell(7001, "price")).to_have_text("1,954.00")
    expect(dashboard.part("gw-sync", "clock")).to_have_text("3 h ahead")
    expect(dashboard.notice()).to_contain_text("The trading platform's clock is 3 h ahead")


def test_an_account_that_was_never_recorded_says_so(dashboard: Dashboard) -> None:
    dashboard.open()
    expect(dashboard.notice()).to_contain_text("Nothing was ever recorded for this account")
    expect(dashboard.part("gw-sync", "status")).to_have_text("Nothing recorded")
