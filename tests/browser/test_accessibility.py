"""axe-core finds no violation on any page, in light and dark."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from playwright.sync_api import Route, expect

from app import Development
from auth.development import DevelopmentKey
from realtime.demo.demonstration import Demonstration
from realtime.escalation.signing import signed_headers
from realtime.settings import Settings
from tests.browser.axe import violations
from tests.browser.dashboard import Dashboard
from tests.browser.dashboard_thread import serving_in_thread
from tests.browser.test_page import SCHEMES, a_full_book
from tests.browser.trader import Trader

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


@pytest.fixture
def demonstration(trader: Trader, key: DevelopmentKey) -> Demonstration:
    """The demo's panel and receiver, whose bot does not run."""
    return Demonstration(user_id=trader.user_id, key=key)


@pytest.fixture
def server_port(
    migrated_url: str, redis_url: str, key: DevelopmentKey, trader: Trader, demonstration: Demonstration
) -> Iterator[int]:
    """The port of a server with the demo's pages."""
    settings = Settings(mode="development", database_url=migrated_url, redis_url=redis_url, port=0)
    development = Development(key=key, demo_user=trader.user_id, demonstration=demonstration)
    with serving_in_thread(settings, development) as port:
        yield port


def in_each_scheme(dashboard: Dashboard) -> list[str]:
    """The violations of the page as it is, in light and in dark."""
    found = []
    for scheme in SCHEMES:
        dashboard.page.emulate_media(color_scheme=scheme)
        found += [f"{scheme}: {each}" for each in violations(dashboard.page)]
    return found


def test_nothing_on_the_dashboard_and_its_demo_panel(dashboard: Dashboard, trader: Trader) -> None:
    a_full_book(trader)
    dashboard.open()
    alert = dashboard.page.locator("gw-open-alerts > ul > li").first
    alert.get_by_text("Log").click()
    alert.get_by_role("button", name="Snooze").click()
    expect(dashboard.part("gw-demo", "toggle")).to_have_text("Start the bot")
    assert in_each_scheme(dashboard) == []


def test_nothing_without_anything_to_show_and_without_a_server(dashboard: Dashboard) -> None:
    dashboard.open()
    assert in_each_scheme(dashboard) == []
    dashboard.network_fails = True
    dashboard.page.context.set_offline(True)
    expect(dashboard.part("gw-demo", "problem")).to_be_visible()
    expect(dashboard.notice()).to_be_visible()
    assert in_each_scheme(dashboard) == []


def test_nothing_on_the_form_for_a_token(dashboard: Dashboard) -> None:
    dashboard.page.route(re.compile(r"^http://[^/]+/$"), _without_tokens)
    dashboard.show()
    expect(dashboard.page.get_by_label("Access token")).to_be_visible()
    assert in_each_scheme(dashboard) == []


def _without_tokens(route: Route) -> None:
    """Answer with the page of a server that has no address for tokens."""
    response = route.fetch()
    route.fulfill(response=response, body=response.text().replace('content="demo/token"', 'content=""'))


def test_nothing_on_the_receivers_page(dashboard: Dashboard, demonstration: Demonstration) -> None:
    page = dashboard.page
    dashboard.show()
    page.get_by_role("link", name="Webhooks that arrived").click()
    expect(page.get_by_text("Nothing has arrived.")).to_be_visible()
    assert in_each_scheme(dashboard) == []
    _receive(demonstration)
    expect(page.get_by_text("Signature valid")).to_be_visible()
    expect(page.get_by_text("Signature not valid")).to_be_visible()
    page.get_by_text("Message").first.click()
    assert in_each_scheme(dashboard) == []
    dashboard.network_fails = True
    page.context.set_offline(True)
    expect(page.get_by_text("The demo does not answer.")).to_be_visible()
    assert in_each_scheme(dashboard) == []


def _receive(demonstration: Demonstration) -> None:
    data = {
        "alert_id": str(uuid4()),
        "generation": 1,
        "level": 1,
        "kind": "drawdown",
        "observed": 21.0,
        "subject": "",
    }
    body = json.dumps({"type": "alert.raised", "data": data})
    receiver = demonstration.receiver
    receiver.expect(SECRET)
    headers = signed_headers("a.1.1", body, secrets=[SECRET], attempted_at=datetime.now(UTC))
    receiver.take_webhook(body.encode(), headers)
    receiver.take_webhook(b"{}", headers)
    receiver.take_message(b'{"title":"Guardwire: critical alert","message":"Act."}', receiver.person_key)
