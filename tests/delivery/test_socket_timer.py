"""Heartbeats, pings and closes come in time on sockets at which the timer does not look in between."""

from __future__ import annotations

import asyncio
import time

from tests.delivery.stream_server import StreamServer, stream_server
from tests.delivery.test_streams import close_code, frame_of_type, say
from tests.hostile.test_bad_frames import opened
from tests.hostile.wire import PING, TEXT
from tests.snapshots import USER, snapshot


async def test_a_revocation_closes_a_socket_of_which_nothing_is_due_for_long() -> None:
    async with (
        stream_server(quiet=True) as server,
        server.connect(headers=server.headers()) as connection,
    ):
        await server.opened(snapshot(5), connection)
        await looked_at_for_the_first_time(server)
        (socket,) = server.sockets.all()
        assert socket.stream.identity is not None
        server.revoked.add(socket.stream.identity.token_id)
        async with asyncio.timeout(3):
            assert await close_code(connection) == 4403


async def test_a_shorter_token_in_band_ends_the_stream_when_it_ends() -> None:
    async with (
        stream_server(quiet=True) as server,
        server.connect(headers=server.headers()) as connection,
    ):
        await server.opened(snapshot(5), connection)
        await looked_at_for_the_first_time(server)
        await say(connection, type="auth", token=server.token(ttl_seconds=2))
        await frame_of_type(connection, "auth_required")
        async with asyncio.timeout(5):
            assert await close_code(connection) == 4001


async def test_the_end_of_a_token_that_came_with_a_hello_is_announced() -> None:
    async with stream_server(quiet=True) as server, server.connect() as connection:
        await say(connection, type="hello", token=server.token(ttl_seconds=3))
        await server.watched()
        server.publish(snapshot(5))
        async with asyncio.timeout(6):
            await frame_of_type(connection, "auth_required")
            assert await close_code(connection) == 4001


async def test_a_ping_that_is_due_goes_out_with_the_heartbeat() -> None:
    async with stream_server(ping_seconds=2.0) as server, opened(server) as wire:
        kinds = []
        async with asyncio.timeout(6):
            async for opcode, payload in wire.frames():
                kinds.append((opcode, b'"heartbeat"' in payload))
                if len(kinds) == 2:
                    break
        # A busy machine sends the heartbeat before the ping is due.
        assert set(kinds) == {(PING, False), (TEXT, True)}


async def test_heartbeats_go_on_at_their_pace_while_updates_put_them_off() -> None:
    async with (
        stream_server(ping_seconds=30.0) as server,
        server.connect(headers=server.headers()) as connection,
    ):
        await server.opened(snapshot(5), connection)
        began = time.monotonic()
        newest = snapshot(5)
        while time.monotonic() - began < 2.5:
            newest, base = snapshot(newest.revision + 1, syncs=newest.revision), newest
            server.publish(newest, base)
            assert '"update"' in str(await connection.recv())
            await asyncio.sleep(0.2)
        quiet_since = time.monotonic()
        await frame_of_type(connection, "heartbeat")
        assert 0.5 <= time.monotonic() - quiet_since <= 2.0
        await frame_of_type(connection, "heartbeat")
        assert time.monotonic() - quiet_since <= 4.0


async def test_a_closed_socket_keeps_no_account_until_its_turn() -> None:
    async with stream_server(quiet=True) as server:
        async with server.connect(headers=server.headers()) as connection:
            await server.opened(snapshot(5), connection)
            (socket,) = server.sockets.all()
        await server.watched(USER, clients=0)
        assert (socket.account, socket.stream.is_open) == (None, False)


async def test_who_does_not_answer_is_closed_after_twice_the_time_of_a_ping() -> None:
    async with stream_server(ping_seconds=1.0) as server, opened(server) as wire:
        began = time.monotonic()
        assert (await wire.goodbye()).code == 4009
        assert 1.5 <= time.monotonic() - began <= 5.0


async def looked_at_for_the_first_time(server: StreamServer) -> None:
    """Wait until the timer has seen that nothing is due for long."""
    (socket,) = server.sockets.all()
    async with asyncio.timeout(5):
        while socket.stream.next_due < time.monotonic() + 10:
            await asyncio.sleep(0.01)
