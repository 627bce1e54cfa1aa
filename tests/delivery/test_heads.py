"""How long a connection may take to say what it wants; with a short deadline, so that the tests are short."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect

from realtime.delivery.http.application import Application
from realtime.delivery.server.deadlines import HttpTiming
from realtime.delivery.server.server import Server

HEAD_SECONDS = 0.5
ANSWER_SECONDS = 1.0
GET = b"GET /slow HTTP/1.1\r\nHost: here\r\n\r\n"
CHUNKED = b"POST /headers HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"


async def slow(_: Request) -> PlainTextResponse:
    await asyncio.sleep(ANSWER_SECONDS)
    return PlainTextResponse("at last")


async def greet_late(websocket: WebSocket) -> None:
    await websocket.accept()
    await asyncio.sleep(ANSWER_SECONDS)
    await websocket.send_text("at last")
    await websocket.close()


async def headers(request: Request) -> PlainTextResponse:
    await request.body()
    return PlainTextResponse(f"{request.headers.items()} end of headers")


async def nothing() -> None:
    """Nobody is drained."""


@pytest.fixture
async def port() -> AsyncIterator[int]:
    serving = Server(
        Application(
            [
                Route("/slow", slow),
                Route("/headers", headers, methods=["POST"]),
                WebSocketRoute("/late", greet_late),
            ]
        ),
        host="127.0.0.1",
        port=0,
        timing=HttpTiming(head_seconds=HEAD_SECONDS),
        drain=nothing,
        signals=False,
    )
    async with serving.running():
        yield serving.port


@pytest.mark.parametrize("begun", [b"", b"GET /slow HTTP/1.1\r\nHost: here\r\nX-Slow: "])
async def test_a_head_that_does_not_end_is_cut(port: int, begun: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(begun)
    await is_cut(reader)
    writer.close()


async def test_a_head_that_comes_byte_by_byte_is_cut(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    cut = asyncio.create_task(is_cut(reader))
    writer.write(b"GET /slow HTTP/1.1\r\nX-Slow: ")
    while not cut.done():
        writer.write(b"a")
        await asyncio.wait({cut}, timeout=HEAD_SECONDS / 5)
    await cut
    writer.close()


async def test_an_answer_may_take_longer_and_the_next_head_has_the_deadline_again(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /slow HTTP/1.1\r\nHost: here\r\n\r\n")
    async with asyncio.timeout(10):
        assert (await reader.readuntil(b"at last")).startswith(b"HTTP/1.1 200")
    writer.write(b"GET /slow HTTP/1.1\r\nHost: ")
    await is_cut(reader)
    writer.close()


async def test_a_websocket_has_had_its_head_and_lives_on(port: int) -> None:
    async with connect(f"ws://127.0.0.1:{port}/late", proxy=None) as connection:
        assert await connection.recv() == "at last"


async def test_empty_lines_after_an_answer_do_not_hold_a_connection(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET)
    async with asyncio.timeout(10):
        await reader.readuntil(b"at last")
    cut = asyncio.create_task(is_cut(reader))
    while not cut.done():
        writer.write(b"\r\n")
        await asyncio.wait({cut}, timeout=HEAD_SECONDS / 5)
    await cut
    writer.close()


@pytest.mark.parametrize("line", [b"X-Many: a\r\n", b"a"])
async def test_a_head_without_end_is_refused_before_it_costs_memory(port: int, line: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET.removesuffix(b"\r\n") + b"X-Long: ")
    with contextlib.suppress(ConnectionError):
        for _ in range(20):
            writer.write(line * (16_384 // len(line)))
            await writer.drain()
    async with asyncio.timeout(5):
        assert (await reader.readline()).startswith(b"HTTP/1.1 431")
    writer.close()


async def test_trailers_without_end_are_refused(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(CHUNKED + b"0\r\n" + b"X-Many: a\r\n" * 10_000)
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionError):
            assert b"HTTP/1.1 400" in await reader.read()
    writer.close()


async def test_what_stands_behind_a_body_is_no_header(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(CHUNKED + b"0\r\nX-Late: here\r\n\r\n")
    async with asyncio.timeout(5):
        assert b"x-late" not in await reader.readuntil(b"end of headers")
    writer.close()


async def test_a_protocol_that_is_not_spoken_is_passed_over_and_the_connection_goes_on(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
    for _ in range(2):
        writer.write(GET.removesuffix(b"\r\n") + upgrade)
        async with asyncio.timeout(5):
            assert (await reader.readuntil(b"at last")).startswith(b"HTTP/1.1 200")
    writer.close()


async def is_cut(reader: asyncio.StreamReader) -> None:
    """Return once the server has cut the connection without a word."""
    async with asyncio.timeout(3):  # less than uvicorn's own deadline for idle connections
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
