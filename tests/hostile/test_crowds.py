"""Crowds of silent connections: how many are accepted, the answers to further ones, and which ones are closed."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Scope

from realtime.delivery.http.application import Application
from realtime.delivery.limits import AnonymousLimit, address_of
from realtime.delivery.server.deadlines import HttpTiming
from realtime.delivery.server.server import Server
from realtime.metrics import METRICS
from tests.delivery.stream_server import StreamServer, stream_server
from tests.hostile.wire import TEXT, Wire, answer, connection, frame, handshake, request
from tests.snapshots import OTHER_USER, USER

PER_ADDRESS = 2
IN_ALL = 3


@pytest.fixture
async def server() -> AsyncIterator[StreamServer]:
    async with stream_server(anonymous=AnonymousLimit(most=IN_ALL, most_per_address=PER_ADDRESS)) as server:
        yield server


@contextlib.asynccontextmanager
async def anonymous_sockets(server: StreamServer, count: int) -> AsyncIterator[list[Wire]]:
    """A number of silent sockets."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Wire.open(server.address)) for _ in range(count)]


async def until_anonymous(count: int) -> None:
    """Wait until the server counts so many anonymous connections."""
    async with asyncio.timeout(10):
        while METRICS.anonymous_sockets.get() != count:
            await asyncio.sleep(0.005)


async def status(server: StreamServer, **headers: str) -> int:
    """The answer to one more handshake; a refusal must say when to come back."""
    head = await answer(server.address, handshake(server.address, headers))
    found = int(head.split()[1])
    if found != 101:
        assert b"\r\nretry-after: " in head.lower()
        assert b"\r\ncontent-security-policy: " in head.lower()
        assert b"\r\ncontent-type: application/problem+json" in head.lower()
    return found


async def test_one_address_may_hold_only_so_many_that_have_not_said_who_they_are(
    server: StreamServer,
) -> None:
    refused = METRICS.anonymous_refused.get("address")
    async with anonymous_sockets(server, PER_ADDRESS):
        assert await status(server) == 429
        # A client that says hello at once is accepted.
        assert await status(server, **server.headers()) == 101
    assert METRICS.anonymous_refused.get("address") == refused + 1
    await until_anonymous(0)


async def test_all_addresses_together_may_hold_only_so_many() -> None:
    limit = AnonymousLimit(most=PER_ADDRESS, most_per_address=PER_ADDRESS)
    async with stream_server(anonymous=limit) as server, anonymous_sockets(server, PER_ADDRESS):
        assert await status(server) == 503
        assert await status(server, **server.headers()) == 101


async def test_many_at_once_do_not_all_pass(server: StreamServer) -> None:
    async def comes() -> int | None:
        async with connection(server.address) as (reader, writer):
            writer.write(handshake(server.address))
            head = await reader.readuntil(b"\r\n\r\n")
            statuses.append(int(head.split()[1]))
            await all_answered.wait()
        return None

    statuses: list[int] = []
    all_answered = asyncio.Event()
    async with asyncio.TaskGroup() as group, asyncio.timeout(10):
        for _ in range(20):
            group.create_task(comes())
        while len(statuses) < 20:
            await asyncio.sleep(0.005)
        all_answered.set()
    assert sorted(statuses) == [101] * PER_ADDRESS + [429] * (20 - PER_ADDRESS)


async def test_a_place_is_free_again_once_its_holder_has_said_hello(server: StreamServer) -> None:
    async with anonymous_sockets(server, PER_ADDRESS) as (first, _):
        assert await status(server) == 429
        await first.send(frame(TEXT, json.dumps({"type": "hello", "token": server.token()}).encode()))
        await server.watched()
        await until_anonymous(PER_ADDRESS - 1)
        async with anonymous_sockets(server, 1):
            await until_anonymous(PER_ADDRESS)


async def test_a_place_is_free_again_once_its_holder_is_gone_or_sent_away(server: StreamServer) -> None:
    async with anonymous_sockets(server, PER_ADDRESS) as (gone, late):
        gone.writer.transport.abort()
        await until_anonymous(PER_ADDRESS - 1)
        assert (await late.goodbye()).code == 4008
        await until_anonymous(0)
        assert await status(server) == 101


