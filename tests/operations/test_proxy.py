"""Two nodes behind the proxy of `deploy/`: streams pass without delay, and a node may leave at any time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import asyncpg
import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from guardwire import Account
from guardwire import connect as follow_account
from realtime.embedded.folder import free_port
from tests.auth.issuer import USER, secret_token
from tests.feed.node import sync
from tests.operations.proxy import Proxy, proxy
from tests.operations.server_process import ServerProcess, server_process

#: Far less than the time until a buffer is full, or a heartbeat comes.
AT_ONCE_SECONDS = 2.0


@dataclass(frozen=True)
class Site:
    """Two nodes and the proxy in front of them."""

    front: Proxy
    nodes: tuple[ServerProcess, ServerProcess]

    @property
    def stream_url(self) -> str:
        return self.front.url.replace("http", "ws", 1) + "/ws"


@pytest.fixture
async def site(migrated_url: str, redis_url: str, empty_folder: Path) -> AsyncIterator[Site]:
    start = (migrated_url, redis_url, empty_folder, {"GUARDWIRE_TRUSTED_PROXIES": "127.0.0.1"})
    async with server_process(*start) as one, server_process(*start) as two:
        with proxy(empty_folder, *(node.url.removeprefix("http://") for node in (one, two))) as front:
            yield Site(front, (one, two))


def bearer() -> dict[str, str]:
    return {"Authorization": f"Bearer {secret_token()}"}


async def test_events_pass_as_they_come(site: Site, migrated_url: str) -> None:
    database = await asyncpg.connect(migrated_url)
    async with (
        httpx.AsyncClient(base_url=site.front.url, headers=bearer(), timeout=20) as client,
        client.stream("GET", "/api/v1/stream") as stream,
    ):
        lines = (line async for line in stream.aiter_lines() if line.startswith("data: "))
        assert json.loads((await anext(lines)).removeprefix("data: "))["type"] == "welcome"
        assert json.loads((await anext(lines)).removeprefix("data: "))["type"] == "snapshot"
        written = time.monotonic()
        await sync(database, USER, price=1999.5, is_applied=False)
        while "1999.5" not in await anext(lines):
            pass
        assert time.monotonic() - written < AT_ONCE_SECONDS
    await database.close()


async def test_a_browser_s_socket_passes_and_another_site_s_does_not(site: Site) -> None:
    hello = json.dumps({"type": "hello", "token": secret_token()})
    async with connect(site.stream_url, origin=site.front.url) as connection:  # type: ignore[arg-type]
        await connection.send(hello)
        assert json.loads(await connection.recv())["type"] == "welcome"
    with pytest.raises(Exception, match="403"):
        await connect(site.stream_url, origin="https://elsewhere.example")  # type: ignore[arg-type]


async def test_what_a_client_claims_of_itself_is_not_passed_on(site: Site) -> None:
    claims = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "10.9.8.7"}
    async with httpx.AsyncClient(base_url=site.front.url) as client:
        answer = await client.get("/livez", headers=claims)
        assert answer.status_code == 200
        assert "strict-transport-security" not in answer.headers
        for inside in ("/metrics", "/readyz"):
            assert (await client.get(inside)).status_code == 404
        # A header that comes straight from a trusted address counts.
        told = await client.get(f"{site.nodes[0].url}/livez", headers=claims)
        assert "strict-transport-security" in told.headers


async def test_the_proxy_logs_no_query_string(site: Site) -> None:
    async with httpx.AsyncClient(base_url=site.front.url) as client:
        assert (await client.get("/api/v1/positions/open?token=zqxsecretzqx")).status_code == 401
    async with asyncio.timeout(5):
        while "/api/v1/positions/open" not in site.front.log.read_text("utf-8"):
            await asyncio.sleep(0.05)
    assert "zqxsecretzqx" not in site.front.log.read_text("utf-8")


async def test_nobody_is_turned_away_while_a_node_leaves(site: Site) -> None:
    """Until the process has ended, each new client gets the other node, or an answer to come back."""
    going, _ = site.nodes
    going.process.send_signal(signal.SIGTERM)
    ended, welcomed = asyncio.create_task(going.process.wait()), 0
    async with httpx.AsyncClient(base_url=site.front.url) as client:
        while not ended.done() or welcomed < 10:
            welcomed += await is_welcome(site)
            assert (await client.get("/api/v1/guards/status", headers=bearer())).status_code == 200


CLIENTS = 50


@pytest.mark.timeout(180)
async def test_a_rolling_restart_locks_nobody_out(
    migrated_url: str, redis_url: str, empty_folder: Path
) -> None:
    """With WebSockets alone: no request ends well meanwhile, from which a proxy could learn that a node is back."""
    ports = [free_port(), free_port()]
    async with contextlib.AsyncExitStack() as stack:
        nodes = {}

        async def start(port: int) -> None:
            variables = {"GUARDWIRE_TRUSTED_PROXIES": "127.0.0.1", "GUARDWIRE_PORT": str(port)}
            serving = server_process(migrated_url, redis_url, empty_folder, variables)
            nodes[port] = await stack.enter_async_context(serving)

        for port in ports:
            await start(port)
        front = stack.enter_context(proxy(empty_folder, *(f"127.0.0.1:{port}" for port in ports)))
        accounts = [await stack.enter_async_context(follow(front, number)) for number in range(CLIENTS)]
        for port in ports:
            await nodes[port].ends(signal.SIGTERM, within_seconds=40)
            await start(port)
        async with asyncio.timeout(40):
            await asyncio.gather(*(account.until_fresh() for account in accounts))
            while sum([await sockets_of(node) for node in nodes.values()]) != CLIENTS:
                await asyncio.sleep(0.05)
        assert all(account.fresh for account in accounts)
        log = front.log.read_text("utf-8")
    assert " 101 " in log
    assert " 502 " not in log
    assert "no live upstreams" not in log


def follow(front: Proxy, number: int) -> contextlib.AbstractAsyncContextManager[Account]:
    """A bot that has a WebSocket alone; five bots are of one user."""
    token = secret_token(sub=str(UUID(int=number // 5 + 1)))
    return follow_account(front.url, token=token, transports=["websocket"])


async def sockets_of(node: ServerProcess) -> int:
    """The number of clients that a node counts."""
    async with httpx.AsyncClient(base_url=node.url) as client:
        (count,) = re.findall(r"^guardwire_sockets (\d+)", (await client.get("/metrics")).text, re.MULTILINE)
        return int(count)


async def is_welcome(site: Site) -> bool:
    """Connect; whether it received a welcome, or a goodbye when the drain had just begun."""
    async with connect(site.stream_url, additional_headers=bearer()) as connection:
        try:
            return bool(json.loads(await connection.recv())["type"] == "welcome")
        except ConnectionClosed:
            assert connection.close_code == 1012
            return False
