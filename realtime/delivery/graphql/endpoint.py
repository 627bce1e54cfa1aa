"""`POST /graphql`: a query is answered at once, and a subscription as Server-Sent Events (graphql-sse, "distinct
connections mode").
"""

from __future__ import annotations

import time
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from auth.identity import Identity
from guardwire.errors import CloseCode
from realtime.delivery.graphql.answers import answer, error_of_close, errors_of, result
from realtime.delivery.graphql.bounds import MAX_REQUEST_BYTES
from realtime.delivery.graphql.operations import Operations
from realtime.delivery.graphql.plan import Plan
from realtime.delivery.graphql.schema import Shown
from realtime.delivery.graphql.subscription import Subscription
from realtime.delivery.http.account import SnapshotReader
from realtime.delivery.http.bodies import read_body
from realtime.delivery.http.middleware import ANSWERING
from realtime.delivery.http.parameters import Authenticate
from realtime.delivery.http.responses import CompleteResponse, send_complete
from realtime.delivery.http.stream import EVENT_HEADERS, EventStreams, retry_field
from realtime.delivery.security_headers import RawHeaders
from realtime.delivery.sent_state import Frame
from realtime.delivery.stream import Close, Stream
from realtime.delivery.watched_account import WatchedAccount

_JSON: Final = b"application/json"
#: The media type of GraphQL over HTTP, for clients that name it.
_GRAPHQL: Final = b"application/graphql-response+json"
_EVENTS: Final = b"text/event-stream"
_NEEDS_EVENTS: Final = (
    "A subscription is answered as Server-Sent Events: send `Accept: text/event-stream`, or use a WebSocket."
)
_NEEDS_JSON: Final = "The body is JSON: send `Content-Type: application/json`."


class GraphQLEndpoint:
    """POST /graphql, as an ASGI application."""

    def __init__(
        self,
        *,
        reader: SnapshotReader,
        streams: EventStreams,
        operations: Operations,
        authenticate: Authenticate,
    ) -> None:
        self._reader = reader
        self._streams = streams
        self._operations = operations
        self._authenticate = authenticate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; every problem is a GraphQL error, with the status that REST has for it."""
        headers = dict(scope["headers"])
        try:
            identity = await self._authenticate(scope)
            if not headers.get(b"content-type", b"").lower().startswith(_JSON):
                raise HTTPException(400, _NEEDS_JSON)
            body = await read_body(receive, most_bytes=MAX_REQUEST_BYTES)
            plan = self._operations.plan(body, identity.user_id)
            await self._answer(scope, receive, send, identity, plan, headers.get(b"accept", b""))
        except Exception as error:
            if ANSWERING in scope:
                raise
            errors, problem = errors_of(error, scope)
            added = [(name.encode(), value.encode("latin-1")) for name, value in problem.headers.items()]
            document = answer({"errors": errors})
            await _send(send, problem.kind.status, document, headers.get(b"accept", b""), added)

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, identity: Identity, plan: Plan, accept: bytes
    ) -> None:
        if plan.kind == "subscription":
            if _EVENTS not in accept:
                raise HTTPException(400, _NEEDS_EVENTS)
            form = _Events(Subscription(plan, identity.user_id))
            await self._streams.follow(
                scope, receive, send, identity=identity, channels=plan.channels, form=form
            )
            return
        reading = await self._reader.read(identity.user_id)
        shown = Shown(reading.snapshot, reading.fresh, reading.stale)
        document = answer(result(plan, shown, identity.user_id))
        if _EVENTS in accept:
            events = _next(document) + _COMPLETE
            await send_complete(send, CompleteResponse(200, EVENT_HEADERS, events))
        else:
            await _send(send, 200, document, accept, [])


async def _send(send: Send, status: int, document: bytes, accept: bytes, added: RawHeaders) -> None:
    headers = [
        (b"content-type", _GRAPHQL if _GRAPHQL in accept else _JSON),
        (b"content-length", b"%d" % len(document)),
        (b"cache-control", b"no-store"),
        *added,
    ]
    await send_complete(send, CompleteResponse(status, headers, document))


#: The codes after which the client needs another token, or may not come back.
_FINAL: Final = (CloseCode.TOKEN_EXPIRED, CloseCode.UNAUTHENTICATED, CloseCode.FORBIDDEN)
_COMPLETE: Final = b"event: complete\ndata:\n\n"
#: A comment, by which proxies and the kernel notice that the connection lives, or that it does not.
_COMMENT: Final = b":\n\n"


def _next(document: bytes) -> bytes:
    # JSON text holds no line break, so one data line carries it.
    return b"event: next\ndata: %s\n\n" % document


class _Events:
    """The results of a subscription as events; see `EventFormat`."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    def event(self, frame: Frame, stream: Stream, account: WatchedAccount) -> bytes:
        """See `EventFormat`."""
        if frame.type not in ("snapshot", "update", "heartbeat"):
            return b""
        fresh = account.freshness(time.monotonic())
        shown = self._subscription.result(frame, stream.shown, fresh, is_stale=account.stale)
        return _COMMENT if shown is None else _next(answer(shown))

    def end(self, last: Close) -> bytes:
        """See `EventFormat`. Without a `complete` the client takes the connection for lost, and subscribes again."""
        if last.code not in _FINAL:
            return retry_field(last)
        return _next(answer({"errors": [error_of_close(last)]})) + _COMPLETE
