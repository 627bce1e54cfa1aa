"""Answers that go out whole, and those that are made at once: as any other answer, over bare connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from realtime.delivery.http.application import Application
from realtime.delivery.security_headers import security_headers
from realtime.delivery.server.deadlines import HttpTiming
from realtime.delivery.server.server import Server
from tests.delivery.stream_server import StreamServer, stream_server
from tests.snapshots import USER, snapshot

SECONDS: Final = 0.4
# Linux alone counts how many segments with data a socket has received, in `struct tcp_info`.
_DATA_SEGMENTS_IN: Final = 152


class Answers:
    """An endpoint that answers with these messages, one after the other."""

    def __init__(self, *messages: dict[str, Any], pause: asyncio.Event | None = None) -> None:
        self._messages = messages
        self._pause = pause

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for message in self._messages:
            await send(dict(message))
            if self._pause is not None:
                await self._pause.wait()


def start(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(text: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": text, "more_body": more}


async def nothing() -> None:
    """Nobody is drained."""


@contextlib.asynccontextmanager
async def answering(endpoint: Answers) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a server of ``endpoint``, which has been asked."""
    app = Application([Route("/", endpoint, methods=["GET"])])
    server = Server(app, host="127.0.0.1", port=0, drain=nothing, signals=False)
    async with server.running(), asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        yield reader, writer
        writer.close()


LENGTH: Final = (b"content-length", b"2")


@pytest.mark.parametrize(
    "odd",
    [
        (b"x-odd", b"a\r\nx-evil: b"),
        (b"x-odd", b"a\nx-evil: b"),
        (b"x-odd", b"a\rx-evil: b"),
        (b"x-odd", b"a\x00"),
        (b"x-odd", b"a\x7f"),
        (b"x-odd: a\r\nx-evil", b"b"),
        (b"x odd", b"a"),
        (b"x-odd:", b"a"),
    ],
)
async def test_a_header_that_cannot_be_one_never_goes_out(odd: tuple[bytes, bytes]) -> None:
    async with answering(Answers(start(LENGTH, odd), body(b"ok"))) as (reader, _):
        assert await reader.read() == b""


async def test_an_odd_but_legal_header_goes_out_as_it_is() -> None:
    legal = [(b"x-odd", b"\xe9, a\tb"), (b"x!#$%&'*+-.^_`|~", b"")]
    async with answering(Answers(start(LENGTH, *legal), body(b"ok"))) as (reader, _):
        head = await reader.readuntil(b"\r\n\r\n")
        for name, value in legal:
            assert name + b": " + value + b"\r\n" in head


@pytest.mark.parametrize("text", [b"", b"o", b"oks"])
async def test_a_body_that_is_not_as_long_as_its_head_says_cuts_the_connection(text: bytes) -> None:
    async with answering(Answers(start(LENGTH), body(text))) as (reader, _):
        assert await reader.read() == b""


async def test_an_answer_that_says_its_length_may_come_in_pieces() -> None:
    async with answering(Answers(start(LENGTH), body(b"o", more=True), body(b"k"))) as (reader, _):
        assert b"content-length: 2\r\n" in await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(2) == b"ok"


async def test_a_large_answer_is_whole_too() -> None:
    text = b"a" * 300_000
    headers = (b"content-length", b"%d" % len(text))
    async with answering(Answers(start(headers), body(text))) as (reader, _):
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(len(text)) == text


async def test_the_head_of_a_stream_does_not_wait_for_its_body() -> None:
    pause = asyncio.Event()
    async with answering(Answers(start(), body(b"ok", more=True), body(b""), pause=pause)) as (reader, _):
        assert b"transfer-encoding: chunked" in await reader.readuntil(b"\r\n\r\n")
        pause.set()
        assert await reader.readuntil(b"0\r\n\r\n") == b"2\r\nok\r\n0\r\n\r\n"


# The state, over one connection.


