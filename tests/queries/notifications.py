"""Deltas and change notices, recorded as a node receives them."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple
from uuid import uuid4

from queries.delta import Delta, authenticated, parse_deltas


class Notification(NamedTuple):
    """One notification: of the secret channel, or else a change notice."""

    is_delta: bool
    payload: str


class NotificationRecorder:
    """Records every notification of schema guardwire from now on."""

    def __init__(self, connection: Any, delta_channel: str, secret: bytes) -> None:
        self._connection = connection
        self._delta_channel = delta_channel
        self._secret = secret
        self._received: asyncio.Queue[Notification] = asyncio.Queue()

    @classmethod
    async def open(cls, connection: Any) -> NotificationRecorder:
        """Listen on ``connection``, which is used for nothing else."""
        row = await connection.fetchrow("SELECT delta_channel, delta_secret FROM guardwire.configuration")
        recorder = cls(connection, row["delta_channel"], row["delta_secret"])
        for channel in (recorder._delta_channel, "guardwire"):
            await connection.add_listener(channel, recorder._receive)
        return recorder

    def _receive(self, _connection: Any, _pid: int, channel: str, payload: str) -> None:
        self._received.put_nowait(Notification(channel == self._delta_channel, payload))

    async def take(self, connection: Any) -> list[Notification]:
        """The notifications since the last call, in order; ``connection`` is any other connection."""
        end = Notification(is_delta=False, payload=f"end {uuid4()}")
        await connection.execute("SELECT pg_notify('guardwire', $1)", end.payload)
        found = []
        while (received := await asyncio.wait_for(self._received.get(), 10)) != end:
            found.append(received)
        return found

    def deltas(self, notifications: list[Notification]) -> list[Delta]:
        """The deltas among ``notifications``, in order, each authenticated."""
        deltas: list[Delta] = []
        for each in notifications:
            if each.is_delta:
                payload = authenticated(self._secret, each.payload)
                assert payload is not None, each.payload
                deltas += parse_deltas(payload.split(";"))
        return deltas
