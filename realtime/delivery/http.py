"""HTTP/1.1 for whoever comes: uvicorn's on httptools, with bounds on heads and on who stays silent."""

from __future__ import annotations

import asyncio
from operator import methodcaller
from typing import Any, Final
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from realtime.delivery.application import at_once_of
from realtime.delivery.buffers import KEEP_SMALL, keep_buffers_small
from realtime.delivery.cycle import Cycle, head_of
from realtime.delivery.headers import security_headers
from realtime.delivery.sse import ABORT
from realtime.delivery.waiting import Waiting

#: For a whole request, head and body.
_HEAD_SECONDS: Final = 10.0
#: From an answer to the first byte of the next request.
_IDLE_SECONDS: Final = 5.0
#: Of a head, or of anything else between two pieces of a body; the parser itself would take it without end.
_HEAD_BYTES: Final = 65_536
#: What is parsed before others have their turn, and before anybody looks whether it was too much: a chunk of
#: a body may be a byte.
_SLICE_BYTES: Final = 8192
_NOTHING: Final = memoryview(b"")
#: For a reader who has let every buffer fill. Streams of events have a shorter deadline of their own.
_READER_SECONDS: Final = 30.0
#: Whoever names one of these says more than a head, or waits to be told to.
_OF_A_BODY: Final = frozenset({b"content-length", b"transfer-encoding", b"expect"})


class Patience:
    """The connections of one server that it waits for: without a whole request, and idle since an answer."""

    def __init__(self, *, most_waiting: int) -> None:
        self.requests = Waiting(seconds=_HEAD_SECONDS, end=methodcaller("abort"), most=most_waiting)
        self.idle = Waiting(seconds=_IDLE_SECONDS, end=methodcaller("close"))


class Http(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, with deadlines for whoever sends or reads nothing, and a way for a route to cut."""

    def __init__(self, patience: Patience, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._patience = patience
        # Whether the head, and the whole request, that came last have ended; and what came since either, or
        # since the last piece of a body.
        self._head_is_whole = self._request_is_whole = False
        self._unfinished_bytes = 0
        self._reader_deadline: asyncio.TimerHandle | None = None
        self._is_deaf = self._is_upgraded = False
        self._unparsed = _NOTHING
        self._answer_of = at_once_of(self.app)
        self._whole: bytes | None = None
        self._keeps_alive = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_or_forget()

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        self._patience.idle.leave(self.transport)
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
        self._unfinished_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self._upgrade(data[int(upgrade.args[0]) :])
            else:
                self._unsupported_upgrade_warning()
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        else:
            if self._unfinished_bytes > _HEAD_BYTES:
                self.send_400_response("The request's head is too long.")
        # A first byte ends the deadline of idle connections, and an endless head or body would hold its
        # connection for ever.
        self._expect_or_forget()

    def _upgrade(self, early: bytes) -> None:
        """Hand the connection over; ``early`` are a hasty client's first frames, or some of them."""
        self._is_upgraded = True
        self.handle_websocket_upgrade()
        protocol = self.transport.get_protocol()
        early, self._unparsed = early + bytes(self._unparsed), _NOTHING
        if early and isinstance(protocol, asyncio.Protocol):
            protocol.data_received(early)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_is_whole = self._request_is_whole = False

    def on_headers_complete(self) -> None:
        """Begin to answer, or queue the request behind those that are not answered yet.

        In place of uvicorn's own, which makes another cycle and knows of mounts and of a limit that are not
        used here.
        """
        self._head_is_whole = True
        self._unfinished_bytes = 0
        scope: Any = self.scope
        scope["http_version"] = self.parser.get_http_version()
        scope["method"] = self.parser.get_method().decode("ascii")
        if self.parser.should_upgrade() and self._should_upgrade():
            return
        # What stands behind a body must not be taken for something said before it.
        self.headers = []
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = url.path
        scope["query_string"] = url.query or b""
        scope["extensions"] = {ABORT: self.transport.abort, KEEP_SMALL: self._keep_small}
        self._keeps_alive = scope["http_version"] != "1.0" and self.parser.should_keep_alive()
        if self._is_answering():
            self.cycle = self._new_cycle()
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
            return
        self._whole = self._answer_at_once(scope) if self._may_be_answered_at_once() else None
        if self._whole is None:
            self.cycle = self._new_cycle()
            self._start_asgi_task(self.cycle, self.app)

    def _may_be_answered_at_once(self) -> bool:
        """Whether this is all of a request, and its sender takes answers."""
        if self.flow.write_paused or self.parser.should_upgrade() or self.transport.is_closing():
            return False
        return all(name not in _OF_A_BODY for name, _ in self.scope["headers"])

    def _answer_at_once(self, scope: Any) -> bytes | None:
        """The answer where nothing must be waited for: a task, and what goes with it, costs as much again."""
        try:
            answer = self._answer_of(scope)
            if answer is None:
                return None
            headers = [*self.server_state.default_headers, *answer.headers]
            if not self._keeps_alive:
                headers.append((b"connection", b"close"))
            return head_of(answer.status, headers, dict(headers)) + answer.body
        except Exception:
            # Served as any other request it fails again, and there it is told.
            return None

    def _new_cycle(self) -> Cycle:
        return Cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=self._keeps_alive,
            on_response=self.on_response_complete,
        )

    def _keep_small(self) -> None:
        keep_buffers_small(self.transport)

    def on_body(self, body: bytes) -> None:
        self._unfinished_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._request_is_whole = True
        self._unfinished_bytes = 0
        if self._whole is None:
            super().on_message_complete()
        else:
            self._send_whole(self._whole)

    def _send_whole(self, answer: bytes) -> None:
        self._whole = None
        self.transport.write(answer)
        if not self._keeps_alive:
            self.transport.close()
        # The next request has all of its time.
        self._patience.requests.leave(self.transport)
        self.on_response_complete()

    def on_response_complete(self) -> None:
        """The next request is waited for, unless it has come already, or this one has still not ended."""
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())
            else:
                self._patience.idle.enter(self.transport, self.loop)
            if not self._request_is_whole:
                self._grow_deaf()
        self._expect_or_forget()

    def _grow_deaf(self) -> None:
        """Answered amid its body: nobody looks at the rest, and the client is told to stop."""
        self._is_deaf = True
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _expect_or_forget(self) -> None:
        if self._is_upgraded or (self._request_is_whole and self._is_answering()):
            self._forget()
        else:
            self._patience.requests.enter(self.transport, self.loop)

    def _forget(self) -> None:
        # An answer that came at once may have been followed by another request, in the same piece of data.
        self._patience.requests.leave(self.transport)
        self._patience.idle.leave(self.transport)

    def _is_answering(self) -> bool:
        cycle: Cycle | None = self.cycle  # type: ignore[assignment]
        return cycle is not None and not cycle.response_complete

    def _unset_keepalive_if_required(self) -> None:
        """uvicorn's own deadline for idle connections is never set."""

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
        self._forget()
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

    def _forget_reader(self) -> None:
        if self._reader_deadline is not None:
            self._reader_deadline.cancel()
            self._reader_deadline = None
