"""Random frames: Hypothesis on the decoder, and noise on the wire."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from random import Random
from typing import Any, Final
from uuid import uuid4

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from guardwire.errors import CloseCode
from guardwire.messages import Auth, Hello, Resync, Subscribe, Unsubscribe, decode_client_frame, encode
from guardwire.state import CHANNELS
from tests.delivery.stream_server import StreamServer, stream_server
from tests.hostile.bad_frames import BAD, GOOD
from tests.hostile.wire import TEXT, Wire, frame
from tests.snapshots import snapshot

FRAMES: Final = (Hello, Subscribe, Unsubscribe, Auth, Resync)
SEED: Final = 20260105
#: The codes with which a server may end: its own, those of the library, the client's own code echoed, and None for a
#: cut.
CODES: Final = (
    {code.value for code in CloseCode} | {1000, 1001, 1002, 1005, 1007, 1009} | {*range(3000, 5000)}
)

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
_channels = st.lists(st.sampled_from([*CHANNELS, "secrets", "", 7]), max_size=5) | _json
_position = st.integers(-1, 2**53) | _json
#: Nearly a frame: fields of the protocol with right or arbitrary values.
_almost = st.fixed_dictionaries(
    {"type": st.sampled_from(["hello", "subscribe", "unsubscribe", "auth", "resync", "snapshot"]) | _json},
    optional={
        "token": st.text(max_size=40) | _json,
        "channels": _channels,
        "resume": st.fixed_dictionaries(
            {}, optional={"epoch": _position, "revision": _position, "channels": _channels}
        ),
        "user_id": st.text(),
    },
)


def is_decoded_or_refused(text: str) -> None:
    """Any text is either a complete frame within its bounds, or an error of the one kind that is handled."""
    try:
        found = decode_client_frame(text)
    except (msgspec.MsgspecError, RecursionError):
        return
    assert isinstance(found, FRAMES)
    if isinstance(found, Hello) and found.resume is not None:
        assert 0 <= found.resume.epoch < 2**53
        assert 0 <= found.resume.revision < 2**53
    # A decoded frame can be encoded and decoded again, with the same meaning.
    assert decode_client_frame(encode(found)) == found


@given(st.text(max_size=300))
@example("[" * 16_000)
@example('{"type":"hello","resume":{"epoch":1e400,"revision":0}}')
def test_any_text_is_a_frame_or_refused(text: str) -> None:
    is_decoded_or_refused(text)


@settings(max_examples=300)
@given(_almost)
def test_any_almost_frame_is_a_frame_or_refused(almost: dict[str, Any]) -> None:
    is_decoded_or_refused(msgspec.json.encode(almost).decode())


@pytest.fixture
async def server() -> AsyncIterator[StreamServer]:
    async with stream_server() as server:
        yield server


def noise(random: Random) -> bytes:
    """Good and bad frames, one of them with a few bytes changed, dropped or doubled."""
    pieces = [sent for sent, _ in BAD.values()] + list(GOOD.values())
    chosen = [random.choice(pieces)[:3000] for _ in range(random.randrange(1, 4))]
    data = bytearray(b"".join(chosen) if random.random() < 0.8 else random.randbytes(200))
    for _ in range(random.randrange(6)):
        where = random.randrange(len(data) or 1)
        match random.randrange(3):
            case 0:
                data[where : where + 1] = random.randbytes(1)
            case 1:
                del data[where : where + random.randrange(1, 5)]
            case _:
                data[where:where] = data[where : where + random.randrange(1, 50)]
    return bytes(data)


async def test_any_bytes_end_in_a_documented_code_or_are_waited_out(
    server: StreamServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def ends(data: bytes) -> int | None:
        async with Wire.open(server.address, server.headers(uuid4())) as wire:
            await wire.send(data)
            # The client ends the streams that are still open or waiting.
            wire.writer.write_eof()
            return (await wire.goodbye()).code

    random = Random(SEED)
    with caplog.at_level(logging.WARNING):
        for _ in range(10):
            found = await asyncio.gather(*(ends(noise(random)) for _ in range(40)))
            assert set(found) <= CODES | {None}
    lines = [record.getMessage() for record in caplog.records if record.name != "uvicorn.error"]
    # A busy machine may stop the whole process for a second.
    assert [line for line in lines if "the event loop stood still" not in line] == []
    # The other clients are served as before.
    async with server.connect(headers=server.headers()) as connection:
        await server.opened(snapshot(5), connection)
    async with Wire.open(server.address, server.headers()) as wire:
        await wire.send(frame(TEXT, b"no json"))
        assert (await wire.goodbye()).code == CloseCode.MALFORMED
