"""Server-Sent Events out of a stream of bytes (WHATWG HTML, "Parsing an event stream"), reduced to each
event's data.
"""

from __future__ import annotations

import re
from typing import Final

_LINE_END: Final = re.compile(rb"\r\n|\n|\r(?!$)")
_FIELD: Final = re.compile(rb"data(?:: ?|$)")


class TooLong(Exception):
    """An event or a line is longer than allowed."""


class EventStreamParser:
    """Fed with bytes cut anywhere; remembers at most ``limit_bytes``."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._pending = b""
        self._data: list[bytes] = []
        self._data_bytes = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of the events that ``piece`` completed; raises TooLong."""
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
