"""Clients that behave badly: some stop reading, some vanish. They connect to a node itself, without a proxy."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import struct
from dataclasses import replace
from typing import Any, Final

from tests.end_to_end import tables
from tests.end_to_end.marks import Marks, Owner
from tests.faults.nodes import Node

_RECEIVE_BUFFER_BYTES: Final = 2048
#: A snapshot of so many positions fills every buffer between a node and a client that does not read.
_POSITIONS: Final = 400
_ANSWER_SECONDS: Final = 20.0


async def make_fat(connection: Any, owner: Owner, marks: Marks) -> None:
    """Give ``owner`` so many positions that one snapshot of them is larger than any buffer."""
    row = replace(
        marks.log_row(owner), event_type="sync", close_reason=None, matched=1, divergence_reason="d" * 300
    )
    rows = [
        replace(row, id=marks.log_row(owner).id, ticket=owner.tickets[0] + number)
        for number in range(_POSITIONS)
    ]
    await tables.LOG.insert(connection, rows)


def request(path: str, token: str = "") -> bytes:
    """The head of a WebSocket handshake."""
    key = base64.b64encode(os.urandom(16)).decode()
    authorization = f"Authorization: Bearer {token}\r\n" if token else ""
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{authorization}\r\n"
    ).encode()


async def opened(node: Node, *, receive_buffer_bytes: int | None = None) -> socket.socket:
    """A connection to ``node``."""
    found = socket.socket()
    if receive_buffer_bytes is not None:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    found.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(found, ("127.0.0.1", node.port))
    except BaseException:
        found.close()
        raise
    return found


async def stuck_reader(node: Node, token: str) -> socket.socket:
    """A client that completes its handshake and then stops reading."""
    found = await opened(node, receive_buffer_bytes=_RECEIVE_BUFFER_BYTES)
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(found, request("/ws", token))
    async with asyncio.timeout(_ANSWER_SECONDS):
        head = await loop.sock_recv(found, 12)
    assert head.endswith(b"101"), head
    return found


def vanish(connection: socket.socket) -> None:
    """Reset the connection, as for a client that is killed or loses its network."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


async def vanish_at(node: Node, stage: int, token: str) -> None:
    """Connect, and vanish at a point of the conversation from 0 (early) to 9 (late)."""
    connection = await opened(node)
    loop = asyncio.get_running_loop()
    try:
        if stage == 0:
            return
        plain = f"Host: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n"
        said = {
            1: b"GET /ws HT",
            2: request("/ws", token)[:-4],
            3: request("/ws", token),
            4: request("/ws"),
            5: f"GET /api/v1/stream HTTP/1.1\r\n{plain}".encode(),
            6: f"GET /api/v1/state?wait=25 HTTP/1.1\r\n{plain}".encode(),
        }.get(stage, request("/ws", token))
        await loop.sock_sendall(connection, said)
        if stage >= 7:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await loop.sock_recv(connection, {7: 16, 8: 400}.get(stage, 4096))
        if stage == 9:
            # The beginning of a frame whose header states a greater length than what follows.
            await loop.sock_sendall(connection, b"\x81\xfe\x04\x00abcdsome")
    except (OSError, TimeoutError):
        pass  # a client that vanishes ignores that the server may have closed first
    finally:
        vanish(connection)
