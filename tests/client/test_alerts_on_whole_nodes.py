"""Bots that act on alerts on whole nodes: a real database, the example bot killed at each of its lines."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from websockets.asyncio.client import connect as connect_socket

from auth.identity import ACK_SCOPE
from guardwire import RequestRefused, connect
from guardwire.link import TransportName
from guardwire.messages import SUBPROTOCOL
from queries.alert_calls import LogEntry, list_alerts, put_escalation, read_alert_log
from realtime.audit.history import LogRow
from tests.client.waiting import eventually
from tests.end_to_end import tables
from tests.end_to_end.node import Node, node
from tests.end_to_end.ordinary import equity, row

ROOT = Path(__file__).parents[2]
BOT = ROOT / "examples" / "close_on_guard.py"
CLOSES = 'print("close", ticket, position.symbol, flush=True)'
TRANSPORTS: tuple[TransportName, ...] = ("websocket", "sse", "poll")


class Book:
    """One account: its rows, its alert, and what became of it."""

    def __init__(self, platform: Any) -> None:
        self.platform = platform
        self.user_id = uuid4()

    async def begin(self, *tickets: int) -> None:
        """Open positions, equity, and a policy that escalates within seconds."""
        policy = {"webhook_after_seconds": 2, "people_after_seconds": 3, "hold_seconds": 3}
        await put_escalation(self.platform, self.user_id, policy)
        rows = [row(self.user_id, ticket=ticket) for ticket in tickets]
        await tables.insert(self.platform, equity(self.user_id, 10_000), *rows)

    async def lose(self) -> None:
        """A drawdown of 30 %."""
        await tables.insert(self.platform, equity(self.user_id, 7_000))

    async def close(self, ticket: int) -> None:
        closed = row(self.user_id, ticket=ticket, event_type="close", close_reason="stop", pnl_gbp=-5)
        await tables.insert(self.platform, closed)

    async def alert(self) -> tuple[str, dict[str, Any]] | None:
        found = await list_alerts(self.platform, self.user_id)
        return next(iter(found.items()), None)

    async def log(self) -> list[LogEntry]:
        found = await self.alert()
        return [] if found is None else await read_alert_log(self.platform, self.user_id, UUID(found[0]))

    async def until(self, *entries: str, within_seconds: float = 25) -> list[LogEntry]:
        """Until the alert's log has these entries, in this order; the whole log."""
        async with asyncio.timeout(within_seconds):
            while True:
                log = await self.log()
                left = iter(each.entry for each in log)
                if all(entry in left for entry in entries):
                    return log
                await asyncio.sleep(0.05)


