"""A node after SIGTERM: first unready, then it closes its clients, and it ends in time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.auth.issuer import secret_token
from tests.databases import Databases
from tests.feed.node import sync
from tests.inbox import wait_for_empty_inbox
from tests.operations.pgbouncer import pgbouncer, set_for_sessions
from tests.operations.server_process import ServerProcess, server_process

EXIT_SECONDS = 25.0
#: A second signal ends the process at once; loading and ending a process takes its time on a busy machine.
AT_ONCE_SECONDS = 2.0
USERS = [UUID(int=number) for number in range(0xA0, 0xB8)]
SOCKETS_EACH = 5
#: Longer than any test here, so only the drain can have ended a connection.
PATIENCE = {"GUARDWIRE_SEND_DEADLINE_SECONDS": "600", "GUARDWIRE_HEARTBEAT_SECONDS": "0.5"}


def bearer(user_id: UUID) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret_token(sub=str(user_id))}"}


@pytest.fixture
async def server(migrated_url: str, redis_url: str, empty_folder: Path) -> AsyncIterator[ServerProcess]:
    async with server_process(migrated_url, redis_url, empty_folder, PATIENCE) as running:
        yield running


@contextlib.asynccontextmanager
async def sockets(server: ServerProcess) -> AsyncIterator[list[ClientConnection]]:
    """Many WebSockets that have all received their snapshot."""
    async with contextlib.AsyncExitStack() as opened:
        found = []
        for user_id in USERS:
            for _ in range(SOCKETS_EACH):
                opening = connect(server.stream_url, additional_headers=bearer(user_id), compression=None)
                found.append(await opened.enter_async_context(opening))
        for each in found:
            while '"snapshot"' not in str(await each.recv()):
                pass
        yield found


async def closed(connection: ClientConnection) -> tuple[float, ConnectionClosed]:
    """The time and the reason of a close."""
    try:
        while True:
            await connection.recv()
    except ConnectionClosed as how:
        return time.monotonic(), how


def stuck(server: ServerProcess, path: str, *headers: str) -> socket.socket:
    """A client that asks and never reads, with a receive buffer that is soon full."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, _, port = server.url.removeprefix("http://").partition(":")
    client.connect((host, int(port)))
    token = bearer(USERS[0])["Authorization"]
    head = [f"GET {path} HTTP/1.1", f"Host: {host}:{port}", f"Authorization: {token}", *headers, "", ""]
    client.sendall("\r\n".join(head).encode())
    return client


UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)


async def last_event(server: ServerProcess, opened: asyncio.Event) -> list[str]:
    """The last lines of an event stream."""
    async with (
        httpx.AsyncClient(base_url=server.url, timeout=60) as client,
        client.stream("GET", "/api/v1/stream", headers=bearer(USERS[1])) as stream,
    ):
        said = []
        async for line in stream.aiter_lines():
            said += [line] if line else []
            if '"snapshot"' in line:
                opened.set()
        return said[-2:]


async def poll(server: ServerProcess) -> httpx.Response:
    """A long poll that would wait for most of a minute."""
    async with httpx.AsyncClient(base_url=server.url, timeout=60, headers=bearer(USERS[2])) as client:
        position = (await client.get("/api/v1/state")).headers["etag"].strip('"')
        return await client.get(f"/api/v1/state?since={position}&wait=55")


async def until_polling(server: ServerProcess) -> None:
    """Wait until the long poll waits."""
    async with httpx.AsyncClient(base_url=server.url) as client, asyncio.timeout(10):
        while "\nguardwire_long_polls 1\n" not in (await client.get("/metrics")).text:
            await asyncio.sleep(0.05)


async def test_everybody_is_seen_off_and_the_process_ends_in_time(
    server: ServerProcess, migrated_url: str
) -> None:
    with contextlib.ExitStack() as held:
        for path, headers in (("/ws", UPGRADE), ("/api/v1/stream", ())):
            held.enter_context(stuck(server, path, *headers))
        async with sockets(server) as connections:
            opened = asyncio.Event()
            events = asyncio.create_task(last_event(server, opened))
            polling = asyncio.create_task(poll(server))
            await opened.wait()
            await until_polling(server)
            # The data that the stuck clients do not read fills all buffers between them and the server.
            await fill(migrated_url)
            ends = [asyncio.create_task(closed(each)) for each in connections]
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            unready = await until_unready(server)
            with pytest.raises(InvalidStatus) as refused:
                await connect(server.stream_url, additional_headers=bearer(USERS[3]))
            assert refused.value.response.status_code == 503
            said = [await each for each in ends]
            hint, goodbye = await events
            answer = await polling
        await server.process.wait()
        took = time.monotonic() - began
    assert took <= EXIT_SECONDS
    assert_seen_off(said, unready)
    assert json.loads(goodbye.removeprefix("data: "))["code"] == "draining"
    assert int(hint.removeprefix("retry: ")) > 0
    assert answer.status_code in (200, 304)
    messages = [line["message"] for line in server.lines()]
    assert "1 sockets did not answer the goodbye, and are cut" in messages
    assert not [line for line in server.lines() if line["level"] == "CRITICAL"]


