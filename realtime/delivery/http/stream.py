"""`GET /api/v1/stream`: the same frames as Server-Sent Events, each with the position to go on from as its
id.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.datastructures import QueryParams
from starlette.types import Receive, Scope, Send

from auth.identity import Identity
from auth.refusals import Reason, close_code, refusal
from guardwire.errors import CloseCode
from guardwire.messages import AuthRequired, Error, Resume, Welcome, encode
from realtime.delivery.connection_log import EVENT_STREAM, report_close, reported
from realtime.delivery.drain import Drain
from realtime.delivery.http.parameters import channels_parameter, position_of, since_parameter
from realtime.delivery.hub import Hub, Waiter
from realtime.delivery.limits import Admission
from realtime.delivery.stream import Session, count_snapshot, retry_after_ms
from realtime.delivery.watched_account import Store
from realtime.logs import SESSION_ID
from realtime.metrics import METRICS
from realtime.snapshot import Channels

log = logging.getLogger(__name__)

_HEADERS: Final = [
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
_AUTH_WARNING_SECONDS: Final = 60
#: How often a quiet stream looks whether its token still holds.
_LOOK_SECONDS: Final = 1.0


class EventStreamEndpoint:
    """GET /api/v1/stream, as an ASGI application."""

    def __init__(
        self,
        *,
        hub: Hub,
        store: Store | None,
        authenticate: Callable[[Scope], Awaitable[Identity]],
        recheck: Callable[[Identity], Reason | None],
        drain: Drain,
        heartbeat_seconds: float,
        send_deadline_seconds: float,
        admission: Admission,
    ) -> None:
        self._hub = hub
        self._store = store
        self._authenticate = authenticate
        self._recheck = recheck
        self._drain = drain
        self._heartbeat_seconds = heartbeat_seconds
        self._send_deadline_seconds = send_deadline_seconds
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the client leaves, its token ends, or it takes nothing for too long."""
        identity = await self._authenticate(scope)
        self._drain.refuse()
        query = QueryParams(scope["query_string"])
        channels, resume = channels_parameter(query), _last_event_id(scope) or since_parameter(query)
        async with self._admission.admitted(identity.user_id):
            await self._stream(scope, receive, send, identity, channels, resume)

    async def _stream(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        identity: Identity,
        channels: Channels,
        resume: Resume | None,
    ) -> None:
        held = self._drain.holding(METRICS.event_streams)
        with held, Waiter.attached(self._hub, identity.user_id) as waiter:
            position = None if resume is None else resume.position
            await waiter.watch.snapshot_for(position, self._store, time.monotonic())
            reason = self._recheck(identity)
            if reason is not None:  # the read may have taken seconds
                raise refusal(reason)
            scope["extensions"][KEEP_SMALL]()
            session_id = secrets.token_hex(8)
            SESSION_ID.set(session_id)
            log.debug("a session begins")
            stream = _EventStream(waiter, identity, session_id, channels, send, self._send_deadline_seconds)
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b""})
                return
            left = asyncio.create_task(_until_left(receive), name="event stream: has the client left?")
            try:
                with reported(EVENT_STREAM, identity.user_id, session_id):
                    await stream.open(resume, self._store, heartbeat_seconds=self._heartbeat_seconds)
                    while not left.done() and not await self._ended(stream, identity):
                        await stream.go_on(self._heartbeat_seconds)
            except TimeoutError:
                METRICS.slow_readers.add()
                scope["extensions"][ABORT]()
                await left
                return
            finally:
                left.cancel()
            await send({"type": "http.response.body", "body": b""})

    async def _ended(self, stream: _EventStream, identity: Identity) -> bool:
        reason = self._recheck(identity)
        if self._drain.asks_to_leave():
            code = CloseCode.DRAINING
            hint = retry_after_ms(100, 2000)
            error = Error(
                code="draining", message="the server is restarting", retry=True, retry_after_ms=hint
            )
            await stream.hint(hint)
        elif reason is not None:
            code, error = close_code(refusal(reason)), _last_frame(reason)
        else:
            return False
        METRICS.closes.add(1, str(code.value))
        report_close(EVENT_STREAM, identity.user_id, SESSION_ID.get(), code.value)
        await stream.say(error)
        return True


