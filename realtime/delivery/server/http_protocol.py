"""HTTP/1.1 by uvicorn on httptools, with bounds on heads, and deadlines for clients that send or read nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from websockets.datastructures import Headers
from websockets.http11 import Request

from realtime.delivery.http.middleware import request_id_of
from realtime.delivery.http.problems import ProblemResponse
from realtime.delivery.http.stream import ABORT, KEEP_SMALL
from realtime.delivery.security_headers import security_headers
from realtime.delivery.server import request_heads
from realtime.delivery.server.deadlines import Deadlines
from realtime.delivery.server.handover import HandoverProtocol, keep_buffers_small
from realtime.delivery.server.request_cycle import Cycle, head_of

log = logging.getLogger(__name__)

#: The parser gets this many bytes before other connections have their turn, and before the bounds are checked: a chunk
#: of a body may be one byte.
_SLICE_BYTES: Final = 8192
_NOTHING: Final = memoryview(b"")
_EARLY_HANDSHAKE: Final = "Wait for the answers to earlier requests before the WebSocket handshake."


def _nothing() -> None:
    """In place of a connection that is gone."""


class _Flow(FlowControl):
    """uvicorn's, but after a pause the bytes that have come already are parsed first; `FlowControl` would
    read more at once, and more after each answer, without a bound.
    """

    def __init__(self, transport: asyncio.Transport, go_on: Callable[[], None]) -> None:
        super().__init__(transport)
        self._go_on = go_on

    def let_go(self) -> None:
        """Refer to the connection no longer: both would wait for the garbage collector."""
        self._go_on = _nothing

    def resume_reading(self) -> None:
        """End a pause, if there is one."""
        if self.read_paused:
            self.read_paused = False
            self._go_on()


class Http(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, with deadlines for clients that send or read nothing. A route can cut its connection."""

    flow: _Flow

    def __init__(self, deadlines: Deadlines, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadlines = deadlines
        # Whether the head, and the whole request, that came last have ended; and what came since either, or
        # since the last piece of a body.
        self._head_is_whole = self._request_is_whole = False
        self._unfinished_bytes = 0
        self._reader_deadline: asyncio.TimerHandle | None = None
        self._is_deaf = self._is_upgraded = self._is_idle = False
        self._handshake: Request | None = None
        # The problem of the head that is being parsed, and the encoded answer that waits for its turn.
        self._fault: ProblemResponse | None = None
        self._refusal = b""
        self._unparsed = _NOTHING
        self._slice_is_planned = False
        self._keeps_alive = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport, self._go_on)
        self._expect_or_forget()

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        self._end_idling()
        if len(data) <= _SLICE_BYTES and not self._unparsed:
            self._take(data)
        else:
            # No frame may hold all of it while a slice is parsed: what the parser raises keeps every frame
            # until the garbage collector comes by.
            self._unparsed = memoryview(bytes(self._unparsed) + data)
            self.transport.pause_reading()
            self._plan_slice()

    def _plan_slice(self) -> None:
        if not self._slice_is_planned:
            self._slice_is_planned = True
            self.loop.call_soon(self._take_some)

    def _take_some(self) -> None:
        """Parse a slice, and the rest when others had their turn; nothing while earlier requests wait for
        their answers, or a route is not ready for more of a body.
        """
        self._slice_is_planned = False
        if self._is_deaf or self.transport.is_closing():
            self._unparsed = _NOTHING
        if self._unparsed and not self.flow.read_paused:
            data = bytes(self._unparsed[:_SLICE_BYTES])
            self._unparsed = self._unparsed[_SLICE_BYTES:]
            self._take(data)
        if not self.flow.read_paused:
            self._go_on()

    def _go_on(self) -> None:
        """Parse what has come already, and read on behind it."""
        if self._is_upgraded:
            # The handshake has paused the connection, and decides when more is read.
            return
        if self._unparsed:
            self._plan_slice()
        elif not self.flow.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def _take(self, data: bytes) -> None:
        self._unfinished_bytes += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._refuse(self._fault or request_heads.not_http())
        else:
            if self._unfinished_bytes > request_heads.HEAD_BYTES:
                self._refuse(request_heads.not_http() if self._head_is_whole else request_heads.too_large())
        # A first byte ends the deadline of idle connections, and an endless head or body would hold its
        # connection for ever.
        self._expect_or_forget()

    def _parse(self, data: bytes) -> None:
        """Parse ``data``; raises httptools.HttpParserError."""
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = data[int(upgrade.args[0]) :]
            if self._handshake is not None:
                self._upgrade(self._handshake, data)
                return
            # A protocol that is not spoken here is passed over (RFC 9110, 7.8), and the next request follows.

    def _upgrade(self, request: Request, early: bytes) -> None:
        """Hand the connection over; ``early`` are a hasty client's first frames, or some of them.

        uvicorn would write the request down again for the parser of websockets, whose limits are others: what
        httptools has parsed goes over as it is.
        """
        self._is_upgraded, self._handshake = True, None
        self.connections.discard(self)
        protocol = HandoverProtocol(self.config, self.server_state, self.app_state)
        protocol.connection_made(self.transport)
        self.transport.set_protocol(protocol)
        early, self._unparsed = early + bytes(self._unparsed), _NOTHING
        protocol.begin(request, early, self._deadlines.handshakes)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._end_idling()
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
        try:
            self._read_target(scope)
            if self.parser.should_upgrade():
                request_heads.refuse_body(self.headers)
                if request_heads.wants_websocket(self.headers):
                    self._handshake = self._read_handshake(scope)
                    return
        except request_heads.RefusedHead as refused:
            # The parser stops, and `_take` sends the answer.
            self._fault = refused.problem
            raise
        # Trailers behind a body must not be taken for headers before it.
        self.headers = []
        scope["extensions"] = {ABORT: self.transport.abort, KEEP_SMALL: self._keep_small}
        self._keeps_alive = scope["http_version"] != "1.0" and self.parser.should_keep_alive()
        if self._is_answering():
            self.cycle = self._new_cycle()
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
            return
        self.cycle = self._new_cycle()
        self._start_asgi_task(self.cycle, self.app)

    def _read_target(self, scope: Any) -> None:
        target = request_heads.target_of(self.url, scope["http_version"], self.headers)
        path = target.raw_path.decode("ascii")
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = target.raw_path
        scope["query_string"] = target.query

    def _read_handshake(self, scope: Any) -> Request:
        """The handshake as the websockets library names its parts; raises RefusedHead."""
        if self._is_answering():
            # The answers that are due would be written among the frames.
            raise request_heads.RefusedHead(_EARLY_HANDSHAKE)
        path = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        lines = [(name.decode("ascii"), value.decode("latin-1")) for name, value in self.headers]
        return Request(path.decode("ascii"), Headers(lines), scope["method"], f"HTTP/{scope['http_version']}")

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
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The next request is waited for, unless it has come already, or this one has still not ended."""
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())
            elif self._refusal:
                self._send_refusal()
            elif self._head_is_whole and not self._request_is_whole:
                # Answered amid its body: nobody looks at the rest.
                self._hang_up()
            elif self._request_is_whole:
                self._is_idle = True
                self._deadlines.idle.enter(self.transport, self.loop)
        self._expect_or_forget()

    def _refuse(self, problem: ProblemResponse) -> None:
        """Answer with ``problem`` what is no request, or none that may be read, and read no further.

        It is answered in its turn: requests before it may still wait for their answers.
        """
        self._is_deaf, self._unparsed, self._handshake = True, _NOTHING, None
        self._refusal = self._encoded(problem)
        if (
            self._fault is None
            and self._is_answering()
            and self._head_is_whole
            and not self._request_is_whole
        ):
            self._drop_newest()
        if self._is_answering():
            self.flow.pause_reading()
        else:
            self._send_refusal()

    def _drop_newest(self) -> None:
        """The request whose body turned out to be none: its route need not go on."""
        cycle: Cycle = self.cycle  # type: ignore[assignment]
        if self.pipeline:
            self.pipeline.popleft()
            return
        if cycle.response_started:
            # A second answer would be taken for a part of the first.
            self.transport.abort()
        cycle.disconnected = cycle.response_complete = True
        cycle.message_event.set()

    def _encoded(self, problem: ProblemResponse) -> bytes:
        """The whole answer, with the headers of every other."""
        scope: Any = self.scope
        answer, request_id = problem.response(scope), request_id_of(scope)
        log.debug("refused", extra={"status": answer.status, "request_id": request_id})
        headers = [
            *answer.headers,
            (b"connection", b"close"),
            (b"x-request-id", request_id.encode()),
            *security_headers(b""),
        ]
        return head_of(answer.status, headers, dict(headers)) + answer.body

    def _send_refusal(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(self._refusal)
            self._hang_up()

    def _hang_up(self) -> None:
        """Read what still comes and throw it away until the client has hung up, too, or its time is over:
        unread data would make the kernel cut the line, and the last answer with it.
        """
        self._is_deaf = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def _end_idling(self) -> None:
        """Something has come: from now on it must become a request in time."""
        self._is_idle = False
        self._deadlines.idle.leave(self.transport)

    def _expect_or_forget(self) -> None:
        # While requests wait for their turn nothing is read, and no client is late.
        waits_for_us = self._is_answering() and (self._request_is_whole or bool(self.pipeline))
        if self._is_upgraded or waits_for_us:
            self._forget()
        elif self._is_idle:
            self._deadlines.requests.leave(self.transport)
        else:
            self._deadlines.requests.enter(self.transport, self.loop)

    def _forget(self) -> None:
        # An answer that came at once may have been followed by another request, in the same piece of data.
        self._deadlines.requests.leave(self.transport)
        self._deadlines.idle.leave(self.transport)

    def _is_answering(self) -> bool:
        cycle: Cycle | None = self.cycle  # type: ignore[assignment]
        return cycle is not None and not cycle.response_complete

    def _should_upgrade(self) -> bool:
        """Whether the request that is being parsed is a WebSocket handshake."""
        return self._handshake is not None

    def _unset_keepalive_if_required(self) -> None:
        """uvicorn's own deadline for idle connections is never set."""

    def pause_writing(self) -> None:
        """An answer fills every buffer: its reader has some time to go on."""
        super().pause_writing()
        if self._reader_deadline is None:
            self._reader_deadline = self.loop.call_later(
                self._deadlines.timing.reader_seconds, self.transport.abort
            )

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
        self.pipeline.clear()
        super().connection_lost(exc)
        self.flow.let_go()

    def _forget_reader(self) -> None:
        if self._reader_deadline is not None:
            self._reader_deadline.cancel()
            self._reader_deadline = None
