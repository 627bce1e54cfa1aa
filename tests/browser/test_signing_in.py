"""When the server gives no token to the page, a person pastes one."""

from __future__ import annotations

import json
from uuid import UUID, uuid4

import pytest
from playwright.sync_api import expect

from auth.development import DevelopmentKey
from tests.browser.dashboard import Dashboard
from tests.browser.trader import Trader


@pytest.fixture
def demo_user() -> UUID | None:
    """These tests sign in."""
    return None


@pytest.fixture
def form(dashboard: Dashboard) -> Dashboard:
    """The page with its form."""
    dashboard.show()
    expect(dashboard.page.get_by_label("Access token")).to_be_focused()
    return dashboard


def sign_in(form: Dashboard, token: str, *, keep: bool = False) -> None:
    """Fill in the form."""
    form.page.get_by_label("Access token").fill(token)
    if keep:
        form.page.get_by_label("Keep it until this tab is closed").check()
    form.page.locator("gw-sign-in").get_by_role("button", name="Sign in", exact=True).click()


def kept(form: Dashboard) -> str:
    """Everything that the page has stored."""
    stored: str = form.evaluate(
        "JSON.stringify([{...sessionStorage}, {...localStorage}, document.cookie, location.href])"
    )
    return stored


def test_a_pasted_token_opens_its_account_and_is_kept_nowhere(
    form: Dashboard, trader: Trader, key: DevelopmentKey
) -> None:
    trader.open(7001, "XAUUSD", 1950.50)
    token = key.issue(trader.user_id)
    sign_in(form, f"  {token}\n")
    form.expect_word("Live")
    expect(form.row(7001)).to_be_visible()
    expect(form.page.locator("#account")).to_have_text(f"Account {str(trader.user_id)[:8]}")
    assert token not in kept(form)
    form.page.reload()
    expect(form.page.get_by_label("Access token")).to_be_visible()


def test_a_token_that_is_to_be_kept_lasts_until_signing_out(
    form: Dashboard, trader: Trader, key: DevelopmentKey
) -> None:
    token = key.issue(trader.user_id)
    sign_in(form, token, keep=True)
    form.expect_word("Live")
    assert token in json.loads(kept(form))[0].values()
    form.page.reload()
    form.expect_word("Live")
    form.page.get_by_role("button", name="Sign out").click()
    expect(form.page.get_by_label("Access token")).to_be_visible()
    assert token not in kept(form)


def test_a_token_that_is_not_good_is_told_and_another_may_be_pasted(
    form: Dashboard, trader: Trader, key: DevelopmentKey
) -> None:
    sign_in(form, "not.a.token")
    expect(form.page.locator("#token-problem")).to_have_text(
        "The credentials are not one well-formed bearer token."
    )
    expect(form.page.get_by_label("Access token")).to_be_focused()
    sign_in(form, key.issue(trader.user_id))
    form.expect_word("Live")


def test_after_a_second_token_that_is_not_good_the_page_stops_and_says_why(form: Dashboard) -> None:
    for token in ("not.a.token", "not.a.token.either"):
        sign_in(form, token)
    form.expect_word("Disconnected")
    expect(form.notice()).to_contain_text(
        "Disconnected: The credentials are not one well-formed bearer token."
    )
    assert ".." not in form.notice().inner_text()
    form.notice().get_by_role("button", name="Sign in again").click()
    expect(form.page.get_by_label("Access token")).to_be_visible()


def test_the_account_of_another_user_stays_unseen(
    form: Dashboard, trader: Trader, key: DevelopmentKey
) -> None:
    trader.open(7001, "XAUUSD", 1950.50)
    sign_in(form, key.issue(uuid4()))
    form.expect_word("Live")
    expect(form.page.get_by_text("No open positions")).to_be_visible()
    expect(form.notice()).to_contain_text("Nothing was ever recorded for this account")
    trader.open(7002, "XAUUSD", 1950.50)
    assert form.row(7001).count() == form.row(7002).count() == 0


def test_a_token_that_ends_soon_is_asked_for_again_while_the_page_goes_on(
    form: Dashboard, trader: Trader, key: DevelopmentKey
) -> None:
    trader.open(7001, "XAUUSD", 1950.50)
    sign_in(form, key.issue(trader.user_id, ttl_seconds=50))
    form.expect_word("Live")
    expect(form.page.get_by_text("This token ends in a minute: paste a new one.")).to_be_visible()
    expect(form.notice()).to_contain_text("Your sign-in ends in a minute.")
    expect(form.page.get_by_label("Access token")).not_to_be_focused()
    form.notice().get_by_role("button", name="Sign in", exact=True).click()
    expect(form.page.get_by_label("Access token")).to_be_focused()
    expect(form.row(7001)).to_be_visible()
    form.page.get_by_label("Access token").fill(key.issue(trader.user_id))
    form.page.locator("gw-sign-in").get_by_role("button", name="Sign in", exact=True).click()
    expect(form.page.locator("gw-sign-in")).to_be_hidden()
    form.expect_word("Live")
