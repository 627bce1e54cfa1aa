"""The demo's minute: a bot attends and acts, and when it is stopped others are called."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from auth.development import DevelopmentKey
from realtime.settings import Settings
from realtime.simulator import SimulatorOptions
from tests.browser.dashboard import Dashboard
from tests.browser.demo_thread import demo_in_thread

#: Nothing happens by chance or by the script.
QUIET = SimulatorOptions(
    users=1, divergences=0, closes=0, drawdowns=0, guard_triggers=0, failed_syncs=0, rows_per_second=10
)
#: A step of the demo's policy takes 5 s at most, and housekeeping looks every 2 s.
STEP_MS = 15_000


@pytest.fixture
def server_port(migrated_url: str, redis_url: str, key: DevelopmentKey) -> Iterator[int]:
    """The port of a running demo."""
    settings = Settings(mode="development", database_url=migrated_url, redis_url=redis_url, port=0)
    with demo_in_thread(settings, QUIET, key) as port:
        yield port


class Show:
    """The dashboard, as far as it shows the bot and the alerts."""

    def __init__(self, dashboard: Dashboard) -> None:
        self.attendance = dashboard.part("gw-open-alerts", "attendance")
        self.alerts = dashboard.page.locator("gw-open-alerts > ul > li")
        self.demand = dashboard.part("gw-alarm", "demand")
        self.widen = dashboard.part("gw-demo", "widen")
        self.toggle = dashboard.part("gw-demo", "toggle")
        self.acted = dashboard.page.locator("gw-demo ol li")

    def expect_attended(self) -> None:
        expect(self.attendance).to_have_text("Armed. Attended by example-bot.")
        expect(self.alerts).to_have_count(0)
        expect(self.demand).to_be_hidden()


def test_a_bot_that_is_stopped_is_missed_and_others_are_called_until_it_attends_again(
    dashboard: Dashboard,
) -> None:
    dashboard.open()
    show = Show(dashboard)
    expect(dashboard.page.locator("gw-positions tbody tr")).to_have_count(8)
    show.expect_attended()
    show.widen.click()
    expect(show.alerts).to_contain_text("example-bot said that it acts")
    expect(show.acted).to_contain_text(re.compile(r"spread 1\.\d+ % · closed \d position"))
    show.expect_attended()

    show.toggle.click()
    expect(show.toggle).to_have_text("Start the bot")
    expect(show.attendance).to_contain_text("no bot attends")
    expect(show.demand).to_have_text("No bot attends this account", timeout=STEP_MS)

    calls = _received(dashboard)
    show.widen.click()
    spread = show.alerts.filter(has_text="spread")
    expect(spread).to_contain_text("webhooks were called", timeout=STEP_MS)
    spread.get_by_text("Log").click()
    log = spread.locator("ol")
    expect(log).to_contain_text("escalated · level: 1 · reason: nobody acknowledged")
    webhook = calls.filter(has_text="spread").filter(has_text="Level 1")
    expect(webhook).to_contain_text("Signature valid")
    expect(webhook).to_contain_text("alert.raised")
    expect(log).to_contain_text("escalated · level: 2 · reason: nobody acknowledged", timeout=STEP_MS)
    expect(calls.filter(has_text="To a person").filter(has_text="bid_ask_spread")).to_contain_text(
        "Key valid"
    )

    show.toggle.click()
    show.expect_attended()


def _received(dashboard: Dashboard) -> Locator:
    """The calls on the receiver's page, which the panel's link opens, newest first."""
    with dashboard.page.context.expect_page() as opened:
        dashboard.page.get_by_role("link", name="Webhooks that arrived").click(modifiers=["ControlOrMeta"])
    page: Page = opened.value
    expect(page.get_by_role("heading", level=1)).to_have_text("Webhooks that arrived")
    return page.locator("gw-received > ol > li")
