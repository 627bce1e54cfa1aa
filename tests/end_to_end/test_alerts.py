"""Alerts over the stream of real nodes: acknowledged once, seen by all, and invisible to clients that do not ask."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from websockets.asyncio.client import ClientConnection, connect

from auth.development import DevelopmentKey
from auth.identity import ACK_SCOPE
from guardwire.messages import decode_server_frame
from guardwire.mirror import Mirror
from queries.alert_calls import read_alert_log
from tests.end_to_end.node import Node, node
from tests.queries.database_writer import DatabaseWriter

WAIT_SECONDS = 30.0


class Client:
    """A socket and its mirror; frames that are no part of the state are kept in ``answers``."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.mirror = Mirror()
        self.welcome: dict[str, Any] = {}
        self.answers: list[dict[str, Any]] = []

    async def say(self, **frame: Any) -> None:
        await self.socket.send(json.dumps(frame))

    async def until(self, is_reached: Any) -> Any:
        """Take frames until ``is_reached()`` gives something true; that."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not (found := is_reached()):
                text = await self.socket.recv()
                frame = json.loads(text)
                if frame["type"] == "welcome":
                    self.welcome = frame
                elif frame["type"] in ("ack_ok", "snooze_ok", "error"):
                    self.answers.append(frame)
                self.mirror.receive(decode_server_frame(text))
            return found

    async def answer(self) -> dict[str, Any]:
        """The next answer that is no part of the state."""
        await self.until(lambda: self.answers)
        return self.answers.pop(0)

    @property
    def state(self) -> dict[str, Any]:
        """The mirrored state; empty before the first."""
        return self.mirror.state or {}

    def open_alerts(self) -> Any:
        """The alerts of the state, None where there are none."""
        return self.state.get("alerts", {}).get("open")

    def attendants(self) -> Any:
        """The bots that attend, by name."""
        return self.state["alerts"]["attendance"]["attendants"]


@contextlib.asynccontextmanager
async def client(
    server: Node, writer: DatabaseWriter, *scopes: str, query: str = ""
) -> AsyncIterator[Client]:
    token = server.key.issue(writer.user_id, scopes=scopes)
    url = server.url.replace("http", "ws") + "/ws" + query
    async with connect(url, additional_headers={"Authorization": f"Bearer {token}"}, proxy=None) as socket:
        opened = Client(socket)
        await opened.until(lambda: opened.mirror.state)
        yield opened


@pytest.fixture
async def writer(migrated_url: str) -> AsyncIterator[DatabaseWriter]:
    """Writes as a platform does; the nodes apply it."""
    connection = await asyncpg.connect(migrated_url)
    yield DatabaseWriter(connection, applies=False)
    await connection.close()


async def raise_alert(writer: DatabaseWriter, seen_by: Client) -> str:
    await writer.equity(10_000)
    await writer.equity(8_000, 1)
    (alert_id,) = await seen_by.until(seen_by.open_alerts)
    return str(alert_id)


async def test_two_bots_that_acknowledge_at_once_on_two_nodes_get_one_name_and_two_answers(
    migrated_url: str, writer: DatabaseWriter
) -> None:
    key = DevelopmentKey(secrets.token_hex(32))
    async with (
        node(migrated_url, key=key) as first,
        node(migrated_url, key=key) as second,
        client(first, writer, ACK_SCOPE, query="?channels=guards,alerts") as one,
        client(second, writer, ACK_SCOPE, query="?channels=guards,alerts") as other,
    ):
        alert = await raise_alert(writer, one)
        await other.until(other.open_alerts)
        acks = [
            each.say(type="ack", alerts={alert: 1}, action="acting", **{"as": name})
            for each, name in ((one, "closer-1"), (other, "closer-2"))
        ]
        await asyncio.gather(*acks)
        answers = await asyncio.gather(one.answer(), other.answer())
        assert [answer["alerts"] for answer in answers] == [{alert: 1}] * 2
        for each, answer in zip((one, other), answers, strict=True):
            await each.until(lambda each=each: "acknowledged_by" in each.open_alerts()[alert])
            assert answer["revision"] <= each.mirror.revision
        names = {each.open_alerts()[alert]["acknowledged_by"] for each in (one, other)}
        assert len(names) == 1
        log = await read_alert_log(writer.connection, writer.user_id, UUID(alert))
        assert [each.who for each in log if each.entry == "acknowledged"] == list(names)


async def test_a_client_subscribes_to_what_is_offered_and_an_older_one_notices_nothing(
    migrated_url: str, writer: DatabaseWriter
) -> None:
    async with node(migrated_url) as server, client(server, writer) as old, client(server, writer) as new:
        assert new.welcome["channels"] == ["status", "positions", "guards"]
        assert "alerts" in new.welcome["offers"]["channels"]
        await new.say(type="subscribe", channels=["alerts"])
        alert = await raise_alert(writer, new)
        assert new.open_alerts()[alert]["kind"] == "drawdown"
        await old.until(lambda: old.state["guards"]["breaches"])
        assert set(old.state) == {"status", "positions", "guards"}


async def test_refusals_leave_the_stream_open(migrated_url: str, writer: DatabaseWriter) -> None:
    async with (
        node(migrated_url) as server,
        client(server, writer, ACK_SCOPE, query="?channels=alerts") as bot,
        client(server, writer, query="?channels=alerts") as dashboard,
    ):
        alert = await raise_alert(writer, bot)
        other = writer.of()
        async with client(server, other, ACK_SCOPE, query="?channels=alerts") as stranger:
            for said_by, generation, code in (
                (dashboard, 1, "not_allowed"),
                (bot, 2, "stale_generation"),
                (stranger, 1, "unknown_alert"),
            ):
                await said_by.say(type="ack", alerts={alert: generation}, **{"as": "x"})
                refused = await said_by.answer()
                assert (refused["code"], refused["alert"], refused["retry"]) == (code, alert, False)
            unknown = "00000000-0000-0000-0000-000000000001"
            foreign = await asked(stranger, alert)
            assert await asked(stranger, unknown) == foreign.replace(alert, unknown)
        for each in (bot, dashboard):
            await each.say(type="resync")
            await each.until(each.open_alerts)
            assert each.socket.close_code is None
        assert "acknowledged_by" not in bot.open_alerts()[alert]


async def asked(stranger: Client, alert: str) -> str:
    """The bytes of the answer to an acknowledgement of ``alert``."""
    await stranger.say(type="ack", alerts={alert: 1}, **{"as": "x"})
    return json.dumps(await stranger.answer())


async def test_beats_over_the_stream_attend_and_a_goodbye_ends_it(
    migrated_url: str, writer: DatabaseWriter
) -> None:
    async with (
        node(migrated_url) as server,
        client(server, writer, ACK_SCOPE, query="?channels=alerts") as bot,
    ):
        await writer.equity(10_000)
        await bot.say(type="attend", lease_seconds=15, **{"as": "closer-1"})
        await bot.until(lambda: bot.attendants().get("closer-1"))
        revision = bot.mirror.revision
        for _ in range(3):
            await bot.say(type="attend", lease_seconds=15, **{"as": "closer-1"})
            await asyncio.sleep(0.5)
        assert bot.mirror.revision == revision
        await bot.say(type="leave", reason="restart", **{"as": "closer-1"})
        await bot.until(lambda: not bot.attendants())


async def test_while_the_database_is_away_an_acknowledgement_is_refused_for_a_time_and_the_stream_stays(
    migrated_url: str, writer: DatabaseWriter
) -> None:
    async with (
        node(migrated_url) as server,
        client(server, writer, ACK_SCOPE, query="?channels=alerts") as bot,
    ):
        alert = await raise_alert(writer, bot)
        database = migrated_url.rpartition("/")[2].partition("?")[0]
        administrator = await asyncpg.connect(migrated_url.replace(f"/{database}", "/template1"))
        try:
            await administrator.execute(f'ALTER DATABASE "{database}" WITH ALLOW_CONNECTIONS false')
            await administrator.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database
            )
            await bot.say(type="ack", alerts={alert: 1}, **{"as": "closer-1"})
            refused = await bot.answer()
            assert (refused["code"], refused["retry"], refused["alert"]) == ("unavailable", True, alert)
            assert refused["retry_after_ms"] > 0
        finally:
            await administrator.execute(f'ALTER DATABASE "{database}" WITH ALLOW_CONNECTIONS true')
            await administrator.close()

        async def is_acknowledged() -> bool:
            await bot.say(type="ack", alerts={alert: 1}, **{"as": "closer-1"})
            return bool((await bot.answer())["type"] == "ack_ok")

        async with asyncio.timeout(WAIT_SECONDS):
            while not await is_acknowledged():
                await asyncio.sleep(1)