def assert_seen_off(said: list[tuple[float, ConnectionClosed]], unready: float) -> None:
    """All were closed in good order, a few at a time, and not before the node was unready."""
    goodbyes = [how.rcvd for _, how in said if how.rcvd is not None]
    assert len(goodbyes) == len(said)
    assert {goodbye.code for goodbye in goodbyes} == {1012}
    hints = [json.loads(goodbye.reason)["retry_after_ms"] for goodbye in goodbyes]
    assert len(set(hints)) > len(hints) / 2, "those who leave together must not return together"
    first, last = min(at for at, _ in said), max(at for at, _ in said)
    assert first > unready, "clients were sent away before balancers could know"
    assert last - first > 0.5, "all left at once"


async def fill(database_url: str) -> None:
    """Commit many large changes of the account that the stuck clients watch."""
    connection = await asyncpg.connect(database_url)
    for turn in range(40):
        for ticket in range(1, 30):
            await sync(connection, USERS[0], ticket=ticket, price=1900.0 + turn, is_applied=False)
    await connection.close()


async def until_unready(server: ServerProcess) -> float:
    async with httpx.AsyncClient(base_url=server.url) as client, asyncio.timeout(5):
        while True:
            answer = await client.get("/readyz")
            if answer.status_code == 503:
                assert answer.text == "draining\n"
                assert (await client.get("/livez")).status_code == 200
                return time.monotonic()


async def test_nobody_connected_is_nobody_to_wait_for(server: ServerProcess) -> None:
    assert await server.ends(signal.SIGTERM, within_seconds=EXIT_SECONDS) < 5


async def test_a_database_that_has_stopped_answering_does_not_keep_the_process(
    databases: Databases, migrated_url: str, redis_url: str, empty_folder: Path
) -> None:
    databases.run(set_for_sessions(migrated_url))
    with pgbouncer(migrated_url, empty_folder) as pooler:
        pooled = {"DATABASE_POOLED": "1", **PATIENCE}
        async with server_process(pooler.url, redis_url, empty_folder, pooled) as server, sockets(server):
            pooler.process.send_signal(signal.SIGSTOP)
            assert await server.ends(signal.SIGTERM, within_seconds=60) <= EXIT_SECONDS
        assert server.process.returncode == -signal.SIGTERM, "it did not end by itself"
        pooler.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once(server: ServerProcess, second: signal.Signals) -> None:
    async with sockets(server) as connections:
        server.process.send_signal(signal.SIGTERM)
        await until_unready(server)
        assert await server.ends(second, within_seconds=EXIT_SECONDS) < AT_ONCE_SECONDS
        assert server.process.returncode == -second
        assert connections


async def test_a_client_goes_on_at_another_node_with_what_it_missed(
    migrated_url: str, redis_url: str, empty_folder: Path
) -> None:
    """A rolling restart loses nothing: the other node finds the path from the last frame of the first one."""

    def take(state: dict[str, Any], text: object) -> dict[str, Any]:
        frame = json.loads(str(text))
        assert frame.get("base", state.get("revision")) == state.get("revision")
        return {**state, **frame}

    connection = await asyncpg.connect(migrated_url)
    start = (migrated_url, redis_url, empty_folder, PATIENCE)
    async with server_process(*start) as one, server_process(*start) as two:
        state: dict[str, Any] = {}
        async with (
            connect(one.stream_url, additional_headers=bearer(USERS[0])) as here,
            connect(two.stream_url, additional_headers=bearer(USERS[0])),
        ):
            while "revision" not in state:
                state = take(state, await here.recv())
            one.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(ConnectionClosed):
                while True:
                    state = take(state, await here.recv())
            assert here.close_code == 1012
            for step in range(5):
                await sync(connection, USERS[0], price=1900.0 + step, is_applied=False)
            await one.process.wait()
            since = f"?since={state['epoch']}:{state['revision']}"
            async with connect(two.stream_url + since, additional_headers=bearer(USERS[0])) as there:
                while "1904" not in json.dumps(state.get("patch", {})):
                    state = take(state, await there.recv())
            assert state["resumed"] is True
    await connection.close()


async def test_another_node_applies_as_soon_as_the_applier_has_ended(
    migrated_url: str, redis_url: str, empty_folder: Path
) -> None:
    """The node releases the lease, so no other node waits until it ends."""
    connection = await asyncpg.connect(migrated_url)

    async def holder() -> str | None:
        found: str | None = await connection.fetchval("SELECT holder FROM guardwire.applier")
        return found

    async def until_held_by(name: str) -> None:
        async with asyncio.timeout(10):
            while await holder() != name:
                await asyncio.sleep(0.02)

    start = (migrated_url, redis_url, empty_folder)
    async with server_process(*start, {**PATIENCE, "GUARDWIRE_NODE": "one"}) as one:
        await until_held_by("one")
        async with server_process(*start, {**PATIENCE, "GUARDWIRE_NODE": "two"}):
            await one.ends(signal.SIGTERM, within_seconds=EXIT_SECONDS)
            assert await holder() != "one"
            await until_held_by("two")
            await sync(connection, USERS[0], is_applied=False)
            await wait_for_empty_inbox(connection)
    await connection.close()