async def test_a_hello_that_is_refused_holds_no_place_for_long(server: StreamServer) -> None:
    async with anonymous_sockets(server, 1) as (wire,):
        await wire.send(frame(TEXT, b'{"type":"hello","token":"nonsense"}'))
        assert (await wire.goodbye()).code == 4401
    await until_anonymous(0)


async def test_whoever_has_said_hello_does_not_count_when_he_goes(server: StreamServer) -> None:
    for user in (USER, OTHER_USER):
        async with Wire.open(server.address, server.headers(user)):
            await server.watched(user)
    assert METRICS.anonymous_sockets.get() == 0


async def test_an_address_that_a_client_makes_up_is_not_believed(server: StreamServer) -> None:
    async with anonymous_sockets(server, PER_ADDRESS):
        for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "CF-Connecting-IP", "True-Client-IP"):
            for value in ("10.1.2.3", "for=10.1.2.3", "127.0.0.1", "::1"):
                assert await status(server, **{header: value}) == 429


@pytest.mark.parametrize(
    ("client", "address"),
    [
        (("192.0.2.7", 5), "192.0.2.7"),
        (("::ffff:192.0.2.7", 5), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 5), "20010db800010002"),
        (("2001:db8:1:2:ffff::", 5), "20010db800010002"),
        (("2001:db8:1:3::", 5), "20010db800010003"),
        (None, ""),
        (("", 0), ""),
        (("/run/guardwire.sock", None), ""),
    ],
)
def test_what_tells_two_addresses_apart(client: object, address: str) -> None:
    scope: Scope = {"client": client}
    assert address_of(scope) == address


# Below WebSockets: connections without a request.


async def who(asked: Request) -> PlainTextResponse:
    assert asked.client is not None
    return PlainTextResponse(asked.client.host)


async def long(_: Request) -> PlainTextResponse:
    return PlainTextResponse("x" * 1_000_000)


async def waits(_: Request) -> PlainTextResponse:
    await asyncio.sleep(30)
    return PlainTextResponse("at last")


async def until_connected(serving: Server) -> list[Any]:
    """The connections of the server, as soon as one has a request that waits for its answer."""
    async with asyncio.timeout(10):
        while not any(getattr(each, "pipeline", ()) for each in serving.server_state.connections):
            await asyncio.sleep(0.005)
    return list(serving.server_state.connections)


async def nothing() -> None:
    """No client is drained."""


@contextlib.asynccontextmanager
async def server_of_who(
    *,
    trusted_proxies: tuple[str, ...] = (),
    max_waiting: int = 1000,
    timing: HttpTiming | None = None,
) -> AsyncIterator[Server]:
    """A server that answers with the client's address."""
    serving = Server(
        Application([Route("/who", who), Route("/long", long), Route("/waits", waits)]),
        host="127.0.0.1",
        port=0,
        drain=nothing,
        signals=False,
        trusted_proxies=trusted_proxies,
        max_waiting=max_waiting,
        timing=timing,
    )
    async with serving.running():
        yield serving


def address_at(serving: Server) -> str:
    return f"127.0.0.1:{serving.port}"


@contextlib.asynccontextmanager
async def plain_server(**options: Any) -> AsyncIterator[str]:
    """The URL of a server that answers with the client's address."""
    async with server_of_who(**options) as serving:
        yield address_at(serving)


async def whole(address: str, data: bytes) -> bytes:
    async with connection(address) as (reader, writer), asyncio.timeout(10):
        writer.write(data)
        return await reader.read()