@pytest.fixture(params=[(), ("127.0.0.1",)], ids=["met directly", "behind a proxy"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[StreamServer]:
    timing = HttpTiming(head_seconds=2 * SECONDS, idle_seconds=SECONDS, reader_seconds=SECONDS)
    async with stream_server(trusted_proxies=request.param, http_timing=timing) as server:
        server.hub.reading(USER)
        server.publish(snapshot(1, tickets=(1, 2, 3)))
        yield server


class Caller:
    """A connection that asks for the state, and for what comes after it."""

    def __init__(
        self, server: StreamServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.token = server.token()

    def ask(self, *headers: str, line: str = "GET /api/v1/state HTTP/1.1") -> bytes:
        """A request."""
        lines = [line, "Host: here", f"Authorization: Bearer {self.token}", *headers, "", ""]
        return "\r\n".join(lines).encode()

    async def answer(self, *, has_body: bool = True) -> tuple[int, dict[bytes, bytes], bytes]:
        """Status, headers and body of the next answer."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        headers: dict[bytes, bytes] = dict(line.split(b": ", 1) for line in lines)
        length = int(headers.get(b"content-length", b"0")) if has_body else 0
        return int(first.split()[1]), headers, await self.reader.readexactly(length)

    async def asked(self, *headers: str, **line: str) -> tuple[int, dict[bytes, bytes], bytes]:
        """Ask and be answered."""
        self.writer.write(self.ask(*headers, **line))
        return await self.answer()


@pytest.fixture
async def caller(server: StreamServer) -> AsyncIterator[Caller]:
    """A caller that was answered once already."""
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(*server.address.split(":"))
        caller = Caller(server, reader, writer)
        assert (await caller.asked())[0] == 200
        yield caller
        writer.close()


async def test_each_answer_has_the_security_headers_and_an_id_of_its_own(caller: Caller) -> None:
    _, first, state = await caller.asked()
    _, second, same = await caller.asked("Content-Length: 0")
    assert first[b"x-request-id"] != second[b"x-request-id"]
    assert dict(security_headers(b"here")).items() <= first.items()
    assert state.split(b'"state":')[1] == same.split(b'"state":')[1]


@pytest.mark.skipif(sys.platform != "linux", reason="segments are counted on Linux")
async def test_an_answer_goes_out_in_one_write(caller: Caller) -> None:
    raw: socket.socket = caller.writer.get_extra_info("socket")

    def segments() -> int:
        told = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160)
        return int(struct.unpack_from("I", told, _DATA_SEGMENTS_IN)[0])

    before = segments()
    await caller.asked()
    assert segments() - before == 1


async def test_what_a_proxy_says_is_believed_where_it_is_trusted(
    caller: Caller, request: pytest.FixtureRequest
) -> None:
    _, headers, _ = await caller.asked("X-Forwarded-Proto: https")
    assert (b"strict-transport-security" in headers) == ("behind a proxy" in request.node.callspec.id)


async def test_a_tag_that_is_held_gets_304_and_head_gets_no_body(caller: Caller) -> None:
    _, headers, _ = await caller.asked()
    status, told, text = await caller.asked(f"If-None-Match: {headers[b'etag'].decode()}")
    assert (status, told[b"etag"], text) == (304, headers[b"etag"], b"")
    caller.writer.write(caller.ask(line="HEAD /api/v1/state HTTP/1.1"))
    status, told, _ = await caller.answer(has_body=False)
    assert (status, int(told[b"content-length"]) > 0) == (200, True)
    assert (await caller.asked("X-Request-Id: mine"))[1][b"x-request-id"] == b"mine"


@pytest.mark.parametrize(
    ("line", "header"),
    [
        ("GET /api/v1/state HTTP/1.1", "Connection: close"),
        ("GET /api/v1/state HTTP/1.0", "X-Nothing: here"),
    ],
)
async def test_the_last_answer_says_so_and_the_connection_ends(
    caller: Caller, line: str, header: str
) -> None:
    status, headers, _ = await caller.asked(header, line=line)
    assert (status, headers[b"connection"]) == (200, b"close")
    assert await caller.reader.read() == b""


async def test_a_token_that_is_revoked_is_known_no_longer(server: StreamServer, caller: Caller) -> None:
    assert (await caller.asked())[0] == 200
    server.revoked.add((await server.verifier.verify(caller.token)).token_id)
    assert (await caller.asked())[0] == 403


async def test_who_says_that_a_body_comes_is_answered_before_it_has_come(caller: Caller) -> None:
    assert (await caller.asked("Content-Length: 5"))[0] == 200


async def test_answers_come_in_the_order_of_their_requests(caller: Caller) -> None:
    known = caller.ask()
    caller.writer.write(known + caller.ask("Content-Length: 0") + known + caller.ask("X-Request-Id: d"))
    answers = [await caller.answer() for _ in range(4)]
    assert [status for status, _, _ in answers] == [200] * 4
    assert answers[3][1][b"x-request-id"] == b"d"


async def test_a_poll_behind_an_answer_may_take_longer_than_silence_may(
    server: StreamServer, caller: Caller
) -> None:
    poll = "GET /api/v1/state?since=9:1&wait=1.5 HTTP/1.1"
    caller.writer.write(caller.ask() + caller.ask(line=poll))
    assert (await caller.answer())[0] == 200
    assert (await caller.answer())[0] == 304


async def test_who_asks_again_and_again_is_not_taken_for_silent(caller: Caller) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + 6 * SECONDS
    while loop.time() < until:
        assert (await caller.asked())[0] == 200


@pytest.mark.parametrize("begun", [b"", b"GET /api/v1/state HTTP/1.1\r\nHost: "])
async def test_a_client_that_falls_silent_after_an_answer_is_cut(caller: Caller, begun: bytes) -> None:
    await caller.asked()
    caller.writer.write(begun)
    async with asyncio.timeout(8 * SECONDS):
        with contextlib.suppress(ConnectionError):
            assert await caller.reader.read() == b""


async def test_who_asks_and_does_not_read_holds_little_and_is_cut(
    server: StreamServer, caller: Caller
) -> None:
    server.publish(snapshot(2, tickets=tuple(range(500))), snapshot(1))
    caller.writer.transport.pause_reading()  # type: ignore[attr-defined]
    (transport,) = server.transports()
    caller.writer.write(caller.ask() * 2_000)
    most_bytes = 0
    while server.transports():
        most_bytes = max(most_bytes, transport.get_write_buffer_size())
        await asyncio.sleep(0.005)
    assert 0 < most_bytes < 200_000
