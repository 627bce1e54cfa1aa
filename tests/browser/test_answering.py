"""Alerts are acknowledged and snoozed on the page, by whose token allows it."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, expect

from auth.development import DevelopmentKey
from auth.identity import ACK_SCOPE
from tests.browser.dashboard import Dashboard
from tests.browser.trader import Trader

_ANSWERS = re.compile("Acknowledge|Snooze")


@pytest.fixture
def demo_user() -> None:
    """The server asks for a token, so that a test chooses its scopes."""


@pytest.fixture
def board(dashboard: Dashboard, trader: Trader) -> Dashboard:
    """The sign-in form of an account with a critical drawdown."""
    trader.open(7001, "XAUUSD", 1950.50)
    trader.equity(10_000)
    trader.equity(7_900)
    dashboard.show()
    return dashboard


def _sign_in(board: Dashboard, token: str) -> Locator:
    board.page.get_by_label("Access token").fill(token)
    board.page.locator("gw-sign-in").get_by_role("button", name="Sign in", exact=True).click()
    board.expect_word("Live")
    return board.page.locator("gw-open-alerts > ul > li")


def test_without_the_scope_nothing_offers_to_silence_an_alert(
    board: Dashboard, trader: Trader, key: DevelopmentKey
) -> None:
    alert = _sign_in(board, key.issue(trader.user_id))
    expect(alert).to_be_visible()
    assert board.page.get_by_role("button", name=_ANSWERS).count() == 0


def test_an_acknowledgement_by_the_keyboard_names_who_and_until_when_it_holds(
    board: Dashboard, trader: Trader, key: DevelopmentKey
) -> None:
    alert = _sign_in(board, key.issue(trader.user_id, scopes=[ACK_SCOPE]))
    button = alert.get_by_role("button", name="Acknowledge")
    button.focus()
    board.page.keyboard.press("Enter")
    expect(alert).to_contain_text("dashboard saw it at")
    expect(alert).to_contain_text("If positions are open then, it escalates in")
    expect(button).to_be_hidden()
    expect(board.part("gw-alarm", "demand")).to_have_text("Close all positions")
    expect(board.part("gw-alarm", "advice")).to_contain_text("dashboard answered at")


def test_an_alert_that_is_over_leaves_once_it_is_acknowledged(
    board: Dashboard, trader: Trader, key: DevelopmentKey
) -> None:
    alert = _sign_in(board, key.issue(trader.user_id, scopes=[ACK_SCOPE]))
    trader.equity(10_000)
    expect(alert).to_contain_text("Over since")
    alert.get_by_role("button", name="Acknowledge").click()
    expect(alert).to_have_count(0)
    expect(board.part("gw-open-alerts", "nothing")).to_be_visible()


def test_a_snooze_takes_a_reason_and_stands_in_the_log(
    board: Dashboard, trader: Trader, key: DevelopmentKey
) -> None:
    alert = _sign_in(board, key.issue(trader.user_id, scopes=[ACK_SCOPE]))
    alert.get_by_text("Log").click()
    expect(alert.locator("ol li").first).to_contain_text("raised")
    alert.get_by_role("button", name="Snooze").click()
    expect(alert.get_by_label("Escalate no further for")).to_be_focused()
    submit = alert.locator("form").get_by_role("button", name="Snooze")
    submit.click()
    assert alert.get_by_label("Reason").evaluate("input => !input.validity.valid")
    alert.get_by_label("Reason").fill("hedged elsewhere")
    submit.click()
    expect(alert).to_contain_text("Snoozed until")
    expect(alert.locator("form")).to_be_hidden()
    expect(alert.locator("ol li").last).to_contain_text("snoozed by dashboard · reason: hedged elsewhere")


def test_a_refusal_is_shown_beside_the_alert_and_can_be_tried_again(
    board: Dashboard, trader: Trader, key: DevelopmentKey
) -> None:
    alert = _sign_in(board, key.issue(trader.user_id, scopes=[ACK_SCOPE]))
    board.network_fails = True
    board.page.route("**/ack", lambda route: route.abort())
    alert.get_by_role("button", name="Acknowledge").click()
    expect(alert.get_by_role("alert")).to_contain_text("Not done")
    board.page.unroute("**/ack")
    alert.get_by_role("button", name="Acknowledge").click()
    expect(alert).to_contain_text("dashboard saw it at")
    expect(alert.get_by_role("alert")).to_be_hidden()
