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
from realtime.delivery.server.request_cycle import RequestCycle, head_of

log = logging.getLogger(__name__)

#: The parser gets this many bytes before other connections have their turn, and before the bounds are checked: a chunk
#: of a body may be one byte.
_SLICE_BYTES: Final = 8192
_NOTHING: Final = memoryview(b"")
_EARLY_HANDSHAKE: Final = "Wait for the answers to earlier requests before the WebSocket handshake."


def _nothing() -> None:
    """Stands in place of a method of a connection that is gone."""


class _Flow(FlowControl):
    """uvicorn's flow control, but after a pause the bytes that were read already are parsed first. `FlowControl` would
    read more at once, and more after each answer, without a bound.
    """

    def __init__(self, transport: asyncio.Transport, resume_parsing: Callable[[], None]) -> None:
        super().__init__(transport)
        self._resume_parsing = resume_parsing

    def release(self) -> None:
        """Drop the reference to the connection, because the circle of both would stay until the garbage collector
        runs.
        """
        self._resume_parsing = _nothing

    def resume_reading(self) -> None:
        """End a pause, if there is one."""
        if self.read_paused:
            self.read_paused = False
            self._resume_parsing()


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, with deadlines for clients that send or read nothing. A route can cut its connection."""

    flow: _Flow

    def __init__(self, deadlines: Deadlines, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadlines = deadlines
        # Whether the head of the last request is complete, and whether the whole request is; and the number of bytes
        # since then, or since the last piece of a body.
        self._head_is_complete = self._request_is_complete = False
        self._unfinished_bytes = 0
        self._reader_deadline: asyncio.TimerHandle | None = None
        self._ignores_input = self._is_upgraded = self._is_idle = False
        self._handshake: Request | None = None
        # The problem of the head that is being parsed, and the encoded answer that waits for its turn.
        self._problem_of_head: ProblemResponse | None = None
        self._pending_refusal = b""
        self._unparsed = _NOTHING
        self._parsing_is_planned = False
        self._keeps_alive = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport, self._resume_parsing)
        self._update_deadlines()

    def data_received(self, data: bytes) -> None:
        if self._ignores_input:
            return
        self._leave_idle()
        if len(data) <= _SLICE_BYTES and not self._unparsed:
            self._parse_and_check(data)
        else:
            # No frame of the call stack may hold all of the data while a slice is parsed. An exception of the parser
            # keeps every frame until the garbage collector runs.
            self._unparsed = memoryview(bytes(self._unparsed) + data)
            self.transport.pause_reading()
            self._plan_parsing()

    def _plan_parsing(self) -> None:
        if not self._parsing_is_planned:
            self._parsing_is_planned = True
            self.loop.call_soon(self._parse_slice)

    def _parse_slice(self) -> None:
        """Parse a slice, and plan the rest for after other connections' turns. Nothing is parsed while earlier
        requests wait for their answers, or while a route is not ready for more of a body.
        """
        self._parsing_is_planned = False
        if self._ignores_input or self.transport.is_closing():
            self._unparsed = _NOTHING
        if self._unparsed and not self.flow.read_paused:
            data = bytes(self._unparsed[:_SLICE_BYTES])
            self._unparsed = self._unparsed[_SLICE_BYTES:]
            self._parse_and_check(data)
        if not self.flow.read_paused:
            self._resume_parsing()

    def _resume_parsing(self) -> None:
        """Parse the bytes that were read already, or else read more."""
        if self._is_upgraded:
            # The handshake has paused the connection, and decides when more is read.
            return
        if self._unparsed:
            self._plan_parsing()
        elif not self.flow.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def _parse_and_check(self, data: bytes) -> None:
        self._unfinished_bytes += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._refuse(self._problem_of_head or request_heads.not_http())
        else:
            if self._unfinished_bytes > request_heads.HEAD_BYTES:
                self._refuse(
                    request_heads.not_http() if self._head_is_complete else request_heads.too_large()
                )
        # Without a deadline an endless head or body would hold its connection for ever.
        self._update_deadlines()

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

        uvicorn would encode the request again for the parser of websockets, which has other limits. Here the request
        goes over as httptools has parsed it.
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
        self._leave_idle()
        self._head_is_complete = self._request_is_complete = False

    def on_headers_complete(self) -> None:
        """Begin to answer, or queue the request behind those that are not answered yet.

        In place of uvicorn's own, which makes another cycle and knows of mounts and of a limit that are not
        used here.
        """
        self._head_is_complete = True
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
            # The parser stops, and `_parse_and_check` sends the answer.
            self._problem_of_head = refused.problem
            raise
        # Trailers behind a body must not be taken for headers before it.
        self.headers = []
        scope["extensions"] = {ABORT: self.transport.abort, KEEP_SMALL: self._keep_buffers_small}
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

    def _new_cycle(self) -> RequestCycle:
        return RequestCycle(
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

    def _keep_buffers_small(self) -> None:
        keep_buffers_small(self.transport)

    def on_body(self, body: bytes) -> None:
        self._unfinished_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._request_is_complete = True
        self._unfinished_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Begin with the next request where it has come already; else wait for it."""
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())
            elif self._pending_refusal:
                self._send_refusal()
            elif self._head_is_complete and not self._request_is_complete:
                # The answer came before the end of the body, and no route reads the rest.
                self._hang_up()
            elif self._request_is_complete:
                self._is_idle = True
                self._deadlines.idle.enter(self.transport, self.loop)
        self._update_deadlines()

    def _refuse(self, problem: ProblemResponse) -> None:
        """Answer bytes that are no acceptable request with ``problem``, and read no further.

        The answer waits for its turn: earlier requests may still wait for theirs.
        """
        self._ignores_input, self._unparsed, self._handshake = True, _NOTHING, None
        self._pending_refusal = self._encode_problem(problem)
        if (
            self._problem_of_head is None
            and self._is_answering()
            and self._head_is_complete
            and not self._request_is_complete
        ):
            self._drop_newest_request()
        if self._is_answering():
            self.flow.pause_reading()
        else:
            self._send_refusal()

    def _drop_newest_request(self) -> None:
        """Drop the newest request, whose body turned out to be malformed: its route need not go on."""
        cycle: RequestCycle = self.cycle  # type: ignore[assignment]
        if self.pipeline:
            self.pipeline.popleft()
            return
        if cycle.response_started:
            # A second answer would be taken for a part of the first.
            self.transport.abort()
        cycle.abandon()

    def _encode_problem(self, problem: ProblemResponse) -> bytes:
        """The encoded answer, with the headers that every answer has."""
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
            self.transport.write(self._pending_refusal)
            self._hang_up()

    def _hang_up(self) -> None:
        """Close the sending half, and throw away what still comes until the client has closed, too, or its time is
        over. Unread data would make the kernel reset the connection, and the last answer would be lost.
        """
        self._ignores_input = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def _leave_idle(self) -> None:
        """Bytes have come: the connection is not idle any more."""
        self._is_idle = False
        self._deadlines.idle.leave(self.transport)

    def _update_deadlines(self) -> None:
        # While requests wait for their turn nothing is read, so no client can be late.
        waits_for_server = self._is_answering() and (self._request_is_complete or bool(self.pipeline))
        if self._is_upgraded or waits_for_server:
            self._leave_deadlines()
        elif self._is_idle:
            self._deadlines.requests.leave(self.transport)
        else:
            self._deadlines.requests.enter(self.transport, self.loop)

    def _leave_deadlines(self) -> None:
        self._deadlines.requests.leave(self.transport)
        self._deadlines.idle.leave(self.transport)

    def _is_answering(self) -> bool:
        cycle: RequestCycle | None = self.cycle  # type: ignore[assignment]
        return cycle is not None and not cycle.response_complete

    def _should_upgrade(self) -> bool:
        """Whether the request that is being parsed is a WebSocket handshake."""
        return self._handshake is not None

    def _unset_keepalive_if_required(self) -> None:
        """Nothing: uvicorn's own deadline for idle connections is never set."""

    def pause_writing(self) -> None:
        """An answer fills every buffer: a deadline for the reader begins."""
        super().pause_writing()
        if self._reader_deadline is None:
            self._reader_deadline = self.loop.call_later(
                self._deadlines.timing.reader_seconds, self.transport.abort
            )

    def resume_writing(self) -> None:
        """The reader takes more."""
        super().resume_writing()
        self._cancel_reader_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave_deadlines()
        self._cancel_reader_deadline()
        self._unparsed = _NOTHING
        if not self._head_is_complete and self.headers:
            # Thousands of headers would otherwise stay until the garbage collector runs.
            self.headers.clear()
        self.pipeline.clear()
        super().connection_lost(exc)
        self.flow.release()

    def _cancel_reader_deadline(self) -> None:
        if self._reader_deadline is not None:
            self._reader_deadline.cancel()
            self._reader_deadline = None
