"""`GET /api/v1/stream`: the same frames as Server-Sent Events, each with the position to go on from as its
id.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from starlette.datastructures import QueryParams
from starlette.types import Receive, Scope, Send

from auth.identity import Identity
from guardwire.errors import CloseCode
from guardwire.messages import Error, Resume, encode
from realtime.delivery.connection_log import EVENT_STREAM, report_close, reported
from realtime.delivery.http.access import StreamAccess
from realtime.delivery.http.parameters import Authenticate, channels_parameter, position_of, since_parameter
from realtime.delivery.hub import Waiter
from realtime.delivery.sent_state import Frame, count
from realtime.delivery.stream import Close, Outputs, Stream, Timing, retry_after_ms
from realtime.delivery.watched_account import WatchedAccount
from realtime.logs import SESSION_ID
from realtime.metrics import METRICS
from realtime.snapshot import Channels, Snapshot

log = logging.getLogger(__name__)

EVENT_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    # A proxy that compresses would collect events until its own buffer is full.
    (b"cache-control", b"no-store, no-transform"),
    # nginx would collect events until its buffer is full.
    (b"x-accel-buffering", b"no"),
]
#: The scope's extension that cuts the connection; closing it would wait for the stuck reader.
ABORT: Final = "guardwire.abort"
#: The scope's extension that makes the connection's buffers small, so that a stuck reader is noticed early.
KEEP_SMALL: Final = "guardwire.keep_buffers_small"
#: How often a quiet stream asks whether its token still holds, and whether this node is going away.
_LOOK_SECONDS: Final = 1.0


class EventFormat(Protocol):
    """How a stream is written as events."""

    def event(self, frame: Frame, stream: Stream, account: WatchedAccount) -> bytes:
        """``frame`` as an event; empty where nothing is to be written."""

    def end(self, last: Close) -> bytes:
        """The last events of a stream that ends with ``last``."""


class EventStreamEndpoint:
    """GET /api/v1/stream, as an ASGI application."""

    def __init__(self, streams: EventStreams, *, authenticate: Authenticate) -> None:
        self._streams = streams
        self._authenticate = authenticate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the client leaves, its token ends, or it takes nothing for too long."""
        identity = await self._authenticate(scope)
        query = QueryParams(scope["query_string"])
        channels, resume = channels_parameter(query), _last_event_id(scope) or since_parameter(query)
        await self._streams.follow(
            scope, receive, send, identity=identity, channels=channels, resume=resume, form=_FRAMES
        )


class EventStreams:
    """Event streams of a node, in any format."""

    def __init__(self, access: StreamAccess, *, timing: Timing) -> None:
        self._access = access
        # HTTP has no pings: a peer that is gone is noticed when it takes nothing.
        self._timing = dataclasses.replace(timing, ping_seconds=float("inf"))

    async def follow(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        identity: Identity,
        channels: Channels,
        resume: Resume | None = None,
        form: EventFormat,
    ) -> None:
        """Stream the account of ``identity`` in ``form`` until the client leaves, its token ends, or it takes nothing
        for too long.
        """
        async with self._access.following(identity, METRICS.event_streams) as waiter:
            await self._stream(scope, receive, send, waiter, identity, channels, resume, form)

    async def _stream(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        waiter: Waiter,
        identity: Identity,
        channels: Channels,
        resume: Resume | None,
        form: EventFormat,
    ) -> None:
        position = None if resume is None else resume.position
        newest = await waiter.account.snapshot_for(position, self._access.store, time.monotonic())
        self._access.require_valid(identity)  # the read may have taken seconds
        scope["extensions"][KEEP_SMALL]()
        stream = Stream(time.monotonic(), self._timing, secrets.randbits(64), identity)
        SESSION_ID.set(stream.session_id)
        log.debug("a session begins")
        await send({"type": "http.response.start", "status": 200, "headers": EVENT_HEADERS})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        left = asyncio.create_task(_until_left(receive), name="event stream: has the client left?")
        writer = _EventWriter(
            stream,
            partial(form.event, stream=stream, account=waiter.account),
            form.end,
            send=send,
            abort=scope["extensions"][ABORT],
            send_deadline_seconds=self._timing.send_deadline_seconds,
        )
        try:
            with reported(EVENT_STREAM, identity.user_id, stream.session_id):
                await writer.perform(await self._opened(stream, waiter, newest, channels, resume))
                while not left.done() and not stream.has_ended:
                    await waiter.wait(max(0.0, min(stream.next_due - time.monotonic(), _LOOK_SECONDS)))
                    await writer.perform(self._next(stream, waiter, identity))
            if writer.was_cut:
                await left
                return
        finally:
            left.cancel()
        await send({"type": "http.response.body", "body": b""})

    async def _opened(
        self, stream: Stream, waiter: Waiter, newest: Snapshot, channels: Channels, resume: Resume | None
    ) -> Outputs:
        account = waiter.account
        path = await account.path_from(
            None if resume is None else resume.position, newest, self._access.store
        )
        now = time.monotonic()
        return stream.open(
            newest,
            account.freshness(now),
            now,
            channels=channels,
            resume=resume,
            path=path,
            stale=account.stale,
        )

    def _next(self, stream: Stream, waiter: Waiter, identity: Identity) -> Outputs:
        if self._access.drain.should_leave():
            return stream.draining(retry_after_ms(CloseCode.DRAINING))
        reason = self._access.recheck(identity)
        if reason is not None:
            return stream.revoked(reason)
        now = time.monotonic()
        outputs = waiter.feed(stream, now)
        return [*outputs, *stream.tick(now, time.time(), waiter.account.freshness(now))]


