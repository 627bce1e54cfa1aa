"""The example bot against a scripted server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.client.peer import AS_OF, OFFERS, Peer, Visit
from tests.client.states import alert, alerts, position, positions
from tests.client.waiting import eventually

BOT = Path(__file__).parent.parent.parent / "examples" / "close_on_guard.py"
BOOK = positions(t11=position(symbol="EURUSD"), t12=position(symbol="XAUUSD"))


class Bot:
    """The running bot; `closed` are the tickets that it closed, in order."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.closed: list[str] = []

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            _, ticket, _ = line.decode().split()
            self.closed.append(ticket)


@pytest.fixture
async def bot(peer: Peer) -> AsyncIterator[Bot]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(BOT),
        peer.url,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "TOKEN": "t", "PYTHONPATH": str(BOT.parent.parent)},
    )
    bot = Bot(process)
    reading = asyncio.create_task(bot.read())
    try:
        yield bot
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await reading


class Desk:
    """The server's side of the bot's connection; `said` are its frames about alerts and attendance."""

    def __init__(self, server: Visit) -> None:
        self.server = server
        self.said: list[dict[str, Any]] = []

    async def read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                frame = await self.server.heard()
                self.said.append(frame)
                if frame["type"] == "ack":
                    await self.server.say(type="ack_ok", alerts=frame["alerts"], revision=10**9)

    @property
    def acts(self) -> list[str]:
        return [frame["action"] for frame in self.said if frame["type"] == "ack"]


@contextlib.asynccontextmanager
async def serving(
    peer: Peer, channel: dict[str, Any], revision: int = 100, book: dict[str, Any] = BOOK
) -> AsyncIterator[Desk]:
    """Welcome the bot as a node does, with this channel of alerts."""
    server = await asyncio.wait_for(peer.visit(), 20)
    await server.welcome(offers=OFFERS)
    await server.snapshot(revision, {"positions": book})
    assert await server.heard() == {"type": "subscribe", "channels": ["alerts"]}
    await server.update(revision, revision, {"alerts": channel})
    desk = Desk(server)
    reading = asyncio.create_task(desk.read())
    yield desk
    reading.cancel()


async def settled(bot: Bot, *tickets: str) -> None:
    """The bot has closed these, and closes no more for a while."""
    async with asyncio.timeout(10):
        while len(bot.closed) < len(tickets):
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.15)
    assert bot.closed == list(tickets)


def market(symbol: str, **fields: Any) -> dict[str, Any]:
    """A critical spread on ``symbol``."""
    condition = {"symbol": symbol, "condition_type": "bid_ask_spread", "subject": f"{symbol} bid_ask_spread"}
    return alert(kind="market", **condition, **fields)


async def test_a_drawdown_closes_everything_and_is_acknowledged_before_and_after(
    peer: Peer, bot: Bot
) -> None:
    async with serving(peer, alerts()) as desk:
        await settled(bot)
        assert [frame["type"] for frame in desk.said] == ["attend"]
        await desk.server.update(100, 101, {"alerts": {"open": {"a": alert()}}})
        await settled(bot, "11", "12")
        await eventually(lambda: desk.acts == ["acting", "done"])
        assert {frame["as"] for frame in desk.said} == {"closer-1"}


async def test_an_alert_that_was_raised_while_no_bot_ran_is_acted_on(peer: Peer, bot: Bot) -> None:
    async with serving(peer, alerts(a=alert())):
        await settled(bot, "11", "12")


@pytest.mark.parametrize(("symbol", "tickets"), [("eurusd", ["11"]), ("*", ["11", "12"]), ("GBPUSD", [])])
async def test_a_market_condition_closes_what_it_concerns(
    peer: Peer, bot: Bot, symbol: str, tickets: list[str]
) -> None:
    async with serving(peer, alerts(a=market(symbol))) as desk:
        await settled(bot, *tickets)
        await eventually(lambda: desk.acts == ["acting", "done"])


@pytest.mark.parametrize("fields", [{"kind": "unattended"}, {"kind": "delivery"}, {"resolved_at": AS_OF}])
async def test_what_asks_for_no_closing_is_acknowledged_alone(
    peer: Peer, bot: Bot, fields: dict[str, Any]
) -> None:
    async with serving(peer, alerts(a=alert(**fields))) as desk:
        await eventually(lambda: desk.acts == ["acting", "done"])
        await settled(bot)


async def test_a_position_that_does_not_match_is_closed_too(peer: Peer, bot: Bot) -> None:
    book = {**positions(t11=position()), "unmatched": {"13": position(matched=2)}}
    async with serving(peer, alerts(a=alert()), book=book):
        await settled(bot, "11", "13")


async def test_an_alert_is_acted_on_once_although_it_comes_again_after_a_reconnect(
    peer: Peer, bot: Bot
) -> None:
    async with serving(peer, alerts(a=alert())) as desk:
        await settled(bot, "11", "12")
        await eventually(lambda: desk.acts == ["acting", "done"])
        desk.server.cut()
    shown = alert(acknowledged_by="closer-1", action="done")
    async with serving(peer, alerts(a=shown), 10**9) as again:
        await again.server.update(10**9, 10**9 + 1, {"positions": {"open": {"11": {"current_price": 1.2}}}})
        await settled(bot, "11", "12")
        # Its positions are open when the hold is over.
        over = {"acknowledged_by": None, "action": None, "level": 1}
        await again.server.update(10**9 + 1, 10**9 + 2, {"alerts": {"open": {"a": over}}})
        await settled(bot, "11", "12", "11", "12")


async def test_nothing_is_closed_before_the_state_is_fresh(peer: Peer, bot: Bot) -> None:
    async with serving(peer, alerts()) as desk:
        await desk.server.heartbeat(100, 100, age_ms=3000, stale=True)
        await desk.server.update(100, 101, {"alerts": {"open": {"a": alert()}}}, age_ms=12_000)
        await eventually(lambda: desk.acts == ["acting"])
        await settled(bot)
        # Nothing changes any more: it is only known again to be so.
        await desk.server.heartbeat(101, 101, age_ms=100)
        await settled(bot, "11", "12")


async def test_a_bot_that_is_refused_ends_with_an_error(peer: Peer, bot: Bot) -> None:
    async with serving(peer, alerts()) as desk:
        await desk.server.close(4403, "access has been revoked")
    assert await asyncio.wait_for(bot.process.wait(), 10) != 0


def test_the_bot_is_short_enough_to_be_read() -> None:
    code = [line for line in BOT.read_text().splitlines() if line.strip()]
    assert len(code) <= 40


@pytest.mark.parametrize("arguments", [[], ["http://127.0.0.1:1"], ["one", "two"]])
def test_a_bot_without_token_or_address_prints_its_usage(arguments: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TOKEN"}
    ended = subprocess.run(
        [sys.executable, str(BOT), *arguments],
        env={**environment, "PYTHONPATH": str(BOT.parent.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("usage: TOKEN=")
    assert "Traceback" not in ended.stderr
