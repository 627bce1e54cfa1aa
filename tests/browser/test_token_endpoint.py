"""A dashboard whose tokens come from the operator's own path at the same origin, behind a real nginx."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Page, Route, expect

from app import Development
from auth.development import AUDIENCE, ISSUER, DevelopmentKey
from realtime.embedded.folder import free_port
from realtime.settings import Settings
from tests.browser.dashboard import Dashboard
from tests.browser.dashboard_thread import serving_in_thread
from tests.browser.trader import Trader
from tests.operations.proxy import proxy
from tests.waiting import wait_until

ROOT: Final = Path(__file__).parents[2]
SESSION: Final = "zqx-session"


@pytest.fixture
def endpoint(secret: str, trader: Trader) -> Iterator[int]:
    """The port of the example, in which one session belongs to the trader."""
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "GUARDWIRE_JWT_SECRET": secret,
        "GUARDWIRE_JWT_ISSUER": ISSUER,
        "GUARDWIRE_JWT_AUDIENCE": AUDIENCE,
        "SESSIONS": f"{SESSION}={trader.user_id}",
    }
    process = subprocess.Popen(
        [sys.executable, "examples/token_endpoint.py", str(port)],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.DEVNULL,
    )

    def listens() -> bool:
        assert process.poll() is None
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(listens)
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def site(
    migrated_url: str, redis_url: str, key: DevelopmentKey, endpoint: int, empty_folder: Path
) -> Iterator[str]:
    """The address of a proxy that leads to a node, and to the endpoint as docs/installing.md says."""
    page = (ROOT / "docs/installing.md").read_text("utf-8")
    (location,) = re.findall(r"^ +location = /session/token \{.*\}$", page, re.MULTILINE)
    listen = f"    listen 8080;\n{location.replace('8001', str(endpoint))}\n"
    settings = Settings(
        mode="development", database_url=migrated_url, redis_url=redis_url, port=0, token_url="/session/token"
    )
    with serving_in_thread(settings, Development(key=key)) as port:
        address = f"127.0.0.1:{port}"
        with proxy(empty_folder, address, address, listen=listen) as front:
            yield front.url


@pytest.fixture
def board(page: Page, site: str) -> Iterator[Dashboard]:
    """The page, not opened yet; its errors and warnings fail the test."""
    board = Dashboard(page, site)
    yield board
    assert board.complaints() == []


def sign_in(page: Page, site: str) -> None:
    """Have the cookie that the operator's own site would set."""
    page.context.add_cookies([{"name": "session", "value": SESSION, "url": site, "httpOnly": True}])


def test_who_is_signed_in_sees_the_account_without_a_form(
    board: Dashboard, site: str, trader: Trader
) -> None:
    trader.open(7001, "XAUUSD", 1950.50)
    sign_in(board.page, site)
    board.open()
    expect(board.row(7001)).to_be_visible()
    expect(board.page.get_by_label("Access token")).to_be_hidden()
    expect(board.page.get_by_role("button", name="Sign out")).to_be_hidden()
    assert board.evaluate("JSON.stringify({...sessionStorage, ...localStorage})") == "{}"
    assert SESSION not in board.evaluate("document.cookie")


def test_a_token_is_renewed_before_it_ends_and_the_connection_stays(
    board: Dashboard, site: str, trader: Trader, key: DevelopmentKey
) -> None:
    """The first token ends in less than a minute, so the server asks for another one at once."""
    asked: list[str] = []
    ends: list[float] = []

    def answer(route: Route) -> None:
        asked.append(route.request.all_headers().get("cookie", ""))
        if len(asked) == 1:
            ends.append(time.time() + 8)
            route.fulfill(json={"token": key.issue(trader.user_id, ttl_seconds=8)})
        else:
            route.continue_()

    sign_in(board.page, site)
    board.page.route("**/session/token", answer)
    board.open()
    trader.open(7001, "XAUUSD", 1950.50)
    expect(board.row(7001)).to_be_visible()
    board.page.wait_for_function("end => Date.now() / 1000 > end + 1", arg=ends[0])
    board.expect_word("Live")
    trader.open(7002, "XAUUSD", 1950.50)
    expect(board.row(7002)).to_be_visible()
    assert len(asked) == 2
    assert all(SESSION in cookies for cookies in asked)


def test_nobody_is_signed_in_until_somebody_is(board: Dashboard, site: str, trader: Trader) -> None:
    # A browser logs an answer of 401.
    board.network_fails = True
    trader.open(7001, "XAUUSD", 1950.50)
    board.show()
    board.expect_word("Disconnected")
    expect(board.page.get_by_label("Access token")).to_be_hidden()
    sign_in(board.page, site)
    board.notice().get_by_role("button", name="Sign in again").click()
    board.expect_word("Live")
    expect(board.row(7001)).to_be_visible()