class _EventWriter:
    """Writes what a stream answers as the events that ``event`` and ``end`` make; ``abort`` cuts the connection of a
    reader that takes nothing.
    """

    def __init__(
        self,
        stream: Stream,
        event: Callable[[Frame], bytes],
        end: Callable[[Close], bytes],
        *,
        send: Send,
        abort: Callable[[], None],
        send_deadline_seconds: float,
    ) -> None:
        self._stream = stream
        self._event = event
        self._end = end
        self._send = send
        self._abort = abort
        self._send_deadline_seconds = send_deadline_seconds
        self.was_cut = False

    async def perform(self, outputs: Outputs) -> None:
        """Do what the stream answered; a reader that takes nothing until the send deadline is cut."""
        try:
            for output in outputs:
                if isinstance(output, Frame):
                    await self._write_frame(output)
                elif isinstance(output, Close):
                    self._report(output)
                    await self._write(self._end(output))
        except TimeoutError:
            for last in self._stream.too_slow():
                assert isinstance(last, Close)
                self._report(last)
            self.was_cut = True
            self._abort()

    def _report(self, last: Close) -> None:
        METRICS.closes.add(1, str(last.code.value))
        identity = self._stream.identity
        assert identity is not None
        report_close(EVENT_STREAM, identity.user_id, self._stream.session_id, last.code.value)

    async def _write_frame(self, frame: Frame) -> None:
        event = self._event(frame)
        if event:
            count(frame)
        await self._write(event)

    async def _write(self, event: bytes) -> None:
        if not event:
            return
        async with asyncio.timeout(self._send_deadline_seconds):
            await self._send({"type": "http.response.body", "body": event, "more_body": True})


class _Frames:
    """The frames of `/ws` as events, each with the position that the client holds after it as its id."""

    def event(self, frame: Frame, stream: Stream, account: WatchedAccount) -> bytes:
        """See `EventFormat`. A frame that says nothing of the account has no id."""
        # JSON text holds no line break, so one data line carries it.
        if frame.epoch < 0:
            return b"data: %s\n\n" % frame.payload
        return b"id: %d:%d\ndata: %s\n\n" % (frame.epoch, frame.revision, frame.payload)

    def end(self, last: Close) -> bytes:
        """See `EventFormat`."""
        error = last_error(last)
        return retry_field(last) + (b"" if error is None else b"data: %s\n\n" % encode(error))


_FRAMES: Final = _Frames()


def retry_field(last: Close) -> bytes:
    """How long a browser's `EventSource` is to wait before it comes back; empty where it need not wait."""
    return b"" if last.retry_after_ms is None else b"retry: %d\n\n" % last.retry_after_ms


def last_error(last: Close) -> Error | None:
    """The error frame with which an event stream ends; None where the client may simply come back."""
    match last.code:
        case CloseCode.DRAINING:
            hint_ms = last.retry_after_ms
            return Error(code="draining", message=last.reason, retry=True, retry_after_ms=hint_ms)
        case CloseCode.TOKEN_EXPIRED:
            return Error(code="token_expired", message=last.reason, retry=True)
        case CloseCode.FORBIDDEN:
            return Error(code="revoked", message=last.reason, retry=False)
        case CloseCode.UNAUTHENTICATED:
            return Error(code="unauthenticated", message=last.reason, retry=False)
        case _:
            return None


def _last_event_id(scope: Scope) -> Resume | None:
    """The position in ``Last-Event-ID``; None without one, and for one that is not ours, which gets a
    snapshot.
    """
    for name, value in scope["headers"]:
        if name == b"last-event-id":
            return position_of(value.decode("latin-1").strip())
    return None


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
