"""The stream as Server-Sent Events, for networks in which a proxy lets no WebSocket through."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from typing import Final

from guardwire.endings import blocked, from_last_frame, from_response, lost
from guardwire.http import HttpConnection, open_http
from guardwire.link import MAX_FRAME_BYTES, Opening, decode_frame
from guardwire.messages import ClientFrame, ServerFrame

_PATH: Final = "/api/v1/stream"
_MAX_PROBLEM_BYTES: Final = 65_536
_LINE_END: Final = re.compile(rb"\r\n|\n|\r(?!$)")
_FIELD: Final = re.compile(rb"data(?:: ?|$)")


class TooLong(Exception):
    """An event or a line is longer than allowed."""


class EventStreamParser:
    """Server-Sent Events out of bytes (WHATWG HTML, "Parsing an event stream"): each event's data, and nothing else.

    The bytes may be cut anywhere; at most ``limit_bytes`` of them are kept.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._pending = b""
        self._data: list[bytes] = []
        self._data_bytes = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of each event that ``piece`` completed; raises TooLong."""
        *lines, self._pending = _LINE_END.split(self._pending + piece)
        events = [event for line in lines if (event := self._line(line)) is not None]
        if len(self._pending) + self._data_bytes > self._limit_bytes:
            raise TooLong
        return events

    def _line(self, line: bytes) -> bytes | None:
        if line == b"":
            data, self._data, self._data_bytes = self._data, [], 0
            return b"\n".join(data) if data else None
        if field := _FIELD.match(line):
            self._data.append(line[field.end() :])
            self._data_bytes += len(line)
        return None


class EventStreamTransport:
    """A `guardwire.link.Transport`."""

    is_in_band = False

    def __init__(self, connection: HttpConnection) -> None:
        self._connection = connection
        self._parser = EventStreamParser(MAX_FRAME_BYTES)
        self._events: deque[bytes] = deque()
        self._last_frame: ServerFrame | None = None

    async def receive(self) -> ServerFrame:
        while True:
            while self._events:
                if (frame := decode_frame(self._events.popleft())) is not None:
                    self._last_frame = frame
                    return frame
            piece = await self._connection.chunk()
            if piece is None:
                raise from_last_frame(self._last_frame)
            try:
                self._events.extend(self._parser.feed(piece))
            except TooLong as error:
                raise lost("an event is too long") from error

    async def send(self, frame: ClientFrame) -> None:
        raise NotImplementedError("an event stream carries no frames to the server")

    def abort(self) -> None:
        self._connection.abort()

    async def close(self) -> None:
        await self._connection.close()


async def open_event_stream(opening: Opening) -> EventStreamTransport:
    """An open event stream, before its first frame; raises LinkEnded."""
    connection = await open_http(opening)
    try:
        await _request_stream(connection, opening)
    except BaseException:
        connection.abort()
        raise
    return EventStreamTransport(connection)


async def _request_stream(connection: HttpConnection, opening: Opening) -> None:
    headers = {
        "Authorization": f"Bearer {opening.token}",
        "Accept": "text/event-stream",
        "Cache-Control": "no-store",
    }
    if (resume_point := opening.resume_point()) is not None:
        headers["Last-Event-ID"] = resume_point
    path = opening.address.path(_PATH, channels=",".join(opening.channels))
    try:
        async with asyncio.timeout(opening.timing.open_seconds):
            response = await connection.get(path, headers)
            problem = b"" if response.status == 200 else await connection.body(_MAX_PROBLEM_BYTES)
    except TimeoutError as error:
        raise lost("no answer in time") from error
    if response.status != 200:
        raise from_response(response.status, response.headers, problem, transport_refused=False)
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        raise blocked("the answer is no event stream", response.status)
