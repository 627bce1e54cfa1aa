"""What commits tell and hint at, heard as a node hears it."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple
from uuid import uuid4

from queries.told import Told, read_told


class Heard(NamedTuple):
    """One notification; told, or else a hint."""

    told: bool
    payload: str


class Ears:
    """Hears everything that is committed to the database of ``connection`` from now on."""

    def __init__(self, connection: Any, told_channel: str, secret: bytes) -> None:
        self._connection = connection
        self._told_channel = told_channel
        #: What the codes of items are made with.
        self.secret = secret
        self._heard: asyncio.Queue[Heard] = asyncio.Queue()

    @classmethod
    async def open(cls, connection: Any) -> Ears:
        """Listen on ``connection``, which is used for nothing else."""
        told_channel, secret = await connection.fetchrow(
            "SELECT told_channel, told_secret FROM guardwire.configuration"
        )
        ears = cls(connection, told_channel, secret)
        for notify_channel in (told_channel, "guardwire"):
            await connection.add_listener(notify_channel, ears._hear)
        return ears

    def _hear(self, _connection: Any, _pid: int, notify_channel: str, payload: str) -> None:
        self._heard.put_nowait(Heard(notify_channel == self._told_channel, payload))

    async def all(self, writer: Any) -> list[Heard]:
        """What was committed since the last call, in order; ``writer`` is any other connection."""
        end = Heard(told=False, payload=f"end {uuid4()}")
        await writer.execute("SELECT pg_notify('guardwire', $1)", end.payload)
        found = []
        while (heard := await asyncio.wait_for(self._heard.get(), 10)) != end:
            found.append(heard)
        return found

    def told_of(self, heard: list[Heard]) -> list[Told]:
        """The steps that were told, in order."""
        return [told for each in heard if each.told for told in read_told(each.payload, self.secret)]
