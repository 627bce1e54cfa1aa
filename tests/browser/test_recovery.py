"""For every fault between account and screen: the page shows the true state, or shows that it is not sure."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.dashboard import Dashboard
from tests.browser.dashboard_process import DashboardProcess
from tests.browser.gate import Gate
from tests.browser.trader import Trader


def greyed(dashboard: Dashboard) -> bool:
    """Whether the total has lost its colour."""
    soft = dashboard.colour(dashboard.page.locator("gw-profit h2"))
    return dashboard.colour(dashboard.part("gw-profit", "total")) == soft


def with_a_gain(trader: Trader) -> None:
    """One position with a profit, so that there is a colour to lose."""
    trader.equity(10_000)
    trader.open(7001, "XAUUSD", 1950.50, current_price=1955.75)


def test_a_killed_server_is_told_at_once_and_blind_after_fifteen_seconds_and_live_when_it_is_back(
    dashboard: Dashboard, trader: Trader, server: DashboardProcess
) -> None:
    dashboard.network_fails = True
    dashboard.page.clock.install()
    with_a_gain(trader)
    dashboard.open()
    assert not greyed(dashboard)
    server.kill()
    dashboard.expect_word("Reconnecting")
    assert greyed(dashboard)
    expect(dashboard.notice()).to_contain_text("These numbers are from")
    dashboard.page.clock.run_for(16_000)
    dashboard.expect_word("Blind")
    expect(dashboard.notice()).to_contain_text("No connection")
    assert "blind" in dashboard.page.title()
    trader.open(7002, "EURUSD", 1.0842)
    server.start()
    dashboard.notice().get_by_role("button", name="Try now").click()
    dashboard.expect_word("Live", seconds=20)
    expect(dashboard.row(7002)).to_be_visible()
    expect(dashboard.notice()).to_be_hidden()
    assert not greyed(dashboard)


def test_a_server_that_is_restarted_politely_costs_a_moment(
    dashboard: Dashboard, trader: Trader, server: DashboardProcess
) -> None:
    dashboard.network_fails = True
    with_a_gain(trader)
    dashboard.open()
    server.stop()
    dashboard.expect_word("Reconnecting")
    server.start()
    dashboard.expect_word("Live", seconds=20)
    dashboard.expect_transport("WebSocket", seconds=30)


def test_a_network_that_dies_without_a_word_is_noticed(
    dashboard: Dashboard, trader: Trader, gate: Gate
) -> None:
    dashboard.page.clock.install()
    with_a_gain(trader)
    dashboard.open()
    gate.hold()
    dashboard.page.clock.run_for(16_000)
    dashboard.expect_word("Blind")
    assert greyed(dashboard)
    gate.cut()
    gate.release()
    dashboard.network_fails = True
    dashboard.page.clock.run_for(12_000)
    dashboard.expect_word("Live", seconds=20)


def test_a_cut_connection_resumes_with_what_was_missed(
    dashboard: Dashboard, trader: Trader, gate: Gate
) -> None:
    with_a_gain(trader)
    dashboard.open()
    gate.hold()
    gate.cut()
    trader.close(7001)
    gate.release()
    dashboard.network_fails = True
    expect(dashboard.page.get_by_text("No open positions")).to_be_visible()
    dashboard.expect_word("Live")


def test_where_websockets_are_blocked_it_goes_on_by_an_event_stream_and_comes_back(
    dashboard: Dashboard, trader: Trader, gate: Gate
) -> None:
    dashboard.network_fails = True
    gate.blocked = ("/ws",)
    dashboard.page.clock.install()
    with_a_gain(trader)
    dashboard.open()
    dashboard.expect_transport("event stream")
    trader.open(7002, "EURUSD", 1.0842)
    expect(dashboard.row(7002)).to_be_visible()
    gate.blocked = ()
    dashboard.page.clock.run_for(6_000)
    dashboard.expect_transport("WebSocket")
    dashboard.expect_word("Live")
    trader.open(7003, "EURUSD", 1.0842)
    expect(dashboard.row(7003)).to_be_visible()


def test_where_event_streams_are_blocked_too_it_asks_again_and_again(
    dashboard: Dashboard, trader: Trader, gate: Gate
) -> None:
    dashboard.network_fails = True
    gate.blocked = ("/ws", "/api/v1/stream")
    with_a_gain(trader)
    dashboard.open()
    dashboard.expect_transport("polling")
    trader.move(7001, 1951)
    expect(dashboard.cell(7001, "price")).to_have_text("1,951.00")
    trader.close(7001)
    expect(dashboard.page.get_by_text("No open positions")).to_be_visible()
    dashboard.expect_word("Live")


def test_a_tab_that_slept_for_ten_minutes_believes_nothing_that_was_buffered(
    dashboard: Dashboard, trader: Trader, gate: Gate
) -> None:
    dashboard.page.clock.install()
    with_a_gain(trader)
    dashboard.open()
    gate.hold()
    trader.move(7001, 1951)
    dashboard.page.clock.fast_forward("10:00")
    dashboard.expect_word("Blind")
    assert greyed(dashboard)
    expect(dashboard.cell(7001, "price")).to_have_text("1,955.75")
    trader.close(7001)
    dashboard.network_fails = True
    gate.release()
    dashboard.expect_word("Live", seconds=20)
    expect(dashboard.page.get_by_text("No open positions")).to_be_visible()


def test_a_device_that_goes_offline_says_so_at_once_and_reconnects_when_it_is_back(
    dashboard: Dashboard, trader: Trader, gate: Gate
) -> None:
    dashboard.network_fails = True
    with_a_gain(trader)
    dashboard.open()
    gate.hold()
    dashboard.page.context.set_offline(True)
    dashboard.expect_word("Stale", seconds=2)
    expect(dashboard.notice()).to_contain_text("This device is offline.")
    gate.cut()
    gate.release()
    dashboard.page.context.set_offline(False)
    dashboard.expect_word("Live", seconds=5)


def test_a_user_who_looks_at_an_overdue_page_does_not_wait_for_a_timer(
    dashboard: Dashboard, trader: Trader, server: DashboardProcess
) -> None:
    dashboard.network_fails = True
    dashboard.page.clock.install()
    with_a_gain(trader)
    dashboard.open()
    server.kill()
    dashboard.page.clock.run_for(60_000)
    dashboard.expect_word("Blind")
    server.start()
    dashboard.page.clock.pause_at(dashboard.evaluate("Date.now() + 1"))
    dashboard.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    dashboard.page.clock.resume()
    dashboard.expect_word("Live", seconds=5)


def test_a_server_that_loses_its_database_says_so_and_the_page_with_it(
    dashboard: Dashboard, trader: Trader
) -> None:
    with_a_gain(trader)
    dashboard.open()
    with trader.nobody_else_connected():
        dashboard.expect_word("Stale")
        assert greyed(dashboard)
        expect(dashboard.notice()).to_contain_text("The server has lost sight of its database")
    dashboard.expect_word("Live")
    expect(dashboard.notice()).to_be_hidden()


def test_another_page_of_the_same_account_shows_the_same(dashboard: Dashboard, trader: Trader) -> None:
    with_a_gain(trader)
    dashboard.open()
    second = dashboard.page.context.new_page()
    second.goto(dashboard.page.url)
    expect(second.locator("gw-profit [data-part=total]")).to_have_text("+52.50")
    trader.move(7001, 1951)
    for page in (dashboard.page, second):
        expect(page.locator("gw-profit [data-part=total]")).to_have_text("+5.00")
