"""Two nodes behind the proxy of `deploy/`: streams pass without delay, and a node may leave at any time."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.auth.issuer import USER, secret_token
from tests.feed.node import sync
from tests.operations.proxy import CONFIGURATIONS, Proxy, program, proxy
from tests.operations.rolling import FRESH_WITHIN_SECONDS, SPREAD_WITHIN_SECONDS, rolling_restart
from tests.operations.server_process import ServerProcess, server_process

#: Far less than the time until a buffer is full, or a heartbeat comes.
AT_ONCE_SECONDS = 2.0
VARIABLES = {"GUARDWIRE_TRUSTED_PROXIES": "127.0.0.1", "GUARDWIRE_HEARTBEAT_SECONDS": "1"}
#: Time limits of the configurations, and shorter ones in their place: heartbeats of 1 s stand for those of 5 s.
QUICK = {75: 4, 60: 3}


@dataclass(frozen=True)
class Site:
    """Two nodes and the proxy in front of them."""

    front: Proxy
    nodes: tuple[ServerProcess, ServerProcess]
    kind: str

    @property
    def stream_url(self) -> str:
        return self.front.url.replace("http", "ws", 1) + "/ws"


@pytest.fixture(params=list(CONFIGURATIONS))
async def site(
    request: pytest.FixtureRequest, migrated_url: str, redis_url: str, empty_folder: Path
) -> AsyncIterator[Site]:
    program(request.param)
    start = (migrated_url, redis_url, empty_folder, VARIABLES)
    async with server_process(*start) as one, server_process(*start) as two:
        nodes = [node.url.removeprefix("http://") for node in (one, two)]
        with proxy(empty_folder, *nodes, kind=request.param, seconds=QUICK) as front:
            yield Site(front, (one, two), request.param)


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


async def test_a_quiet_stream_is_not_cut_and_a_connection_is_kept(site: Site) -> None:
    """For longer than each time limit nothing but heartbeats passes, and nothing at all on a connection of requests."""
    async with (
        httpx.AsyncClient(base_url=site.front.url, headers=bearer(), timeout=20) as client,
        connect(site.stream_url, additional_headers=bearer()) as socket,
        client.stream("GET", "/api/v1/stream") as stream,
    ):
        assert (await client.post("/api/v1/tickets")).status_code == 200
        events = (line async for line in stream.aiter_lines() if line.startswith("data: "))
        began, heartbeats = time.monotonic(), 0
        while time.monotonic() < began + max(QUICK.values()) + 2 or heartbeats < 5:
            heartbeats += '"heartbeat"' in await anext(events)
            assert json.loads(await socket.recv())["type"] in ("welcome", "snapshot", "heartbeat")
        assert (await client.post("/api/v1/tickets")).status_code == 200


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
            status = (await client.get("/api/v1/guards/status", headers=bearer())).status_code
            assert status == 200 or (status == 503 and site.kind in PASSES_503_ON)


#: Proxies that look for nodes that leave, and may be late by a request.
PASSES_503_ON = ("caddy",)
#: `make faults` restarts nodes under 500.
CLIENTS = 100


@pytest.mark.timeout(400)
async def test_a_rolling_restart_locks_nobody_out_and_all_are_spread_again(
    migrated_url: str, redis_url: str, empty_folder: Path
) -> None:
    """WebSockets alone: no request ends well meanwhile, from which a proxy learns that a node is back."""
    program("nginx")
    rolled = await rolling_restart(migrated_url, redis_url, empty_folder, clients=CLIENTS)
    assert " 101 " in rolled.log
    assert rolled.refused == 0
    assert rolled.worst_seconds < FRESH_WITHIN_SECONDS * rolled.slowness
    assert rolled.spread_seconds < SPREAD_WITHIN_SECONDS * rolled.slowness
    assert rolled.doubted == 0 or not rolled.is_quiet


async def is_welcome(site: Site) -> bool:
    """Connect: whether it came to a welcome; else to a goodbye, in the moment in which the drain began."""
    try:
        async with connect(site.stream_url, additional_headers=bearer()) as connection:
            return bool(json.loads(await connection.recv())["type"] == "welcome")
    except ConnectionClosed as closed:
        told = closed.rcvd.code if closed.rcvd else 0
    except InvalidStatus as refused:
        told = refused.response.status_code
    assert told == 1012 or (told == 503 and site.kind in PASSES_503_ON)
    return False