class _EventStream:
    """One open stream; writing waits for the reader, and meanwhile only the hub's pointer moves on."""

    def __init__(
        self,
        waiter: Waiter,
        identity: Identity,
        session_id: str,
        channels: Channels,
        send: Send,
        deadline_seconds: float,
    ) -> None:
        self._session_id = session_id
        self._waiter = waiter
        self._identity = identity
        self._session = Session(identity.user_id, channels)
        self._send = send
        self._deadline_seconds = deadline_seconds
        self._sent_at = 0.0
        self._told_stale = False
        self._warned = False

    async def open(self, resume: Resume | None, store: Store | None, *, heartbeat_seconds: float) -> None:
        """Say welcome, then what the client has not got."""
        session, watch = self._session, self._waiter.watch
        newest = watch.snapshot
        assert newest is not None
        path = None
        if resume is not None and resume.epoch == newest.epoch:
            path = await watch.path_from(resume.revision, newest, store)
        await self.say(
            Welcome(
                session=self._session_id,
                epoch=newest.epoch,
                channels=session.channels,  # type: ignore[arg-type]
                expires_at=int(self._identity.expires_at),
                heartbeat_seconds=heartbeat_seconds,
                resumed=path is not None,
            )
        )
        fresh = watch.freshness(time.monotonic())
        if resume is None or path is None:
            count_snapshot(resume, newest)
            await self._event(session.snapshot(newest, fresh))
        else:
            for payload in session.resume(resume.revision, session.channels, path, newest, fresh):
                await self._event(payload)

    async def go_on(self, heartbeat_seconds: float) -> None:
        """Wait a moment for news and tell it; a heartbeat when nothing else was sent for long enough."""
        await self._waiter.wait(_LOOK_SECONDS)
        watch = self._waiter.watch
        assert watch.snapshot is not None
        now = time.monotonic()
        update = self._session.update(watch.snapshot, watch.freshness(now))
        if update is not None:
            METRICS.updates.add(1, "update")
            await self._event(update)
        if watch.stale != self._told_stale or now - self._sent_at > heartbeat_seconds - _LOOK_SECONDS / 2:
            self._told_stale = watch.stale
            METRICS.updates.add(1, "heartbeat")
            await self._event(self._session.heartbeat(watch.freshness(now), stale=watch.stale))
        if not self._warned and self._identity.expires_at - time.time() < _AUTH_WARNING_SECONDS:
            self._warned = True
            await self.say(AuthRequired(expires_at=int(self._identity.expires_at)))

    async def say(self, frame: Welcome | Error | AuthRequired) -> None:
        """A frame that is not part of the state, so it has no id."""
        await self._write(b"data: %s\n\n" % encode(frame))

    async def hint(self, milliseconds: int) -> None:
        """How long a browser's `EventSource` is to wait before it comes back."""
        await self._write(b"retry: %d\n\n" % milliseconds)

    async def _event(self, payload: bytes) -> None:
        held = self._session.held
        assert held is not None
        # JSON text holds no line break, so one data line carries it.
        await self._write(b"id: %d:%d\ndata: %s\n\n" % (held.epoch, self._session.revision, payload))

    async def _write(self, event: bytes) -> None:
        self._sent_at = time.monotonic()
        async with asyncio.timeout(self._deadline_seconds):
            await self._send({"type": "http.response.body", "body": event, "more_body": True})


def _last_frame(reason: Reason) -> Error:
    """How an event stream ends whose token holds no longer for ``reason``."""
    message = str(refusal(reason))
    if reason == "expired":
        return Error(code="token_expired", message=message, retry=True)
    if reason == "revoked":
        return Error(code="revoked", message=message, retry=False)
    return Error(code="unauthenticated", message=message, retry=False)


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
