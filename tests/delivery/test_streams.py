"""WebSockets as clients see them: real sockets, a real server, the whole conversation."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import struct
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Close
from websockets.typing import Subprotocol

from guardwire.messages import SUBPROTOCOL
from guardwire.state import DEFAULT_CHANNELS
from tests.delivery.stream_server import StreamServer, stream_server
from tests.snapshots import OTHER_USER, USER, snapshot


@pytest.fixture
async def server() -> AsyncIterator[StreamServer]:
    async with stream_server() as server:
        yield server


async def frame(connection: ClientConnection) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await connection.recv())
    return found


async def frame_of_type(connection: ClientConnection, wanted: str) -> dict[str, Any]:
    while (found := await frame(connection))["type"] != wanted:
        pass
    return found


async def read_on(connection: ClientConnection) -> None:
    while True:
        await connection.recv()


async def closing(connection: ClientConnection) -> Close:
    """Read until the server closes; gives its close frame."""
    with pytest.raises(ConnectionClosed) as closed:
        await read_on(connection)
    assert closed.value.rcvd is not None
    return closed.value.rcvd


async def close_code(connection: ClientConnection) -> int:
    return (await closing(connection)).code


async def say(connection: ClientConnection, **fields: Any) -> None:
    await connection.send(json.dumps(fields))


async def test_a_program_with_a_header_gets_welcome_and_snapshot_without_saying_anything(
    server: StreamServer,
) -> None:
    async with server.connect(headers=server.headers()) as connection:
        await server.watched()
        server.publish(snapshot(5, syncs=3))
        welcome = await frame(connection)
        assert welcome["type"] == "welcome"
        assert welcome["channels"] == ["status", "positions", "guards"]
        assert welcome["resumed"] is False
        first = await frame(connection)
        assert (first["type"], first["revision"], first["epoch"]) == ("snapshot", 5, welcome["epoch"])
        assert first["state"] == snapshot(5, syncs=3).select(DEFAULT_CHANNELS)


async def test_a_browser_says_hello_with_its_token_and_channels(server: StreamServer) -> None:
    async with server.connect() as connection:
        await say(connection, type="hello", token=server.token(), channels=["guards"])
        await server.watched()
        server.publish(snapshot(5))
        assert (await frame(connection))["channels"] == ["guards"]
        assert set((await frame(connection))["state"]) == {"guards"}


async def test_a_hello_after_a_header_only_chooses_channels(server: StreamServer) -> None:
    async with server.connect(headers=server.headers()) as connection:
        await say(connection, type="hello", channels=["status"])
        await server.watched()
        server.publish(snapshot(5))
        held: dict[str, Any] = {}
        while set(held) != {"status"}:
            found = await frame(connection)
            held = found.get("state", held)
            for channel, part in found.get("patch", {}).items():
                held = {**held, channel: part} if part is not None else held
                if part is None:
                    held.pop(channel)


async def test_channels_can_be_chosen_in_the_address(server: StreamServer) -> None:
    async with server.connect("?channels=guards,status", headers=server.headers()) as connection:
        await server.watched()
        server.publish(snapshot(5))
        assert (await frame(connection))["channels"] == ["status", "guards"]


@pytest.mark.parametrize("query", ["?channels=guard", "?channels=", "?since=latest", "?since=1"])
async def test_a_query_that_means_nothing_is_refused_before_the_upgrade(
    server: StreamServer, query: str
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await server.connect(query, headers=server.headers())
    assert refused.value.response.status_code == 422
    assert json.loads(refused.value.response.body or b"")["detail"]


async def test_a_bad_token_is_a_real_401_before_the_upgrade(server: StreamServer) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await server.connect(headers={"Authorization": "Bearer nonsense"})
    assert refused.value.response.status_code == 401
    assert "www-authenticate" in refused.value.response.headers


async def test_a_token_in_the_address_is_refused(server: StreamServer) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await server.connect(f"?token={server.token()}")
    assert refused.value.response.status_code == 401


async def test_the_subprotocol_is_agreed_on_when_offered_and_optional_otherwise(server: StreamServer) -> None:
    async with server.connect(headers=server.headers()) as plain:
        assert plain.subprotocol is None
    async with connect(
        f"ws://{server.address}/ws",
        subprotocols=[Subprotocol("other"), Subprotocol(SUBPROTOCOL)],
        additional_headers=server.headers(),
    ) as agreed:
        assert agreed.subprotocol == SUBPROTOCOL


async def test_a_change_reaches_its_user_and_no_other_user(server: StreamServer) -> None:
    mine, other = snapshot(5), snapshot(5, user_id=OTHER_USER)
    async with (
        server.connect(headers=server.headers()) as connection,
        server.connect(headers=server.headers(OTHER_USER)) as others,
    ):
        await server.opened(mine, connection)
        await server.opened(other, others)
        server.publish(snapshot(6, syncs=2), mine)
        update = await frame(connection)
        assert (update["base"], update["revision"], update["patch"]) == (5, 6, {"status": {"total_syncs": 2}})
        assert (await frame(others))["type"] == "heartbeat"


async def test_quiet_streams_are_kept_alive_by_heartbeats(server: StreamServer) -> None:
    async with server.connect(headers=server.headers()) as connection:
        await server.opened(snapshot(5), connection)
        heartbeat = await frame(connection)
        assert (heartbeat["type"], heartbeat["base"], heartbeat["revision"]) == ("heartbeat", 5, 5)


async def test_heartbeats_say_stale_when_sweeps_stop_and_fresh_when_they_go_on(
    server: StreamServer,
) -> None:
    async with server.connect(headers=server.headers()) as connection:
        await server.opened(snapshot(5), connection)
        while not (await frame_of_type(connection, "heartbeat"))["stale"]:
            pass
        server.publish(snapshot(5))
        while (await frame_of_type(connection, "heartbeat"))["stale"]:
            pass


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ('{"type":"shout"}', 4400),
        ('{"type":"hello","chanels":["guards"]}', 4400),
        ('{"type":"hello","channels":["guard"]}', 4400),
        ("not json", 4400),
        ("[]", 4400),
        ("[" * 10_000, 4400),
        (b"\x00", 4400),
        ('{"type":"resync"}', 4400),
        ('{"type":"hello"}', 4401),
        ('{"type":"hello","token":"nonsense"}', 4401),
        ("x" * 20_000, 1009),
    ],
)
async def test_a_first_frame_that_is_wrong_ends_in_its_close_code(
    server: StreamServer, message: str | bytes, code: int
) -> None:
    async with server.connect() as connection:
        await connection.send(message)
        assert await close_code(connection) == code


async def test_a_first_frame_with_a_token_that_has_ended_asks_for_a_new_one(server: StreamServer) -> None:
    ended = server.key.issue(USER, ttl_seconds=60, now=time.time() - 61)
    async with server.connect() as connection:
        await say(connection, type="hello", token=ended)
        assert await close_code(connection) == 4001


async def test_who_says_nothing_is_closed_in_time(server: StreamServer) -> None:
    async with server.connect() as connection:
        assert await close_code(connection) == 4008


async def test_a_second_hello_is_malformed(server: StreamServer) -> None:
    async with server.connect(headers=server.headers()) as connection:
        await say(connection, type="hello")
        await say(connection, type="hello")
        assert await close_code(connection) == 4400


async def test_a_client_that_sends_too_many_frames_gets_a_time_to_come_back(server: StreamServer) -> None:
    async with server.connect(headers=server.headers()) as connection:
        await server.opened(snapshot(5), connection)
        for _ in range(11):
            await say(connection, type="resync")
        said = await closing(connection)
        assert said.code == 4029
        assert json.loads(said.reason)["retry_after_ms"] > 0


async def test_a_user_may_hold_only_so_many_sockets(server: StreamServer) -> None:
    async with (
        server.connect(headers=server.headers()),
        server.connect(headers=server.headers()),
        server.connect(headers=server.headers()),
    ):
        await server.watched(clients=3)
        with pytest.raises(InvalidStatus) as refused:
            await server.connect(headers=server.headers())
        assert refused.value.response.status_code == 429
        async with server.connect() as browser:
            await say(browser, type="hello", token=server.token())
            assert await close_code(browser) == 4409
        async with server.connect(headers=server.headers(OTHER_USER)):
            await server.watched(OTHER_USER)


async def test_a_token_that_ends_is_announced_and_then_closes_the_stream(server: StreamServer) -> None:
    async with server.connect(headers=server.headers(ttl_seconds=4)) as connection:
        await server.opened(snapshot(5), connection)
        assert (await frame_of_type(connection, "auth_required"))["expires_at"]
        assert await close_code(connection) == 4001


async def test_a_fresh_token_in_band_keeps_the_stream_open(server: StreamServer) -> None:
    async with server.connect(headers=server.headers(ttl_seconds=4)) as connection:
        await server.opened(snapshot(5), connection)
        await frame_of_type(connection, "auth_required")
        await say(connection, type="auth", token=server.token())
        renewed = await frame_of_type(connection, "auth_ok")
        await asyncio.sleep(0)
        assert renewed["expires_at"] > 0
        for _ in range(3):
            await frame_of_type(connection, "heartbeat")


async def test_a_bad_refresh_is_an_error_and_the_stream_goes_on(server: StreamServer) -> None:
    async with server.connect(headers=server.headers()) as connection:
        await server.opened(snapshot(5), connection)
        await say(connection, type="auth", token="nonsense")
        error = await frame_of_type(connection, "error")
        assert (error["code"], error["retry"]) == ("unauthenticated", False)
        await frame_of_type(connection, "heartbeat")


async def test_anothers_token_cannot_take_a_stream_over(server: StreamServer) -> None:
    async with server.connect(headers=server.headers()) as connection:
        await server.opened(snapshot(5), connection)
        await say(connection, type="auth", token=server.token(OTHER_USER))
        assert await close_code(connection) == 4403


async def test_a_revoked_token_closes_its_stream(server: StreamServer) -> None:
    async with server.connect(headers=server.headers()) as connection:
        await server.opened(snapshot(5), connection)
        (socket_of_ours,) = server.sockets.all()
        assert socket_of_ours.stream.identity is not None
        server.revoked.add(socket_of_ours.stream.identity.token_id)
        assert await close_code(connection) == 4403


@pytest.mark.parametrize("opened", [1, 400, 1_000, 2_000])
async def test_frames_of_any_length_arrive_whole(server: StreamServer, opened: int) -> None:
    async with server.connect(headers=server.headers()) as connection:
        await server.opened(snapshot(1), connection)
        full = snapshot(2, tickets=tuple(range(1000, 1000 + opened)))
        server.publish(full, snapshot(1))
        update = await frame(connection)
        assert (update["base"], update["revision"]) == (1, 2)
        assert update["patch"]["positions"]["open"] == full.state["positions"]["open"]


async def test_a_client_resumes_where_it_was(server: StreamServer) -> None:
    first = snapshot(5)
    async with server.connect(headers=server.headers()) as connection:
        await server.opened(first, connection)
    server.publish(snapshot(6, syncs=2), first)
    server.publish(snapshot(7, syncs=3), snapshot(6, syncs=2))
    async with server.connect("?since=9:5", headers=server.headers()) as connection:
        assert (await frame(connection))["resumed"] is True
        assert [(await frame(connection))["revision"] for _ in range(2)] == [6, 7]


@pytest.mark.parametrize("since", ["9:4", "8:5"])
async def test_where_history_does_not_reach_back_there_is_a_snapshot(
    server: StreamServer, since: str
) -> None:
    async with server.connect(headers=server.headers()) as connection:
        await server.opened(snapshot(5), connection)
    async with server.connect(f"?since={since}", headers=server.headers()) as connection:
        assert (await frame(connection))["resumed"] is False
        assert (await frame(connection))["type"] == "snapshot"


@pytest.mark.parametrize("since", ["9:6", "10:5"])
async def test_a_position_beyond_what_there_is_gets_a_snapshot_as_soon_as_that_was_read_again(
    server: StreamServer, since: str
) -> None:
    async with server.connect(headers=server.headers()) as connection:
        await server.opened(snapshot(5), connection)
    async with server.connect(f"?since={since}", headers=server.headers()) as connection:
        welcome = asyncio.create_task(frame(connection))
        while not welcome.done():
            server.publish(snapshot(5))
            await asyncio.sleep(0.01)
        assert (await welcome)["resumed"] is False
        assert (await frame(connection))["revision"] == 5


async def test_a_drained_client_gets_a_time_to_come_back(server: StreamServer) -> None:
    async with server.connect(headers=server.headers()) as connection:
        await server.opened(snapshot(5), connection)
        await server.leave()
        said = await closing(connection)
        assert said.code == 1012
        assert json.loads(said.reason)["retry_after_ms"] > 0


def _stuck_reader(server: StreamServer) -> socket.socket:
    """A client that shakes hands and then reads nothing, with a small receive buffer."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, _, port = server.address.partition(":")
    client.connect((host, int(port)))
    lines = [
        "GET /ws HTTP/1.1",
        f"Host: {server.address}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        *(f"{name}: {value}" for name, value in server.headers().items()),
    ]
    client.sendall("\r\n".join([*lines, "", ""]).encode())
    return client


