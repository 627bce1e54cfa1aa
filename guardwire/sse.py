"""The stream as Server-Sent Events: where something in between swallows WebSockets."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from guardwire.ending import answered, blocked, ended_after, lost
from guardwire.event_stream import EventStreamParser, TooLong
from guardwire.http import OPEN_TIMEOUT_SECONDS, HttpConnection, open_http
from guardwire.link import Opening, decode
from guardwire.messages import ClientFrame, ServerFrame
from guardwire.websocket import MAX_FRAME_BYTES

_PATH: Final = "/api/v1/stream"
_MAX_PROBLEM_BYTES: Final = 65_536


class EventStreamLink:
    """A `guardwire.link.Link`."""

    in_band = False

    def __init__(self, connection: HttpConnection) -> None:
        self._connection = connection
        self._parser = EventStreamParser(MAX_FRAME_BYTES)
        self._events: deque[bytes] = deque()
        self._last: ServerFrame | None = None

    async def receive(self) -> ServerFrame:
        while True:
            while self._events:
                if (frame := decode(self._events.popleft())) is not None:
                    self._last = frame
                    return frame
            piece = await self._connection.chunk()
            if piece is None:
                raise ended_after(self._last)
            try:
                self._events.extend(self._parser.feed(piece))
            except TooLong as error:
                raise lost("an event is too long") from error

    async def send(self, frame: ClientFrame) -> None:
        raise NotImplementedError("an event stream has no way up")

    def abort(self) -> None:
        self._connection.abort()

    async def close(self) -> None:
        await self._connection.close()


async def open_event_stream(opening: Opening) -> EventStreamLink:
    """An event stream whose first frame is on its way; raises LinkEnded."""
    connection = await open_http(opening.address, opening.tls)
    try:
        await _begin(connection, opening)
    except BaseException:
        connection.abort()
        raise
    return EventStreamLink(connection)


async def _begin(connection: HttpConnection, opening: Opening) -> None:
    headers = {
        "Authorization": f"Bearer {opening.token}",
        "Accept": "text/event-stream",
        "Cache-Control": "no-store",
    }
    if (position := opening.position()) is not None:
        headers["Last-Event-ID"] = position
    path = opening.address.path(_PATH, channels=",".join(opening.channels))
    try:
        async with asyncio.timeout(OPEN_TIMEOUT_SECONDS):
            response = await connection.get(path, headers)
            problem = b"" if response.status == 200 else await connection.body(_MAX_PROBLEM_BYTES)
    except TimeoutError as error:
        raise lost("no answer in time") from error
    if response.status != 200:
        raise answered(response.status, response.headers, problem, transport_refused=False)
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        raise blocked("the answer is no event stream", response.status)