@pytest.fixture
async def platform(migrated_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(migrated_url)
    yield connection
    await connection.close()


@pytest.fixture
async def server(migrated_url: str, redis_url: str) -> AsyncIterator[Node]:
    async with node(migrated_url, redis_url) as server:
        yield server


@pytest.fixture
def book(platform: Any) -> Book:
    return Book(platform)


def token(server: Node, user_id: UUID) -> str:
    return server.key.issue(user_id, scopes=[ACK_SCOPE])


class Bot:
    """The example bot with a body of `close_position` of the test's own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> str:
        """The next line that it printed."""
        assert self.process.stdout is not None
        return (await asyncio.wait_for(self.process.stdout.readline(), 20)).decode().strip()

    def kill(self) -> None:
        self.process.kill()


@contextlib.asynccontextmanager
async def running(server: Node, book: Book, folder: Path, body: str = CLOSES) -> AsyncIterator[Bot]:
    """The bot, once it attends the account."""
    source = BOT.read_text()
    assert source.count(CLOSES) == 1
    program = folder / "bot.py"
    program.write_text(source.replace(CLOSES, body))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(program),
        server.url,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "TOKEN": token(server, book.user_id), "PYTHONPATH": str(ROOT)},
    )
    try:
        async with asyncio.timeout(20):
            query = "SELECT count(*) FROM guardwire.attendants WHERE user_id = $1 AND left_at IS NULL"
            while not await book.platform.fetchval(query, book.user_id):
                await asyncio.sleep(0.05)
        yield Bot(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_a_bot_that_closes_everything_ends_the_alert_before_it_escalates(
    server: Node, book: Book, tmp_path: Path
) -> None:
    await book.begin(1, 2)
    async with running(server, book, tmp_path) as bot:
        await book.lose()
        assert sorted([await bot.line(), await bot.line()]) == ["close 1 XAUUSD", "close 2 XAUUSD"]
        await book.close(1)
        await book.close(2)
        log = await book.until("raised", "acknowledged", "resolved")
        assert "escalated" not in [each.entry for each in log]
        assert {each.who for each in log if each.entry == "acknowledged"} == {"closer-1"}
        # Resolved and acknowledged: it has left the state.
        assert await list_alerts(book.platform, book.user_id, is_open=True) == {}


async def test_a_market_alert_closes_the_positions_of_its_symbol(
    server: Node, book: Book, tmp_path: Path
) -> None:
    await book.begin(1)
    await tables.insert(book.platform, row(book.user_id, ticket=2, symbol="EURUSD"))
    async with running(server, book, tmp_path) as bot:
        await tables.insert(book.platform, gap(book.user_id))
        assert await bot.line() == "close 1 XAUUSD"
        await book.until("raised", "acknowledged")


def gap(user_id: UUID) -> LogRow:
    """A report of a critical price gap of gold."""
    return row(
        user_id, ticket=None, event_type="guard_trigger", divergence_reason="price gap", current_price=2500
    )


@pytest.mark.fault
@pytest.mark.parametrize("place", ["after the raise", "after acting", "amid closing", "after done"])
async def test_wherever_the_bot_is_killed_the_alert_escalates(
    server: Node, book: Book, tmp_path: Path, place: str
) -> None:
    await book.begin(1, 2)
    hangs_after = {"after acting": 0, "amid closing": 1}.get(place, 9)
    body = (
        'print("close", ticket, flush=True); CLOSED.append(ticket)\n'
        f"    if len(CLOSED) > {hangs_after}: await asyncio.sleep(3600)\n"
        "CLOSED = []"
    )
    async with running(server, book, tmp_path, body) as bot:
        if place == "after the raise":
            os.kill(bot.process.pid, signal.SIGSTOP)
            await book.lose()
            await book.until("raised")
        else:
            await book.lose()
            first = (await bot.line()).split()[1]
            if place == "amid closing":
                await book.close(int(first))
            if place != "after acting":
                await bot.line()
            await book.until("raised", "acknowledged")
        if place == "after done":
            await until_done(book)
        bot.kill()
        log = await book.until("raised", "escalated")
    entries = [each.entry for each in log]
    assert entries.index("escalated") > entries.index("raised")
    assert ("acknowledged" in entries) == (place != "after the raise")
    found = await book.alert()
    assert found is not None
    assert found[1]["level"] >= 1
    assert "acknowledged_by" not in found[1]
    assert "resolved_at" not in found[1]


async def until_done(book: Book) -> None:
    async with asyncio.timeout(10):
        while (found := await book.alert()) is None or found[1].get("action") != "done":
            await asyncio.sleep(0.02)


async def test_a_bot_that_is_restarted_goes_on_where_it_died(
    server: Node, book: Book, tmp_path: Path
) -> None:
    await book.begin(1)
    async with running(server, book, tmp_path, "print(ticket, flush=True); await asyncio.sleep(3600)") as bot:
        await book.lose()
        assert await bot.line() == "1"
        await book.until("acknowledged")
        bot.kill()
    async with running(server, book, tmp_path) as again:
        assert await again.line() == "close 1 XAUUSD"
        await book.close(1)
        await book.until("raised", "resolved")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_alerts_are_acknowledged_and_snoozed_over_every_transport(
    server: Node, book: Book, transport: TransportName
) -> None:
    await book.begin(1)
    async with connect(
        server.url,
        token=lambda: token(server, book.user_id),
        channels=["guards", "alerts"],
        transports=[transport],
    ) as account:
        assert account.state.alerts is not None
        await book.lose()
        found = await asyncio.wait_for(anext(account.alerts()), 10)
        assert (found.kind, found.severity, found.generation) == ("drawdown", "critical", 1)
        await asyncio.wait_for(account.snooze(found, seconds=600, reason="by hand"), 10)
        await asyncio.wait_for(account.acknowledge(found, "received"), 10)
        async with found.acting():
            await book.until("raised", "snoozed", "acknowledged")
        await until_done(book)

        def shown() -> str | None:
            alerts = account.state.alerts
            return None if alerts is None else alerts.open[found.id].action

        await eventually(lambda: shown() == "done")


@pytest.mark.parametrize("transport", ["websocket", "sse"])
async def test_a_token_without_the_scope_acknowledges_nothing(
    server: Node, book: Book, transport: TransportName
) -> None:
    await book.begin(1)
    await book.lose()
    async with connect(
        server.url, token=lambda: server.token(book.user_id), transports=[transport]
    ) as account:
        found = await asyncio.wait_for(anext(account.alerts()), 10)
        with pytest.raises(RequestRefused) as refused:
            await asyncio.wait_for(account.acknowledge(found), 10)
        assert refused.value.reason == "not_allowed"


@pytest.mark.parametrize("hello", [{}, {"channels": ["status", "positions", "guards"]}])
async def test_a_client_of_the_first_release_notices_nothing(
    server: Node, book: Book, hello: dict[str, Any]
) -> None:
    await book.begin(1)
    address = server.url.replace("http", "ws") + "/ws"
    async with connect_socket(address, subprotocols=[SUBPROTOCOL], proxy=None) as socket:  # type: ignore[list-item]
        await socket.send(json.dumps({"type": "hello", "token": server.token(book.user_id), **hello}))
        welcome, snapshot = [json.loads(await asyncio.wait_for(socket.recv(), 10)) for _ in range(2)]
        assert welcome["channels"] == ["status", "positions", "guards"]
        assert set(snapshot["state"]) == {"status", "positions", "guards"}
        await book.lose()
        async with asyncio.timeout(10):
            while True:
                frame = json.loads(await socket.recv())
                assert "alerts" not in frame.get("patch", {})
                if frame.get("patch", {}).get("guards", {}).get("breaches"):
                    break


@pytest.mark.parametrize("transport", ["websocket", "sse"])
async def test_the_javascript_client_acts_on_alerts_too(server: Node, book: Book, transport: str) -> None:
    program = shutil.which("node")
    if program is None:
        pytest.skip("no Node.js here")
    await book.begin(1)
    process = await asyncio.create_subprocess_exec(
        program,
        "--experimental-websocket",
        str(ROOT / "tests" / "javascript" / "act.js"),
        f"{server.url}/",
        token(server, book.user_id),
        transport,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        await book.lose()
        await until_done(book)
        found = await book.alert()
        assert found is not None
        assert found[1]["acknowledged_by"] == "closer-js"
        assert process.stdout is not None
        async with asyncio.timeout(10):
            while (json.loads(await process.stdout.readline()) or {}).get("action") != "done":
                pass
    finally:
        process.kill()
        await process.wait()
