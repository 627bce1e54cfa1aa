"""HTTP/1.1 for whoever comes: uvicorn's, with a bound on who may stay without asking anything."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from realtime.delivery.buffers import KEEP_SMALL, keep_buffers_small
from realtime.delivery.headers import security_headers
from realtime.delivery.sse import ABORT

#: For a whole request, head and body.
_HEAD_SECONDS: Final = 10.0
#: For a reader who has let every buffer fill. Streams of events have a shorter deadline of their own.
_READER_SECONDS: Final = 30.0
#: A connection that is younger has had no time to say anything: a crowd is accepted before it is read.
_GRACE_SECONDS: Final = 1.0


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


class Http(H11Protocol):
    """uvicorn's HTTP/1.1, with deadlines for whoever sends or reads nothing, and a way for a route to cut."""

    def __init__(self, waiting: Waiting, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting = waiting
        self._head_deadline: asyncio.TimerHandle | None = None
        self._reader_deadline: asyncio.TimerHandle | None = None
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
        super().data_received(data)
        # A first byte ends uvicorn's own deadline, and an endless head or body would hold its connection for
        # ever.
        self._expect_or_forget()

    def on_response_complete(self) -> None:
        """The next request is waited for, unless it has come already."""
        super().on_response_complete()
        self._expect_or_forget()

    def _expect_or_forget(self) -> None:
        # A WebSocket's head has come whole, though h11 is never told that no body follows.
        upgraded = self.transport.get_protocol() is not self
        if not upgraded and self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self._expect_head()
        else:
            self._forget_head()

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
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Say that it was no HTTP, with the headers of every other answer."""
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
        headers += security_headers(b"")
        answer = (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=msg.encode("ascii")),
            h11.EndOfMessage(),
        )
        self.transport.write(b"".join(self.conn.send(event) or b"" for event in answer))
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
