"""The JavaScript client outside of a browser, over each transport, agrees with a new query."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from auth.development import DevelopmentKey
from tests.browser.dashboard_process import DashboardProcess
from tests.browser.trader import Trader
from tests.waiting import wait_until

_EXAMPLE = Path(__file__).parents[2] / "examples" / "print_changes.js"
_FOLLOW = Path(__file__).parents[1] / "javascript" / "follow.js"


class Follower:
    """The program that follows, and its output so far."""

    def __init__(self, url: str, token: str, transport: str) -> None:
        node = shutil.which("node")
        if node is None:
            pytest.skip("no Node.js here")
        self.state: Any = None
        self.level = "blind"
        self.phase = ""
        self._process = subprocess.Popen(
            [node, "--experimental-websocket", "--no-warnings", str(_FOLLOW), url, token, transport],
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, name="follower")
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            vars(self).update(json.loads(line))

    def end(self) -> None:
        """Stop following."""
        self._process.kill()
        self._reader.join()
        self._process.communicate()


@pytest.fixture
def token(trader: Trader, key: DevelopmentKey) -> str:
    """A token of the trader's account."""
    return key.issue(trader.user_id)


@pytest.fixture(params=["websocket", "sse", "poll"])
def follower(request: pytest.FixtureRequest, server: DashboardProcess, token: str) -> Iterator[Follower]:
    """A program that follows the account."""
    follower = Follower(f"{server.url}/", token, request.param)
    yield follower
    follower.end()


def fresh_query(server: DashboardProcess, token: str) -> Any:
    """The state that a new client gets now."""
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.get(f"{server.url}/api/v1/state", headers=headers, trust_env=False).json()["state"]


def test_it_ends_in_the_state_of_a_fresh_query_whatever_happens_in_between(
    trader: Trader, server: DashboardProcess, token: str, follower: Follower
) -> None:
    wait_until(lambda: follower.level == "connected")
    trader.equity(10_000)
    trader.open(7001, "XAUUSD", 1950.50)
    trader.open(7002, "EURUSD", 1.0842, stop_loss=1.08)
    trader.move(7001, 1955.75)
    wait_until(lambda: follower.state == fresh_query(server, token) and "7002" in str(follower.state))
    server.kill()
    wait_until(lambda: follower.level == "stale")
    trader.close(7002)
    trader.open(7002, "EURUSD", 1.09, minutes=200)
    trader.equity(7_900)
    server.start()
    wait_until(lambda: follower.level == "connected", seconds=30)
    wait_until(lambda: follower.state == fresh_query(server, token))
    assert follower.state["guards"]["drawdown"]["alert_type"] == "critical"


def test_it_ends_for_good_when_it_is_refused(server: DashboardProcess) -> None:
    follower = Follower(f"{server.url}/", "not.a.token", "websocket")
    try:
        wait_until(lambda: follower.phase == "closed")
        assert follower.level == "blind"
        assert follower._process.wait(timeout=10) == 0, "nothing keeps the program alive"
    finally:
        follower.end()


def test_the_example_in_the_readme_prints_what_changes(
    trader: Trader, server: DashboardProcess, token: str
) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node.js here")
    trader.equity(10_000)
    trader.open(7001, "XAUUSD", 1950.50)
    with subprocess.Popen(
        [node, str(_EXAMPLE), f"{server.url}/"],
        env={**os.environ, "TOKEN": token},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            first = {process.stdout.readline().strip() for _ in range(3)}
            assert first == {"7001 0", "should close: false", "connected"}
            trader.move(7001, 1955.75)
            assert process.stdout.readline().strip() == "7001 52.5"
            trader.close(7001)
            assert process.stdout.readline().strip() == "7001 closed"
        finally:
            process.kill()
