"""A real Chromium, a real server in a process of its own, and the page between them."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from uuid import UUID

import pytest
from playwright.sync_api import Browser, BrowserType, Page, Playwright, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from app import Development
from auth.development import DevelopmentKey
from realtime.embedded import EmbeddedServers
from realtime.settings import Settings
from tests.browser.dashboard import Dashboard
from tests.browser.dashboard_process import DashboardProcess
from tests.browser.dashboard_thread import serving_in_thread
from tests.browser.gate import Gate
from tests.browser.trader import Trader
from tests.databases import Databases

_ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",  # Chromium needs this as root; the tests open only our own pages
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_NAMES = ("chromium", "chromium-browser", "google-chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder."""
    for item in items:
        if "tests/browser" in item.path.as_posix():
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """One browser for all tests of this folder; each test has pages of its own."""
    with sync_playwright() as playwright:
        browser = _launch(playwright)
        yield browser
        browser.close()


def _launch(playwright: Playwright) -> Browser:
    installed = next(filter(None, map(shutil.which, _NAMES)), None)
    kind: BrowserType = playwright.chromium
    try:
        return kind.launch(executable_path=installed, args=_ARGUMENTS)
    except PlaywrightError as error:
        if installed:
            raise
        pytest.skip(f"no Chromium here, neither installed nor Playwright's: {error.message.splitlines()[0]}")


@pytest.fixture
def trader(databases: Databases, servers: EmbeddedServers, migrated_url: str) -> Trader:
    """Writes rows for the account that the page shows."""
    return Trader(databases.run, migrated_url, another_database_url=servers.database_url)


@pytest.fixture
def secret() -> str:
    """The secret that signs the server's tokens."""
    return secrets.token_hex(32)


@pytest.fixture
def key(secret: str) -> DevelopmentKey:
    """Signs the tokens that the server accepts."""
    return DevelopmentKey(secret)


@pytest.fixture
def demo_user(trader: Trader) -> UUID | None:
    """The account that the server opens without a form; None for a server that asks for a token."""
    return trader.user_id


@pytest.fixture
def server_port(
    migrated_url: str,
    redis_url: str,
    key: DevelopmentKey,
    demo_user: UUID | None,
    request: pytest.FixtureRequest,
) -> Iterator[int]:
    """The port of a running server; only tests that kill the server wait for one in a process of its own."""
    if "server" in request.fixturenames:
        yield request.getfixturevalue("server").port
        return
    settings = Settings(mode="development", database_url=migrated_url, redis_url=redis_url, port=0)
    with serving_in_thread(settings, Development(key=key, demo_user=demo_user)) as port:
        yield port


@pytest.fixture
def server(migrated_url: str, redis_url: str, secret: str, trader: Trader) -> Iterator[DashboardProcess]:
    """A running server that a test may kill."""
    process = DashboardProcess(
        database_url=migrated_url,
        redis_url=redis_url,
        secret=secret,
        demo_user=str(trader.user_id),
    )
    process.start()
    yield process
    process.kill()


@pytest.fixture
def gate(server_port: int) -> Iterator[Gate]:
    """The proxy between the page and the server."""
    with Gate(server_port).listening() as gate:
        yield gate


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page of a new profile, on a wide screen."""
    context = chromium.new_context(viewport={"width": 1600, "height": 1000})
    context.set_default_timeout(10_000)
    yield context.new_page()
    context.close()


@pytest.fixture
def dashboard(page: Page, gate: Gate) -> Iterator[Dashboard]:
    """The page, not opened yet; any error or warning in it fails the test."""
    dashboard = Dashboard(page, gate.url)
    yield dashboard
    assert dashboard.complaints() == []