async def test_a_reader_that_is_stuck_costs_one_pointer_and_is_cut_at_the_deadline(
    server: StreamServer,
) -> None:
    books = [snapshot(number, tickets=tuple(range(number, number + 500))) for number in range(5, 300)]
    with _stuck_reader(server):
        async with server.connect(headers=server.headers()) as well:
            await server.watched(clients=2)
            server.publish(books[0])
            for old, new in itertools.pairwise(books):
                server.publish(new, old)
                await asyncio.sleep(0)
            blocked = [one for one in server.sockets.all() if one.stream.blocked_since is not None]
            assert len(blocked) == 1
            # At most one frame over the mark waits in this process, although hundreds were made.
            assert blocked[0].transport.get_write_buffer_size() < 64 * 1024
            while (await frame(well)).get("revision") != books[-1].revision:
                pass
            while len(list(server.sockets.all())) > 1:
                await asyncio.sleep(0.05)
    await server.watched(clients=0)


async def test_a_reader_that_is_stuck_gets_nothing_more_once_its_token_is_revoked() -> None:
    books = [snapshot(number, tickets=tuple(range(number, number + 500))) for number in range(5, 300)]
    async with stream_server(quiet=True) as server:
        with _stuck_reader(server):
            await server.watched()
            server.publish(books[0])
            for old, new in itertools.pairwise(books):
                server.publish(new, old)
                await asyncio.sleep(0)
            (stuck,) = server.sockets.all()
            assert stuck.stream.blocked_since is not None
            assert stuck.stream.identity is not None
            server.revoked.add(stuck.stream.identity.token_id)
            async with asyncio.timeout(10):
                while not stuck.has_ended():
                    await asyncio.sleep(0.01)


