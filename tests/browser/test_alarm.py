"""The page demands action with its reason, the time left and what to do, before any figure."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from playwright.sync_api import FloatRect, Locator, expect

from tests.browser.dashboard import Dashboard
from tests.browser.trader import Trader

_PHONE = (390, 844)
_WIDE = (1440, 900)
#: A wide screen at 200 % zoom has half the pixels of CSS.
_ZOOMED = (720, 450)


def _breach(trader: Trader) -> None:
    trader.open(7001, "XAUUSD", 1950.50, current_price=1955.75)
    trader.open(7002, "EURUSD", 1.0842)
    trader.equity(10_000)
    trader.equity(7_900)


def _gap(trader: Trader) -> None:
    trader.open(7001, "XAUUSD.r", 1950.50)
    trader.open(7002, "EURUSD", 1.0842)
    trader.append(
        None,
        event_type="guard_trigger",
        symbol="XAUUSD",
        divergence_reason="price gap",
        entry_price=100,
        current_price=112,
    )


def _bar(dashboard: Dashboard) -> Locator:
    return dashboard.page.locator("gw-alarm")


@pytest.mark.parametrize("size", [_PHONE, _WIDE, _ZOOMED], ids=["phone", "wide", "200 % zoom"])
def test_the_demand_is_on_the_first_screen_before_any_profit_and_stays_there(
    dashboard: Dashboard, trader: Trader, size: tuple[int, int]
) -> None:
    _breach(trader)
    dashboard.page.set_viewport_size({"width": size[0], "height": size[1]})
    dashboard.open()
    bar = _bar(dashboard)
    expect(dashboard.part("gw-alarm", "demand")).to_have_text("Close all positions")
    expect(dashboard.part("gw-alarm", "reason")).to_have_text("drawdown 21.00 %, limit 20 %")
    expect(dashboard.part("gw-alarm", "time")).to_have_text(re.compile(r"^0:\d\d left$"))
    expect(dashboard.part("gw-alarm", "advice")).to_contain_text("at your broker")
    expect(bar).to_be_in_viewport(ratio=1)
    tops = [
        _top(bar),
        _top(dashboard.page.locator("gw-open-alerts")),
        _top(dashboard.part("gw-profit", "total")),
    ]
    assert tops == sorted(tops)
    assert _height(bar) < size[1] / 3, "the rest of the page has to be readable beside the bar"
    dashboard.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(bar).to_be_in_viewport(ratio=1)


def test_on_a_phone_the_guards_come_before_the_profit(dashboard: Dashboard, trader: Trader) -> None:
    dashboard.page.set_viewport_size({"width": _PHONE[0], "height": _PHONE[1]})
    dashboard.open()
    profit, drawdown = dashboard.page.locator("gw-profit"), dashboard.page.locator("gw-drawdown")
    assert _top(profit) < _top(drawdown)
    _breach(trader)
    expect(_bar(dashboard)).to_be_visible()
    assert _top(drawdown) < _top(dashboard.page.locator("gw-positions")) < _top(profit)


def test_the_rows_that_should_close_are_marked(dashboard: Dashboard, trader: Trader) -> None:
    _gap(trader)
    dashboard.open()
    expect(dashboard.row(7001)).to_contain_text("Close")
    expect(dashboard.row(7002)).not_to_contain_text("Close")
    trader.equity(10_000)
    trader.equity(7_900)
    expect(dashboard.row(7002)).to_contain_text("Close")
    expect(dashboard.page.locator("tr[data-due]")).to_have_count(2)


def test_the_title_and_the_icon_tell_at_most_once_a_second(dashboard: Dashboard, trader: Trader) -> None:
    dashboard.open()
    icon = dashboard.page.locator("link[rel=icon]")
    expect(icon).to_have_attribute("href", "static/icon.svg")
    _breach(trader)
    expect(dashboard.page).to_have_title(re.compile(r"^⚠ 0:\d\d CLOSE ALL · Guardwire$"))
    expect(icon).to_have_attribute("href", "static/icon-alarm.svg")
    assert dashboard.page.request.get(dashboard.page.url + "static/icon-alarm.svg").ok
    changes = dashboard.evaluate(
        """() => new Promise((resolve) => {
             const times = [];
             const watch = new MutationObserver(() => times.push(performance.now()));
             watch.observe(document.head, { subtree: true, childList: true, attributes: true });
             const check = setInterval(() => {
               if (times.length < 4) return;
               clearInterval(check);
               resolve(times);
             }, 50);
           })"""
    )
    # A title is replaced by one mutation; a timer of the browser may be early by a few milliseconds.
    assert all(later - earlier > 900 for earlier, later in itertools.pairwise(changes))
    trader.equity(10_000)
    expect(icon).to_have_attribute("href", "static/icon.svg")


def test_nothing_that_is_no_button_looks_like_one(dashboard: Dashboard, trader: Trader) -> None:
    _breach(trader)
    _gap(trader)
    dashboard.open()
    expect(dashboard.page.locator("gw-open-alerts li")).to_have_count(2)
    look = (Path(__file__).parent / "looks" / "buttonlike.js").read_text("utf-8")
    assert dashboard.evaluate(look) == []


def test_an_open_alert_counts_down_and_stays_until_somebody_answers(
    dashboard: Dashboard, trader: Trader
) -> None:
    dashboard.open()
    expect(dashboard.part("gw-open-alerts", "nothing")).to_be_visible()
    expect(dashboard.part("gw-open-alerts", "attendance")).to_have_text("Not armed: no bot has to attend.")
    _breach(trader)
    alert = dashboard.page.locator("gw-open-alerts > ul > li")
    expect(alert).to_contain_text("Drawdown 21.00 %")
    expect(alert).to_contain_text("Nobody acknowledged it.")
    expect(alert.locator("[data-part=left]")).to_have_text(re.compile(r"^0:\d\d left$"))
    expect(dashboard.part("gw-open-alerts", "count")).to_have_text("1")
    trader.equity(10_000)
    expect(alert).to_contain_text("it stays here until somebody acknowledges it")
    expect(alert.locator("[data-part=left]")).to_have_text("")
    expect(_bar(dashboard)).to_be_hidden()


def test_a_notification_and_a_sound_come_only_for_who_asked_for_them(
    dashboard: Dashboard, trader: Trader
) -> None:
    dashboard.page.context.grant_permissions(["notifications"])
    dashboard.page.context.add_init_script((Path(__file__).parent / "looks" / "calls.js").read_text("utf-8"))
    trader.open(7001, "XAUUSD", 1950.50)
    trader.equity(10_000)
    dashboard.open()
    assert dashboard.evaluate("JSON.stringify({ ...localStorage })") == "{}"
    dashboard.page.get_by_label("notify me").check()
    trader.equity(7_900)
    dashboard.page.wait_for_function("() => window.called.notifications.length === 1")
    assert "Drawdown 21.00 %" in dashboard.evaluate("window.called.notifications[0]")
    assert dashboard.evaluate("window.called.sounds") == 0
    dashboard.page.get_by_label("make a sound").check()
    dashboard.page.wait_for_function("() => window.called.sounds > 0")
    # Both are kept for the next visit, and what stands then is called for again.
    again = dashboard.page.context.new_page()
    again.goto(dashboard.page.url)
    expect(again.get_by_label("notify me")).to_be_checked()
    again.wait_for_function("() => window.called.notifications.length === 1")
    again.locator("h1").click()
    again.wait_for_function("() => window.called.sounds > 0")


def _top(locator: Locator) -> float:
    return _box(locator)["y"]


def _height(locator: Locator) -> float:
    return _box(locator)["height"]


def _box(locator: Locator) -> FloatRect:
    box = locator.bounding_box()
    assert box is not None
    return box
