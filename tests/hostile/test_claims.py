"""One user who constantly claims to hold more than the node has seen, which may cause a read each time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from tests.delivery.stream_server import StreamServer
from tests.snapshots import USER, snapshot

AHEAD = "9:4503599627370496"
Claim = Callable[[StreamServer, httpx.AsyncClient], Awaitable[int]]


async def poll(server: StreamServer, client: httpx.AsyncClient) -> int:
    """The status of a poll from a revision ahead of the node."""
    url = f"http://{server.address}/api/v1/state?since={AHEAD}"
    return (await client.get(url, headers=server.headers())).status_code


async def stream_by_query(server: StreamServer, client: httpx.AsyncClient) -> int:
    """The status of an event stream from ahead, which the client leaves at once."""
    url = f"http://{server.address}/api/v1/stream?since={AHEAD}"
    async with client.stream("GET", url, headers=server.headers()) as answer:
        return answer.status_code


async def stream_by_last_event_id(server: StreamServer, client: httpx.AsyncClient) -> int:
    """The same with a header."""
    headers = {**server.headers(), "Last-Event-ID": AHEAD}
    async with client.stream("GET", f"http://{server.address}/api/v1/stream", headers=headers) as answer:
        return answer.status_code


async def websocket(server: StreamServer, client: httpx.AsyncClient) -> int:
    """The close code of a WebSocket from ahead; 200 once it has a frame."""
    try:
        async with server.connect(f"?since={AHEAD}", headers=server.headers()) as connection:
            await connection.recv()
            return 200
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd is not None else 1006


CLAIMS: dict[str, Claim] = {
    "long poll": poll,
    "event stream, since": stream_by_query,
    "event stream, Last-Event-ID": stream_by_last_event_id,
    "websocket": websocket,
}


@contextlib.asynccontextmanager
async def read_server(server: StreamServer) -> AsyncIterator[list[float]]:
    """The running server, with the times at which it reads the user's account."""
    asked_at: list[float] = []

    async def read() -> None:
        while True:
            await server.marks.get()
            asked_at.append(time.monotonic())
            server.publish(snapshot(5))

    async with server._server.running():
        server.hub.reading(USER)
        reading = asyncio.create_task(read())
        try:
            yield asked_at
        finally:
            reading.cancel()


@pytest.mark.parametrize("name", CLAIMS)
async def test_claims_of_one_user_cost_one_read_a_second(name: str) -> None:
    server, claim = StreamServer(claims_burst=1000), CLAIMS[name]
    async with read_server(server) as asked_at, httpx.AsyncClient(timeout=30) as client:

        async def claim_again() -> None:
            answered = 0
            while answered < 3:
                # The server may not have noticed yet that the previous stream was left, and then counts one too many.
                answered += await claim(server, client) == 200

        await asyncio.gather(*(claim_again() for _ in range(3)))
    # The first read is the account's own; each further one comes at least a second after the previous one.
    between = [later - earlier for earlier, later in itertools.pairwise(asked_at[1:])]
    assert len(asked_at) >= 3
    assert min(between) > 0.9


@pytest.mark.parametrize("name", CLAIMS)
async def test_claims_without_end_are_refused(name: str) -> None:
    server, claim = StreamServer(claims_burst=2), CLAIMS[name]
    async with read_server(server), httpx.AsyncClient(timeout=30) as client:
        codes = await asyncio.gather(*(claim(server, client) for _ in range(3)))
        assert sorted(codes) in ([200, 200, 429], [200, 200, 4029])


async def test_what_is_refused_says_when_to_come_back() -> None:
    server = StreamServer(claims_burst=1)
    async with read_server(server), httpx.AsyncClient(timeout=30) as client:
        await poll(server, client)
        url = f"http://{server.address}/api/v1/state?since={AHEAD}"
        refused = await client.get(url, headers=server.headers())
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) >= 1
        assert refused.json()["detail"].startswith("Too many requests from revisions")
        # A state without a claim is answered from memory, also for a user whose claims were refused.
        assert (
            await client.get(f"http://{server.address}/api/v1/state", headers=server.headers())
        ).is_success


async def test_a_resync_reads_nothing() -> None:
    server = StreamServer()
    async with read_server(server) as asked_at, server.connect(headers=server.headers()) as connection:
        for _ in range(2):
            await connection.recv()
        reads = len(asked_at)
        for _ in range(5):
            await connection.send('{"type":"resync"}')
            await connection.recv()
        assert len(asked_at) == reads
