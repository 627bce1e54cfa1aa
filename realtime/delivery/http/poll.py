"""`GET /api/v1/state`: the snapshot as one frame, or with `since` the next update, waited for (a poll)."""

from __future__ import annotations

import secrets
import time
from typing import Final

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from auth.identity import Identity
from guardwire.messages import Resume
from guardwire.state import DEFAULT_CHANNELS
from realtime.delivery.http.access import StreamAccess
from realtime.delivery.http.parameters import Authenticate, channels_parameter, since_parameter
from realtime.delivery.http.responses import (
    Answer,
    freshness_headers,
    not_modified,
    respond,
    send_complete,
    strong_tag,
)
from realtime.delivery.hub import Waiter
from realtime.delivery.sent_state import Frame, SentState, count
from realtime.delivery.stream import Close, Output, Stream, Timing
from realtime.delivery.watched_account import WatchedAccount
from realtime.errors import UnavailableError
from realtime.metrics import METRICS
from realtime.snapshot import Channels, Freshness

MAX_WAIT_SECONDS: Final = 55.0
#: How often a waiting poll asks whether this node is going away, and whether its token still holds.
_LOOK_SECONDS: Final = 1.0

#: A poll has no heartbeats, no pings and a time of its own to wait.
_TIMING: Final = Timing(ping_seconds=float("inf"))


class StateEndpoint:
    """GET /api/v1/state, as an ASGI application."""

    def __init__(self, access: StreamAccess, *, authenticate: Authenticate) -> None:
        self._access = access
        self._authenticate = authenticate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        identity = await self._authenticate(scope)
        if not scope["query_string"]:
            await self._answer_newest(scope, send, identity, DEFAULT_CHANNELS)
            return
        query = QueryParams(scope["query_string"])
        since, wait_seconds = since_parameter(query), _wait_parameter(query)
        channels = channels_parameter(query)
        if since is None:
            await self._answer_newest(scope, send, identity, channels)
            return
        # A held connection is a stream in disguise, so it counts as one.
        async with self._access.following(identity, METRICS.long_polls) as waiter:
            first, stream = await self._poll(waiter, identity, channels, since, wait_seconds)
            await _answer_poll(scope, send, waiter.account, first, stream)

    async def _answer_newest(self, scope: Scope, send: Send, identity: Identity, channels: Channels) -> None:
        account = self._access.hub.reading(identity.user_id)
        newest = account.snapshot or await account.first_snapshot(self._access.store, time.monotonic())
        fresh = account.freshness(time.monotonic())
        frame = SentState(identity.user_id, channels, newest).whole(newest, fresh)
        await _respond(scope, send, frame, fresh, stale=account.stale)

    async def _poll(
        self, waiter: Waiter, identity: Identity, channels: Channels, since: Resume, wait_seconds: float
    ) -> tuple[Output | None, Stream]:
        """The first output of the stream from ``since`` on: None when nothing came in time, an update, a snapshot, a
        heartbeat because freshness changed, or a close. Raises AuthenticationError when the token ends meanwhile.
        """
        account = waiter.account
        newest = await account.snapshot_for(since.position, self._access.store, time.monotonic())
        path = await account.path_from(since.position, newest, self._access.store)
        now = time.monotonic()
        stream = Stream(now, _TIMING, secrets.randbits(64), identity)
        outputs = stream.open_for_poll(
            newest, account.freshness(now), channels=channels, since=since, path=path, stale=account.stale
        )
        # A newer snapshot may have come while the path was read.
        outputs = outputs or waiter.feed(stream, now)
        deadline = now + wait_seconds
        while not outputs and (left_seconds := deadline - time.monotonic()) > 0:
            if self._access.drain.should_leave():
                break
            await waiter.wait(min(left_seconds, _LOOK_SECONDS))
            self._access.require_valid(identity)
            outputs = waiter.feed(stream, time.monotonic())
        return outputs[0] if outputs else None, stream


async def _answer_poll(
    scope: Scope, send: Send, account: WatchedAccount, first: Output | None, stream: Stream
) -> None:
    """Answer a poll: with the frame that its stream gave, or 304 where that says nothing new of the state."""
    if isinstance(first, Close):
        raise UnavailableError
    fresh = account.freshness(time.monotonic())
    if isinstance(first, Frame) and first.type != "heartbeat":
        count(first)
        await _respond(scope, send, first, fresh, stale=account.stale)
    else:
        tag = strong_tag(stream.shown.epoch, stream.shown.revision)
        headers = freshness_headers(tag, stream.shown.revision, fresh, stale=account.stale)
        await send_complete(send, not_modified(headers))


async def _respond(scope: Scope, send: Send, frame: Frame, fresh: Freshness, *, stale: bool) -> None:
    answer = Answer(strong_tag(frame.epoch, frame.revision), frame.revision, frame.payload)
    await respond(scope, send, answer, fresh, stale=stale)


def _wait_parameter(query: QueryParams) -> float:
    text = query.get("wait", "0")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_WAIT_SECONDS:
        raise HTTPException(422, f"`wait` must be 0 to {MAX_WAIT_SECONDS:.0f} seconds.")
    return seconds
