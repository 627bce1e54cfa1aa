"""HTTP/1.1 for whoever comes: uvicorn's on httptools, with bounds on heads and on who stays silent."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from realtime.delivery.buffers import KEEP_SMALL, keep_buffers_small
from realtime.delivery.headers import security_headers
from realtime.delivery.sse import ABORT

#: For a whole request, head and body.
_HEAD_SECONDS: Final = 10.0
#: Of a head, or of anything else between two pieces of a body; the parser itself would take it without end.
_HEAD_BYTES: Final = 65_536
#: What is parsed before others have their turn, and before anybody looks whether it was too much: a chunk of
#: a body may be a byte.
_SLICE_BYTES: Final = 8192
_NOTHING: Final = memoryview(b"")
#: For a reader who has let every buffer fill. Streams of events have a shorter deadline of their own.
_READER_SECONDS: Final = 30.0
#: A connection that is younger has had no time to say anything: a crowd of thousands is accepted before it is
#: read, which takes seconds.
_GRACE_SECONDS: Final = 4.0


class Waiting:
    """The connections without a request, oldest first; beyond ``most`` of them the oldest are cut."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._since: dict[asyncio.Transport, float] = {}

    def enter(self, transport: asyncio.Transport, now: float) -> None:
        """``transport`` has nothing to do; those who have had nothing for longest make room."""
        self._since[transport] = now
        while len(self._since) > self._most:
            oldest, since = next(iter(self._since.items()))
            if now - since < _GRACE_SECONDS:
                return
            del self._since[oldest]
            oldest.abort()

    def leave(self, transport: asyncio.Transport) -> None:
        """It has asked something, or is gone."""
        self._since.pop(transport, None)


class Http(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, with deadlines for whoever sends or reads nothing, and a way for a route to cut."""

    def __init__(self, waiting: Waiting, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting = waiting
        # Whether the head, and the whole request, that came last have ended; and what came since either, or
        # since the last piece of a body.
        self._head_is_whole = self._request_is_whole = False
        self._unfinished_bytes = 0
        self._head_deadline: asyncio.TimerHandle | None = None
        self._reader_deadline: asyncio.TimerHandle | None = None
        self._is_deaf = False
        self._unparsed = _NOTHING
        application = self.app

        async def abortable(scope: Any, receive: Any, send: Any) -> None:
            scope["extensions"] = {
                ABORT: self.transport.abort,
                KEEP_SMALL: lambda: keep_buffers_small(self.transport),
            }
            await application(scope, receive, send)

        self.app = abortable

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        self._unset_keepalive_if_required()
        if len(data) <= _SLICE_BYTES:
            self._take(data)
        else:
            # No frame may hold all of it while a slice is parsed: what the parser raises keeps every frame
            # until the garbage collector comes by.
            self._unparsed = memoryview(data)
            self.transport.pause_reading()
            self.loop.call_soon(self._take_some)

    def _take_some(self) -> None:
        """Parse a slice, and the rest when others had their turn."""
        if self._is_deaf or self.transport.is_closing():
            self._unparsed = _NOTHING
        data = bytes(self._unparsed[:_SLICE_BYTES])
        self._unparsed = self._unparsed[_SLICE_BYTES:]
        if data:
            self._take(data)
            self.loop.call_soon(self._take_some)
        elif not self.transport.is_closing():
            self.transport.resume_reading()

    def _take(self, data: bytes) -> None:
        parsed = self._parse(data)
        protocol = self.transport.get_protocol()
        if protocol is not self:
            # A hasty client's first frames, which came with the handshake.
            early, self._unparsed = data[parsed:] + bytes(self._unparsed), _NOTHING
            if early and isinstance(protocol, asyncio.Protocol):
                protocol.data_received(early)
        # A first byte ends uvicorn's own deadline, and an endless head or body would hold its connection for
        # ever.
        self._expect_or_forget()

    def _parse(self, data: bytes) -> int:
        """How much of ``data`` was parsed: all, but where a WebSocket begins in it."""
        self._unfinished_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if not self._should_upgrade():
                self._unsupported_upgrade_warning()
                return len(data)
            self.handle_websocket_upgrade()
            return int(upgrade.args[0])
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
            return len(data)
        if self._unfinished_bytes > _HEAD_BYTES:
            self.send_400_response("The request's head is too long.")
        return len(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_is_whole = self._request_is_whole = False

    def on_header(self, name: bytes, value: bytes) -> None:
        # What stands behind a body must not be taken for something said before it.
        if not self._head_is_whole:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_is_whole = True
        self._unfinished_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unfinished_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._request_is_whole = True
        self._unfinished_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The next request is waited for, unless it has come already, or this one has still not ended."""
        super().on_response_complete()
        if not self._request_is_whole and not self.transport.is_closing():
            # Answered amid its body: nobody looks at the rest, and the client is told to stop.
            self._is_deaf = True
            if self.transport.can_write_eof():
                self.transport.write_eof()
        self._expect_or_forget()

    def _expect_or_forget(self) -> None:
        upgraded = self.transport.get_protocol() is not self
        if upgraded or (self._request_is_whole and not self.cycle.response_complete):
            self._forget_head()
        else:
            self._expect_head()

    def pause_writing(self) -> None:
        """An answer fills every buffer: its reader has some time to go on."""
        super().pause_writing()
        if self._reader_deadline is None:
            self._reader_deadline = self.loop.call_later(_READER_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The reader went on."""
        super().resume_writing()
        self._forget_reader()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head()
        self._forget_reader()
        self._unparsed = _NOTHING
        if not self._head_is_whole and self.headers:
            # Thousands of them would otherwise stay until the garbage collector comes by.
            self.headers.clear()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Say that it was no HTTP, with the headers of every other answer."""
        body = msg.encode("ascii")
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            *security_headers(b""),
        ]
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[400] + lines + b"\r\n" + body)
        self.transport.close()

    def _expect_head(self) -> None:
        if self._head_deadline is None:
            self._head_deadline = self.loop.call_later(_HEAD_SECONDS, self.transport.abort)
            self._waiting.enter(self.transport, self.loop.time())

    def _forget_head(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None
            self._waiting.leave(self.transport)

    def _forget_reader(self) -> None:
        if self._reader_deadline is not None:
            self._reader_deadline.cancel()
            self._reader_deadline = None