async def flooded_until_hung_up(client: socket.socket, data: bytes) -> None:
    """Send until the server has hung up, which it must within seconds."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(20):
            while True:
                await loop.sock_sendall(client, data)


async def test_pings_of_a_peer_that_reads_nothing_do_not_pile_up(server: StreamServer) -> None:
    ping = bytes([0x89, 0x80 | 125]) + b"\x00" * 4 + b"x" * 125
    with _stuck_reader(server) as client:
        await server.watched()
        client.setblocking(False)
        await flooded_until_hung_up(client, ping * 100)


async def test_endless_empty_fragments_are_cut_off(server: StreamServer) -> None:
    empty = struct.pack("!BBI", 0x00, 0x80, 0)
    with _stuck_reader(server) as client:
        await server.watched()
        server.publish(snapshot(5))
        client.setblocking(False)
        await asyncio.get_running_loop().sock_sendall(client, struct.pack("!BBI", 0x01, 0x80, 0))
        await flooded_until_hung_up(client, empty * 100)


async def test_a_client_that_vanishes_leaves_nothing_behind(server: StreamServer) -> None:
    async with server.connect(headers=server.headers()) as connection:
        await server.opened(snapshot(5), connection)
        connection.transport.abort()
        await server.watched(clients=0)
    assert server.hub.is_watched(USER)


async def test_a_long_poll_ends_with_its_token(server: StreamServer) -> None:
    first = snapshot(5)
    async with server.connect(headers=server.headers()) as connection:
        await server.opened(first, connection)
    token = server.token()
    async with httpx.AsyncClient(base_url=f"http://{server.address}", trust_env=False, timeout=60) as client:
        poll = asyncio.create_task(
            client.get("/api/v1/state?since=9:5&wait=55", headers={"Authorization": f"Bearer {token}"})
        )
        await server.watched()
        server.revoked.add((await server.verifier.verify(token)).token_id)
        assert (await poll).status_code == 403
