"""A pong is recognised without the library when it is complete, alone and correct, and never otherwise."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from realtime.delivery.websocket.connection import Socket, is_answer_to_a_ping
from tests.delivery.stream_server import StreamServer, stream_server
from tests.hostile.test_bad_frames import opened
from tests.hostile.wire import PING, PONG, TEXT, Wire, frame

PROTOCOL_ERROR, RATE_LIMITED = 1002, 4029
_LETTING_GO_SECONDS = 5.0


@pytest.fixture
async def server() -> AsyncIterator[StreamServer]:
    # No ping is due while a slow machine takes its time.
    async with stream_server(ping_seconds=60.0) as server:
        yield server


async def at_rest(server: StreamServer) -> Socket:
    """The socket of the only client, once it keeps nothing of the client's frames."""
    (socket,) = server.sockets.all()
    async with asyncio.timeout(_LETTING_GO_SECONDS):
        while socket._reader is not None:
            await asyncio.sleep(0.01)
    return socket


async def answers(wire: Wire) -> bool:
    """Whether the server still understands the client's frames."""
    await wire.send(frame(TEXT, b'{"type":"unsubscribe","channels":["guards"]}'))
    async with asyncio.timeout(_LETTING_GO_SECONDS):
        async for opcode, payload in wire.frames():
            if opcode == TEXT and json.loads(payload).get("patch") == {"guards": None}:
                return True
    return False


async def heard(socket: Socket, since: float) -> None:
    async with asyncio.timeout(_LETTING_GO_SECONDS):
        while socket.stream.heard_at == since:
            await asyncio.sleep(0.005)


def test_only_a_whole_masked_and_empty_pong_is_one() -> None:
    assert is_answer_to_a_ping(frame(PONG))
    others = [
        frame(PONG, mask=False), frame(PONG, fin=False), frame(PONG, b"1"), frame(PING), frame(TEXT), b"",
        *(frame(PONG, reserved=bits) for bits in range(1, 8)),
        *(frame(PONG)[:end] for end in range(6)), frame(PONG) * 2, frame(PONG, width=2),
    ]  # fmt: skip
    assert [other for other in others if is_answer_to_a_ping(other)] == []


async def test_an_answer_is_a_sign_of_life_and_needs_no_reader(server: StreamServer) -> None:
    async with opened(server) as wire:
        socket = await at_rest(server)
        before = socket.stream.heard_at
        await wire.send(frame(PONG))
        await heard(socket, before)
        assert socket._reader is None
        assert await answers(wire)


async def test_an_answer_in_pieces_is_understood(server: StreamServer) -> None:
    async with opened(server) as wire:
        socket = await at_rest(server)
        for byte in frame(PONG):
            before = socket.stream.heard_at
            await wire.send(bytes([byte]))
            await heard(socket, before)
        assert await answers(wire)


async def test_what_looks_like_an_answer_inside_of_a_text_is_that_texts(server: StreamServer) -> None:
    """At any pace of the fragments, also while the parser's buffer holds nothing of the text."""
    text = b'{"type":"unsubscribe","channels":["guards"]}'
    async with opened(server) as wire:
        socket = await at_rest(server)
        whole = frame(TEXT, text + b" " * 6)
        before = socket.stream.heard_at
        await wire.send(whole[:2])
        await heard(socket, before)
        # Each further turn of the loop would drop a reader that is wrongly taken to be between two frames.
        for _ in range(8):
            socket.stream.look_by(0.0)
            async with asyncio.timeout(_LETTING_GO_SECONDS):
                while not socket.stream.next_due:
                    await asyncio.sleep(0.01)
        assert socket._reader is not None
        mask = bytes(4)
        await wire.send(mask + text)
        pong = frame(PONG)
        before = socket.stream.heard_at
        await wire.send(pong)
        await heard(socket, before)
        # The six bytes of a pong end the message, and make it invalid.
        assert (await wire.goodbye()).code in (1007, 4400)


@pytest.mark.parametrize(
    "wrong",
    [frame(PONG, mask=False), frame(PONG, fin=False), frame(PONG, reserved=4), frame(PONG, b"x" * 126)],
    ids=["unmasked", "fragmented", "reserved bits", "too long"],
)
async def test_a_wrong_one_ends_the_connection_as_it_does_within_others(
    server: StreamServer, wrong: bytes
) -> None:
    async with opened(server) as wire:
        await at_rest(server)
        await wire.send(wrong)
        assert (await wire.goodbye()).code == PROTOCOL_ERROR


async def test_unsolicited_pongs_are_counted_one_by_one(server: StreamServer) -> None:
    async with opened(server) as wire:
        socket = await at_rest(server)
        # Each pong arrives alone, as on a slow line, so the parser sees none of them.
        for _ in range(150):
            socket.data_received(frame(PONG))
        assert (await wire.goodbye()).code == RATE_LIMITED


async def test_turns_do_not_allow_more_than_a_second_does(server: StreamServer) -> None:
    async with opened(server) as wire:
        socket = await at_rest(server)
        for _ in range(15):
            await wire.send(frame(TEXT, b'{"type":"resync"}'))
            socket.stream.look_by(0.0)
        assert (await wire.goodbye()).code == RATE_LIMITED