@pytest.mark.parametrize(
    ("trusted", "seen"),
    [
        ((), "127.0.0.1"),
        (("10.0.0.0/8",), "127.0.0.1"),
        (("127.0.0.1",), "192.0.2.9"),
        (("127.0.0.0/8",), "192.0.2.9"),
    ],
)
async def test_what_a_proxy_says_of_its_client_is_believed_where_it_is_trusted(
    trusted: tuple[str, ...], seen: str
) -> None:
    # The client invented the first address; the proxy has added the second.
    headers = {"Host": "here", "X-Forwarded-For": "198.51.100.1, 192.0.2.9", "Connection": "close"}
    async with plain_server(trusted_proxies=trusted) as address:
        assert (await whole(address, request("GET /who HTTP/1.1", headers))).endswith(seen.encode())


ASKS = request("GET /who HTTP/1.1", {"Host": "here"})


async def test_of_connections_without_a_request_the_oldest_make_room() -> None:
    timing = HttpTiming(grace_seconds=0.0)
    async with plain_server(max_waiting=3, timing=timing) as address, contextlib.AsyncExitStack() as stack:
        readers = []
        for begun in (b"", b"GET /who HTTP/1.1\r\n", b"\r\n", b"", b"POST /who HTTP/1.1\r\nHost: h\r\n", b""):
            reader, writer = await stack.enter_async_context(connection(address))
            writer.write(begun)
            readers.append(reader)
            # A request on a second connection is served only after the first one was accepted and read.
            assert (await answer(address, ASKS)).startswith(b"HTTP/1.1 200")
        for cut in readers[:3]:
            async with asyncio.timeout(5):
                with contextlib.suppress(ConnectionError):
                    await cut.read()


async def test_of_idle_connections_the_oldest_make_room() -> None:
    timing = HttpTiming(grace_seconds=0.0)
    async with plain_server(max_waiting=3, timing=timing) as address, contextlib.AsyncExitStack() as stack:
        readers = []
        for _ in range(6):
            reader, writer = await stack.enter_async_context(connection(address))
            writer.write(ASKS)
            assert (await asyncio.wait_for(reader.readuntil(b"127.0.0.1"), 5)).startswith(b"HTTP/1.1 200")
            readers.append(reader)
        for cut in readers[:3]:
            assert await asyncio.wait_for(cut.read(), 5) == b""


async def test_a_pipeline_behind_a_slow_answer_is_not_read_to_its_end() -> None:
    """A client that sends without end while it waits for an answer blocks its own connection alone."""
    async with server_of_who() as serving, connection(address_at(serving)) as (_, writer):
        writer.write(request("GET /waits HTTP/1.1", {"Host": "here"}) + ASKS * 100)
        (protocol,) = await until_connected(serving)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 64_000_000:
                writer.write(ASKS * 20_000)
                async with asyncio.timeout(2):
                    await writer.drain()
                sent += len(ASKS) * 20_000
        assert sent < 64_000_000
        assert len(protocol.pipeline) < 1000


async def test_a_crowd_that_has_just_come_is_not_cut() -> None:
    async with plain_server(max_waiting=3) as address, contextlib.AsyncExitStack() as stack:
        crowd = [await stack.enter_async_context(connection(address)) for _ in range(50)]
        for reader, writer in crowd:
            writer.write(ASKS)
            assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).startswith(b"HTTP/1.1 200")


async def test_a_body_that_never_ends_is_cut() -> None:
    head = request("POST /who HTTP/1.1", {"Host": "here", "Content-Length": "1000000000000"})
    async with (
        plain_server(timing=HttpTiming(head_seconds=0.5)) as address,
        connection(address) as (reader, writer),
    ):
        writer.write(head)
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).startswith(b"HTTP/1.1 405")
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(b"x" * 10_000)
                    await writer.drain()
                    await asyncio.sleep(0.001)


async def test_who_asks_and_reads_nothing_is_cut() -> None:
    asks = request("GET /long HTTP/1.1", {"Host": "here"})
    async with (
        server_of_who(timing=HttpTiming(reader_seconds=0.5)) as serving,
        connection(address_at(serving), small=True) as (_, writer),
    ):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(asks * 20)
        async with asyncio.timeout(10):
            while not serving.server_state.connections:
                await asyncio.sleep(0.005)
            while serving.server_state.connections:
                await asyncio.sleep(0.005)
