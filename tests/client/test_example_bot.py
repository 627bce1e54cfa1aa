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

from tests.client.peer import Peer, Visit
from tests.client.states import breach, guards, position, positions

BOT = Path(__file__).parent.parent.parent / "examples" / "close_on_guard.py"
BOOK = positions(t11=position(symbol="EURUSD"), t12=position(symbol="XAUUSD"))
DEADLINE = "2026-01-05T09:01:00.000000Z"


class Bot:
    """The running bot; `orders` are the tickets that it closed, in order."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.orders: list[tuple[str, str]] = []

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            _, ticket, left = line.decode().split()
            self.orders.append((ticket, left))

    @property
    def closed(self) -> list[str]:
        return sorted(ticket for ticket, _ in self.orders)


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


async def visit(peer: Peer) -> Visit:
    return await asyncio.wait_for(peer.visit(), 20)


async def settled(bot: Bot, *tickets: str) -> None:
    """The bot has closed these, and closes no more for a while."""
    async with asyncio.timeout(10):
        while len(bot.orders) < len(tickets):
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.15)
    assert bot.closed == sorted(tickets)


def critical(**fields: Any) -> dict[str, Any]:
    """Guards of an account whose drawdown is critical, with its breach ``b1``."""
    state = guards(b1={"kind": "drawdown", "raised_at": "2026-01-05T09:00:00.000000Z"})
    state["any_positions_should_close"] = True
    state["drawdown"] |= {"alert_type": "critical", "should_close_all": True, "liquidation_at": DEADLINE}
    return state | fields


def widened(symbol: str) -> dict[str, Any]:
    """Guards with a critical spread on ``symbol``."""
    alert = {
        "symbol": symbol,
        "condition_type": "bid_ask_spread",
        "alert_type": "critical",
        "should_close_positions": True,
        "detected_at": "2026-01-05T09:00:00.000000Z",
    }
    state = guards(b2=breach(symbol=symbol, condition_type="bid_ask_spread"))
    return state | {"alerts": {f"{symbol}:bid_ask_spread": alert}, "any_positions_should_close": True}


async def test_a_critical_drawdown_closes_everything_with_the_time_that_is_left(peer: Peer, bot: Bot) -> None:
    server = await visit(peer)
    await server.begin(100, {"guards": guards(), "positions": BOOK})
    await settled(bot)
    await server.update(100, 101, {"guards": critical()})
    await settled(bot, "11", "12")
    assert all(55 < float(left) <= 60 for _, left in bot.orders)


@pytest.mark.parametrize(("symbol", "tickets"), [("EURUSD", ["11"]), ("*", ["11", "12"]), ("GBPUSD", [])])
async def test_a_critical_market_condition_closes_what_it_concerns(
    peer: Peer, bot: Bot, symbol: str, tickets: list[str]
) -> None:
    server = await visit(peer)
    await server.begin(100, {"guards": widened(symbol), "positions": BOOK})
    await settled(bot, *tickets)


async def test_a_warning_closes_nothing(peer: Peer, bot: Bot) -> None:
    state = widened("EURUSD")
    state["alerts"]["EURUSD:bid_ask_spread"] |= {"alert_type": "warning", "should_close_positions": False}
    server = await visit(peer)
    await server.begin(100, {"guards": state, "positions": BOOK})
    await settled(bot)


async def test_a_breach_acts_once_although_it_comes_again_after_a_reconnect(peer: Peer, bot: Bot) -> None:
    server = await visit(peer)
    await server.begin(100, {"guards": critical(), "positions": BOOK})
    await settled(bot, "11", "12")
    server.cut()
    again = await visit(peer)
    await again.begin(140, {"guards": critical(), "positions": BOOK})
    await again.update(140, 141, {"positions": {"open": {"11": {"current_price": 1.2}}}})
    await settled(bot, "11", "12")


async def test_another_breach_and_another_position_are_acted_on_too(peer: Peer, bot: Bot) -> None:
    server = await visit(peer)
    await server.begin(100, {"guards": critical(), "positions": positions(t11=position())})
    await settled(bot, "11")
    await server.update(100, 101, {"positions": {"total_positions": 2, "open": {"13": position()}}})
    await settled(bot, "11", "13")
    again = {"b9": {"kind": "drawdown", "raised_at": "2026-01-05T09:00:30.000000Z"}}
    over = {"b1": {"cleared_at": "2026-01-05T09:00:20.000000Z"}}
    await server.update(101, 102, {"guards": {"breaches": {**again, **over}}})
    await settled(bot, "11", "11", "13", "13")


async def test_a_breach_that_came_and_went_while_the_bot_was_away_closes_nothing(
    peer: Peer, bot: Bot
) -> None:
    server = await visit(peer)
    await server.begin(100, {"guards": guards(), "positions": BOOK})
    server.cut()
    again = await visit(peer)
    passed = guards(
        b1={"kind": "drawdown", "raised_at": "2026-01-05T09:00:00.000000Z", "cleared_at": DEADLINE}
    )
    await again.begin(140, {"guards": passed, "positions": BOOK})
    await settled(bot)


async def test_nothing_is_closed_before_the_state_is_fresh(peer: Peer, bot: Bot) -> None:
    server = await visit(peer)
    await server.begin(100, {"guards": guards(), "positions": BOOK})
    await server.heartbeat(100, 100, age_ms=3000, stale=True)
    await server.update(100, 101, {"guards": critical()}, age_ms=12_000)
    await settled(bot)
    # Nothing changes any more: it is only known again to be so.
    await server.heartbeat(101, 101, age_ms=100)
    await settled(bot, "11", "12")


async def test_a_bot_that_is_refused_ends_with_an_error(peer: Peer, bot: Bot) -> None:
    server = await visit(peer)
    await server.begin(100, {"guards": guards(), "positions": BOOK})
    await server.close(4403, "access has been revoked")
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
