"""The table of bad frames (`bad_frames.py`), sent to a real server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from tests.delivery.stream_server import StreamServer, stream_server
from tests.hostile.bad_frames import BAD, GOOD, LIMITED, MALFORMED, SAYS_MORE
from tests.hostile.wire import CONT, PING, PONG, TEXT, Wire, close, connection, frame, handshake
from tests.hostile.wire import answer as http_answer
from tests.snapshots import snapshot


@pytest.fixture
async def server() -> AsyncIterator[StreamServer]:
    async with stream_server() as server:
        yield server


async def test_each_bad_frame_ends_in_its_close_code(server: StreamServer) -> None:
    async def code_after(sent: bytes) -> int | None:
        async with opened(server) as wire:
            await wire.send(sent)
            return (await wire.goodbye()).code

    found = await asyncio.gather(*(code_after(sent) for sent, _ in BAD.values()))
    assert dict(zip(BAD, found, strict=True)) == {bad: code for bad, (_, code) in BAD.items()}


async def test_it_does_so_byte_by_byte_and_before_a_hello(server: StreamServer) -> None:
    async def is_as_expected(bad: str) -> bool:
        sent, code = BAD[bad]
        # Before its hello a client may send nothing else.
        expected = {code, MALFORMED} if code == LIMITED or bad in SAYS_MORE else {code}
        async with Wire.open(server.address) as wire:
            for byte in sent[:200]:
                await wire.send(bytes([byte]))
            await wire.send(sent[200:])
            return (await wire.goodbye()).code in expected

    found = await asyncio.gather(*map(is_as_expected, BAD))
    assert [bad for bad, as_expected in zip(BAD, found, strict=True) if not as_expected] == []


async def test_what_is_only_odd_is_understood(server: StreamServer) -> None:
    async def goes_on_after(sent: bytes) -> bool:
        async with opened(server) as wire:
            await wire.send(sent)
            await wire.send(frame(TEXT, b'{"type":"unsubscribe","channels":["guards"]}'))
            async for opcode, payload in wire.frames():
                if opcode == TEXT and json.loads(payload).get("patch") == {"guards": None}:
                    return True
        return False

    found = await asyncio.gather(*map(goes_on_after, GOOD.values()))
    assert [good for good, goes_on in zip(GOOD, found, strict=True) if not goes_on] == []


async def test_a_good_close_is_answered_with_itself(server: StreamServer) -> None:
    for code in (1000, 1001, 1002, 1003, 1007, 1011, 1012, 1014, 3000, 4999, None):
        async with opened(server) as wire:
            await wire.send(close(code, b"" if code is None else b"bye"))
            assert (await wire.goodbye()).code == (1005 if code is None else code)


async def test_what_comes_after_a_close_is_not_looked_at(server: StreamServer) -> None:
    async with opened(server) as wire:
        await wire.send(close(1000) + frame(TEXT, b"no json") + frame(PING) * 500)
        assert (await wire.goodbye()).code == 1000


async def test_of_many_pings_the_last_is_answered(server: StreamServer) -> None:
    async with opened(server) as wire:
        await wire.send(b"".join(frame(PING, bytes([number])) for number in range(20)))
        pongs = [payload async for payload in pongs_until(wire, bytes([19]))]
        assert len(pongs) < 20


async def pongs_until(wire: Wire, last: bytes) -> AsyncIterator[bytes]:
    async for opcode, payload in wire.frames():
        if opcode == PONG:
            yield payload
            if payload == last:
                return


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize(
    "flood",
    [
        frame(PING, b"x" * 125),
        frame(PING),
        frame(PONG),
        frame(CONT, fin=False),
    ],
    ids=["pings", "empty pings", "pongs", "fragments"],
)
async def test_who_floods_and_reads_late_still_learns_why_it_ended(
    server: StreamServer, flood: bytes, small: bool
) -> None:
    async with opened(server, small=small) as wire:
        await wire.send(frame(TEXT, fin=False) if flood == frame(CONT, fin=False) else b"")
        # More than any buffer holds, from a client that reads nothing meanwhile.
        await wire.send(flood * (2_000_000 // len(flood)))
        goodbye = await wire.goodbye()
    assert goodbye.code == LIMITED
    assert json.loads(goodbye.reason)["retry_after_ms"] > 0


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits; server_max_window_bits=8",
        "permessage-deflate; server_no_context_takeover, permessage-deflate",
        "permessage-deflate; " + "; ".join(f"x{number}" for number in range(500)),
        "x-webkit-deflate-frame, bbf-usp-protocol",
        "=;,=",
    ],
)
async def test_no_offer_of_compression_is_taken(server: StreamServer, offer: str) -> None:
    head = await http_answer(server.address, handshake(server.address, {"Sec-WebSocket-Extensions": offer}))
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"sec-websocket-extensions" not in head.lower()


@contextlib.asynccontextmanager
async def opened(server: StreamServer, *, small: bool = False) -> AsyncIterator[Wire]:
    """A user of its own, which has received its welcome and snapshot."""
    user = uuid4()
    async with Wire.open(server.address, server.headers(user), small=small) as wire:
        await server.watched(user)
        server.publish(snapshot(5, user_id=user))
        async for _, payload in wire.frames():
            if json.loads(payload)["type"] == "snapshot":
                break
        yield wire


@pytest.mark.parametrize(
    ("sent", "code"), [(frame(PING) * 40_000, LIMITED), (frame(TEXT, b"no json"), MALFORMED)]
)
async def test_what_comes_together_with_the_handshake_is_looked_at_after_it(
    server: StreamServer, sent: bytes, code: int
) -> None:
    async with connection(server.address) as (reader, writer):
        writer.write(handshake(server.address, server.headers()) + sent)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert (await Wire(reader, writer).goodbye()).code == code


async def test_a_flood_that_arrives_in_one_piece_holds_no_other_client_up(server: StreamServer) -> None:
    async with opened(server):
        (socket,) = server.sockets.all()
        flood = frame(PING) * 40_000
        began = time.process_time()
        socket.data_received(flood)
        taken_seconds = time.process_time() - began
    assert socket.has_ended()
    # Parsing all of it would take half a second; the first two kilobytes decide.
    assert taken_seconds < 0.1
