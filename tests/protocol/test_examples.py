"""Every example of PROTOCOL.md, executed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from guardwire.messages import Resync, decode_client_frame, decode_server_frame
from guardwire.mirror import Mirror, Reaction
from guardwire.state import AccountState
from realtime.snapshot import Snapshot
from tests.client.states import status, whole
from tests.delivery.stream_server import StreamServer, stream_server
from tests.protocol.document import Block, all_blocks, blocks
from tests.snapshots import AS_OF, USER

PURPOSES = {"client-frame", "server-frame", "state", "session", "run", "client"}
ADDRESS = "127.0.0.1:8000"


def lines_of(block: Block) -> list[str]:
    return block.text.splitlines()


def without_loss(frame: Any, text: str) -> None:
    """The struct has every field of the example."""
    said = json.loads(text)
    kept = json.loads(msgspec.json.encode(frame))
    assert {key: value for key, value in said.items() if key in kept} == kept
    assert said.keys() - kept.keys() <= {
        field.encode_name for field in msgspec.structs.fields(frame) if not field.required
    }


def test_no_block_is_left_unexecuted() -> None:
    assert {block.purpose for block in all_blocks()} == PURPOSES


@pytest.mark.parametrize("line", [line for block in blocks("client-frame") for line in lines_of(block)])
def test_an_example_of_a_clients_frame_is_one_that_the_server_takes(line: str) -> None:
    without_loss(decode_client_frame(line), line)


@pytest.mark.parametrize("line", [line for block in blocks("server-frame") for line in lines_of(block)])
def test_an_example_of_a_servers_frame_is_one_that_a_client_reads(line: str) -> None:
    without_loss(decode_server_frame(line), line)


def test_the_example_of_a_state_has_only_what_states_have() -> None:
    for block in blocks("state"):
        said = json.loads(block.text)
        kept = json.loads(msgspec.json.encode(msgspec.convert(said, AccountState)))
        assert kept == said
        assert all(value is not None and not isinstance(value, list) for value in values(said))


def values(value: Any) -> list[Any]:
    return (
        [leaf for inner in value.values() for leaf in values(inner)] if isinstance(value, dict) else [value]
    )


@pytest.mark.parametrize("block", blocks("session"), ids=range(len(blocks("session"))))
def test_a_conversation_is_one_that_a_mirror_has(block: Block) -> None:
    mirror, asked = Mirror(), False
    for line in lines_of(block):
        direction, text = line.split(" ", 1)
        if direction == ">":
            frame = decode_client_frame(text)
            assert asked == isinstance(frame, Resync)
            asked = False
        else:
            assert direction == "<"
            assert not asked, "a resync is missing"
            asked = mirror.receive(decode_server_frame(text)) is Reaction.RESYNC
    assert not asked
    if mirror.state is not None:
        assert not mirror.is_waiting
        msgspec.convert(mirror.state, AccountState)


@pytest.mark.parametrize("block", [b for b in blocks("run") if b.language == "python"], ids=["merge"])
def test_a_python_example_runs(block: Block) -> None:
    exec(compile(block.text, "PROTOCOL.md", "exec"), {})


# Against the server's real streams.


@pytest.fixture
async def server() -> AsyncIterator[StreamServer]:
    async with stream_server() as server:
        server.hub.reading(USER)
        server.publish(snapshot(1, syncs=7))
        yield server


def snapshot(revision: int, *, syncs: int) -> Snapshot:
    state = whole(status=status(total_syncs=syncs)) | {"alerts": {"unacknowledged": 0, "open": {}}}
    return Snapshot(user_id=USER, epoch=9, revision=revision, as_of=AS_OF, state=state)


async def begin(server: StreamServer, *command: str) -> asyncio.subprocess.Process:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PATH": path, "TOKEN": server.token()},
    )


async def follows(server: StreamServer, process: asyncio.subprocess.Process) -> None:
    """The process prints the state, and the changed state after a change."""
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            assert json.loads(await process.stdout.readline()) == whole()
            server.publish(snapshot(4, syncs=8), snapshot(1, syncs=7))
            after: Any = None
            while after != whole(status=status(total_syncs=8)):
                after = json.loads(await process.stdout.readline())
    finally:
        process.terminate()
        await process.wait()


def program(block: Block, server: StreamServer) -> str:
    assert ADDRESS in block.text
    return block.text.replace(ADDRESS, server.address)


async def test_the_minimal_client_in_python_mirrors_the_state(server: StreamServer) -> None:
    (block,) = [block for block in blocks("client") if block.language == "python"]
    await follows(server, await begin(server, sys.executable, "-c", program(block, server)))


async def test_the_minimal_client_in_javascript_mirrors_the_state(server: StreamServer) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed")
    (block,) = [block for block in blocks("client") if block.language == "javascript"]
    process = await begin(
        server, node, "--experimental-websocket", "--no-warnings", "-e", program(block, server)
    )
    await follows(server, process)


@pytest.mark.parametrize(
    "block", [block for block in blocks("run") if block.language == "sh"], ids=["socket", "state", "stream"]
)
async def test_a_line_of_shell_shows_the_state(server: StreamServer, block: Block) -> None:
    process = await begin(server, "bash", "-c", program(block, server))
    output, _ = await asyncio.wait_for(process.communicate(), 20)
    (shown,) = [line for line in output.decode().splitlines() if '"type":"snapshot"' in line]
    frame = json.loads(shown[shown.index("{") : shown.rindex("}") + 1])
    assert frame["state"]["guards"] == whole()["guards"]
