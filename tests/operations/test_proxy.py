"""Two nodes behind the proxy of `deploy/`: streams pass without delay, and a node may leave at any time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from realtime.embedded import EmbeddedServers
from tests.auth.issuer import USER, secret_token
from tests.data_folders import open_folder
from tests.databases import Databases
from tests.feed.node import sync
from tests.logical_redis import LogicalRedis
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
    database_url: str

    @property
    def stream_url(self) -> str:
        return self.front.url.replace("http", "ws", 1) + "/ws"


@pytest.fixture(scope="module")
def lasting(
    servers: EmbeddedServers, databases: Databases, migrated_template: str
) -> Iterator[tuple[str, ServerProcess, ServerProcess]]:
    """A database and two nodes that no test ends; the nodes keep their connections between tests."""
    database_url, redis = databases.make(like=migrated_template), LogicalRedis(servers.redis_url)
    redis.empty()
    with open_folder() as folder, asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()
        start = (database_url, redis.url, folder, VARIABLES)
        one, two = [runner.run(stack.enter_async_context(server_process(*start))) for _ in range(2)]
        yield database_url, one, two
        runner.run(stack.aclose())
    redis.release()
    databases.drop(database_url)


@pytest.fixture(params=list(CONFIGURATIONS))
def site(
    request: pytest.FixtureRequest, lasting: tuple[str, ServerProcess, ServerProcess], empty_folder: Path
) -> Iterator[Site]:
    database_url, one, two = lasting
    with front(request.param, one, two, empty_folder) as proxy_of_both:
        yield Site(proxy_of_both, (one, two), request.param, database_url)


@pytest.fixture(params=list(CONFIGURATIONS))
async def mortal_site(
    request: pytest.FixtureRequest, migrated_url: str, redis_url: str, empty_folder: Path
) -> AsyncIterator[Site]:
    """A site with nodes of its own."""
    start = (migrated_url, redis_url, empty_folder, VARIABLES)
    async with server_process(*start) as one, server_process(*start) as two:
        with front(request.param, one, two, empty_folder) as proxy_of_both:
            yield Site(proxy_of_both, (one, two), request.param, migrated_url)


@contextlib.contextmanager
def front(kind: str, one: ServerProcess, two: ServerProcess, folder: Path) -> Iterator[Proxy]:
    """The proxy ``kind`` in front of two nodes; skips the test where there is none."""
    program(kind)
    nodes = [node.url.removeprefix("http://") for node in (one, two)]
    with proxy(folder, *nodes, kind=kind, seconds=QUICK) as started:
        yield started


def bearer() -> dict[str, str]:
    return {"Authorization": f"Bearer {secret_token()}"}


async def test_events_pass_as_they_come(site: Site) -> None:
    database = await asyncpg.connect(site.database_url)
    async with (
        httpx.AsyncClient(base_url=site.front.url, headers=bearer(), timeout=20) as client,
        client.stream("GET", "/api/v1/stream") as stream,
    ):
        lines = (line async for line in stream.aiter_lines() if line.startswith("data: "))
        assert json.loads((await anext(lines)).removeprefix("data: "))["type"] == "welcome"
        assert json.loads((await anext(lines)).removeprefix("data: "))["type"] == "snapshot"
        # The proxies share the account, and an equal price would be no change.
        price = 1900 + list(CONFIGURATIONS).index(site.kind) + 0.5
        written = time.monotonic()
        await sync(database, USER, price=price, is_applied=False)
        while str(price) not in await anext(lines):
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


async def test_nobody_is_turned_away_while_a_node_leaves(mortal_site: Site) -> None:
    """Until the process has ended, each new client gets the other node, or an answer to come back."""
    going, _ = mortal_site.nodes
    going.process.send_signal(signal.SIGTERM)
    ended, welcomed = asyncio.create_task(going.process.wait()), 0
    async with httpx.AsyncClient(base_url=mortal_site.front.url) as client:
        while not ended.done() or welcomed < 10:
            welcomed += await is_welcome(mortal_site)
            status = (await client.get("/api/v1/guards/status", headers=bearer())).status_code
            assert status == 200 or (status == 503 and mortal_site.kind in PASSES_503_ON)


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
