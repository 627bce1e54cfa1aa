"""`GET /api/v1/state`: the snapshot as one frame, or with `since` the next update, waited for (a poll)."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from auth.identity import Identity
from auth.refusals import Reason, refusal
from guardwire.messages import Resume
from guardwire.state import CHANNELS
from realtime.delivery.drain import Drain
from realtime.delivery.http.parameters import channels_parameter, since_parameter
from realtime.delivery.http.responses import (
    Answer,
    Whole,
    freshness_headers,
    not_modified,
    respond,
    send_whole,
    strong_tag,
    whole,
)
from realtime.delivery.hub import Hub, Waiter
from realtime.delivery.limits import Admission
from realtime.delivery.stream import Session, count_snapshot
from realtime.delivery.watched_account import Store, Watch
from realtime.metrics import METRICS
from realtime.snapshot import Snapshot

MAX_WAIT_SECONDS: Final = 55.0
#: How often a waiting poll looks whether this node is going away, and whether its token still holds.
_LOOK_SECONDS: Final = 1.0

_NO_QUERY: Final = QueryParams()


class StateEndpoint:
    """GET /api/v1/state, as an ASGI application."""

    def __init__(
        self,
        *,
        hub: Hub,
        store: Store | None,
        authenticate: Callable[[Scope], Awaitable[Identity]],
        known: Callable[[Scope], Identity | None],
        recheck: Callable[[Identity], Reason | None],
        admission: Admission,
        drain: Drain,
    ) -> None:
        self._hub = hub
        self._store = store
        self._authenticate = authenticate
        self._known = known
        self._recheck = recheck
        self._admission = admission
        self._drain = drain

    def at_once(self, scope: Scope) -> Whole | None:
        """The newest state, where neither its caller's token nor the state must be waited for; else None."""
        if scope["query_string"]:
            return None
        identity = self._known(scope)
        if identity is None:
            return None
        watch = self._hub.reading(identity.user_id)
        newest = watch.own_snapshot
        return None if newest is None else _newest(scope, Session(identity.user_id, CHANNELS), watch, newest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        identity = await self._authenticate(scope)
        query = QueryParams(scope["query_string"]) if scope["query_string"] else _NO_QUERY
        since, wait_seconds = since_parameter(query), _wait_parameter(query)
        session = Session(identity.user_id, channels_parameter(query))
        if since is None:
            watch = self._hub.reading(identity.user_id)
            newest = await watch.first_snapshot(self._store, time.monotonic())
            await send_whole(send, _newest(scope, session, watch, newest))
        else:
            # A held connection is a stream in disguise, so it counts as one.
            self._drain.refuse()
            async with self._admission.admitted(identity.user_id):
                held = self._drain.holding(METRICS.long_polls)
                with held, Waiter.attached(self._hub, identity.user_id) as waiter:
                    await self._poll(scope, send, waiter, identity, session, since, wait_seconds)

    async def _poll(
        self,
        scope: Scope,
        send: Send,
        waiter: Waiter,
        identity: Identity,
        session: Session,
        since: Resume,
        wait_seconds: float,
    ) -> None:
        """One update from ``since``; 304 when nothing changed in time; a snapshot where history does not
        reach back. Raises AuthenticationError when the token ends meanwhile.
        """
        watch = waiter.watch
        newest = await watch.snapshot_for(since.position, self._store, time.monotonic())
        path = None
        if since.epoch == newest.epoch:
            path = await watch.path_from(since.revision, newest, self._store)
        now = time.monotonic()
        if path is None or len(path) > 1:
            # Patches do not compose, so many steps cannot be one update.
            count_snapshot(since, newest)
            payload: bytes | None = session.snapshot(newest, watch.freshness(now))
        else:
            frames = session.resume(since.revision, session.channels, path, newest, watch.freshness(now))
            payload = next((frame for frame in frames if b'"type":"update"' in frame[:20]), None)
            session.revision = since.revision if payload is None else session.revision
        told_stale, deadline = watch.stale, now + wait_seconds
        while payload is None and watch.stale == told_stale and (left := deadline - time.monotonic()) > 0:
            if self._drain.asks_to_leave():
                break
            await waiter.wait(min(left, _LOOK_SECONDS))
            reason = self._recheck(identity)
            if reason is not None:
                raise refusal(reason)
            assert watch.snapshot is not None
            payload = session.update(watch.snapshot, watch.freshness(time.monotonic()))
        held = session.held
        assert held is not None
        await self._answer(scope, send, watch, held, payload)

    async def _answer(
        self, scope: Scope, send: Send, watch: Watch, shown: Snapshot, payload: bytes | None
    ) -> None:
        fresh = watch.freshness(time.monotonic())
        tag = strong_tag(shown.epoch, shown.revision)
        if payload is None:
            headers = freshness_headers(tag, shown.revision, fresh, stale=watch.stale)
            await send_whole(send, not_modified(headers))
        else:
            await respond(scope, send, Answer(tag, shown.revision, payload), fresh, stale=watch.stale)


def _newest(scope: Scope, session: Session, watch: Watch, newest: Snapshot) -> Whole:
    fresh = watch.freshness(time.monotonic())
    tag = strong_tag(newest.epoch, newest.revision)
    answer = Answer(tag, newest.revision, session.snapshot(newest, fresh))
    return whole(scope, answer, fresh, stale=watch.stale)


def _wait_parameter(query: QueryParams) -> float:
    text = query.get("wait", "0")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_WAIT_SECONDS:
        raise HTTPException(422, f"`wait` must be 0 to {MAX_WAIT_SECONDS:.0f} seconds.")
    return seconds
