"""`/graphql` over WebSocket, in the protocol `graphql-transport-ws`. The former protocol of the name `graphql-ws` is
refused at the handshake: its servers could be made to skip authentication.

A `GraphQLSocket` is a `Socket` whose messages are of that protocol. Its stream decides what it decides for `/ws`:
tokens, heartbeats, pings, deadlines and the end. It follows no channel itself; each subscription has what was sent to
it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from enum import IntEnum
from functools import partial
from typing import Any, ClassVar, Final, Literal, NamedTuple, assert_never
from uuid import UUID

import msgspec
from starlette.exceptions import HTTPException
from starlette.websockets import WebSocket

from guardwire.errors import CloseCode
from guardwire.messages import Hello, encode
from realtime.delivery.graphql.answers import Document, error_of, request_errors, result
from realtime.delivery.graphql.bounds import SUBSCRIPTIONS_PER_SOCKET
from realtime.delivery.graphql.operations import Operations, RequestErrors
from realtime.delivery.graphql.plan import Plan
from realtime.delivery.graphql.schema import Shown
from realtime.delivery.graphql.subscription import Subscription
from realtime.delivery.http.problems import TOO_MANY_REQUESTS
from realtime.delivery.sent_state import Frame, SentState
from realtime.delivery.stream import Close, Outputs, close_after
from realtime.delivery.websocket.connection import Socket
from realtime.delivery.websocket.conversation import OpenSockets
from realtime.delivery.websocket.endpoint import AuthenticateHandshake, WebSocketEndpoint
from realtime.errors import StreamClosed
from realtime.owners import WrongOwner
from realtime.snapshot import Channels, Freshness, Snapshot

log = logging.getLogger(__name__)

SUBPROTOCOL: Final = "graphql-transport-ws"
_OTHER_SUBPROTOCOL: Final = (
    f"This is spoken as the WebSocket subprotocol `{SUBPROTOCOL}`: offer it in `Sec-WebSocket-Protocol`."
    " The older `graphql-ws` is not spoken here."
)
_TOO_MANY: Final = f"A socket may have {SUBSCRIPTIONS_PER_SOCKET} subscriptions: complete one first."


class ProtocolCode(IntEnum):
    """Close codes of the protocol that mean something else on `/ws`, or nothing."""

    NO_INIT = 4408
    SUBSCRIBER_EXISTS = 4409
    TOO_MANY_INITS = 4429


def _translated(last: Close) -> Close:
    """``last`` with a code that means the same to clients of this protocol."""
    if last.code is CloseCode.NO_HELLO:
        return last._replace(code=ProtocolCode.NO_INIT)
    # The number of `/ws` for too many connections says here that an operation of this id is running.
    if last.code is CloseCode.TOO_MANY_CONNECTIONS:
        return last._replace(code=CloseCode.OVERLOADED)
    return last


class _Message(msgspec.Struct, frozen=True, tag_field="type", rename="camel"):
    """A message of a client; unknown fields are ignored, as the protocol allows any."""


class Credentials(msgspec.Struct, frozen=True):
    """The payload of ``connection_init``; ``token`` may be left out where a header carries it."""

    token: str | None = None


class ConnectionInit(_Message, frozen=True, tag="connection_init"):
    """The first message."""

    payload: Credentials | None = None


class Ping(_Message, frozen=True, tag="ping"):
    """Asks for a pong."""


class Pong(_Message, frozen=True, tag="pong"):
    """Answers a ping, or nothing."""


class Subscribe(_Message, frozen=True, tag="subscribe"):
    """Execute an operation; ``payload`` is a request as over HTTP."""

    id: str
    payload: msgspec.Raw


class Complete(_Message, frozen=True, tag="complete"):
    """The client wants no more results."""

    id: str


_decode: Final = msgspec.json.Decoder(ConnectionInit | Ping | Pong | Subscribe | Complete).decode
_ACK: Final = b'{"type":"connection_ack"}'
_PONG: Final = b'{"type":"pong"}'


class _Running(NamedTuple):
    """A subscription of a socket, and the state that it has been sent."""

    subscription: Subscription
    sent: SentState


class GraphQLSocket(Socket):
    """The transport of one client of `/graphql`, see above."""

    __slots__ = ("_is_acknowledged", "_is_greeted", "_operations", "_running")

    def __init__(self, *args: Any, operations: Operations, **options: Any) -> None:
        super().__init__(*args, **options)
        self._operations = operations
        self._running: dict[str, _Running] = {}
        self._is_greeted = self._is_acknowledged = False

    @property
    def may_move(self) -> bool:
        """False: the protocol has no message for it."""
        return False

    # The hub's side.

    def wake(self, newest: Snapshot, fresh: Freshness, now: float) -> None:
        """A newer snapshot is there: send each subscription its next result."""
        super().wake(newest, fresh, now)
        self._advance(newest, fresh)

    def _advance(self, newest: Snapshot, fresh: Freshness) -> None:
        with self._ending_on_failure():
            for name, running in tuple(self._running.items()):
                if self.stream.blocked_since is not None or self.stream.has_ended:
                    # One result follows for all changes meanwhile, if any.
                    return
                frame = running.sent.update(newest, fresh)
                if frame is not None:
                    self._send_result(name, running, frame, fresh)

    # The stream's outputs.

    def perform(self, outputs: Outputs) -> None:
        """Perform ``outputs`` in the words of this protocol."""
        for output in outputs:
            if isinstance(output, Close):
                super().perform([_translated(output)])
            elif not isinstance(output, Frame):
                super().perform([output])
            elif output.type == "welcome":
                self._acknowledge()
            elif output.type == "heartbeat":
                self._beat(output)

    def _acknowledge(self) -> None:
        """Answer the client's ``connection_init``, once it came and the stream is open."""
        if self._is_greeted and self.stream.is_open and not self._is_acknowledged:
            self._is_acknowledged = True
            self._send("welcome", _ACK)

    def _beat(self, heartbeat: Frame) -> None:
        with self._ending_on_failure():
            for name, running in tuple(self._running.items()):
                self._send_result(name, running, heartbeat, self._freshness(time.monotonic()))

    def _send_result(self, name: str, running: _Running, frame: Frame, fresh: Freshness) -> None:
        assert self.account is not None
        shown = running.subscription.result(frame, running.sent.snapshot, fresh, is_stale=self.account.stale)
        if shown is not None:
            payload = _message("next", name, shown)
            super().perform([Frame(frame.type, payload, frame.epoch, frame.revision)])

    def _send(self, kind: Literal["welcome", "heartbeat", "error"], payload: bytes) -> None:
        super().perform([Frame(kind, payload)])

    def _refuse(self, name: str, errors: Sequence[Document]) -> None:
        self._send("error", _message("error", name, errors))

    @contextlib.contextmanager
    def _ending_on_failure(self) -> Iterator[None]:
        """An unforeseen error ends the stream of this client alone."""
        try:
            yield
        except WrongOwner as error:
            self.perform(self.stream.close(close_after(error)))
        except Exception as error:
            log.exception("a subscription failed")
            self.perform(self.stream.close(close_after(error)))

    # The client's messages.

    def take_text(self, text: str, now: float) -> None:
        """Answer a message of the client; raises StreamClosed for one that is malformed."""
        try:
            message = _decode(text)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise StreamClosed(CloseCode.MALFORMED, f"malformed message: {error}") from None
        match message:
            case ConnectionInit():
                self._greet(message, now)
            case Subscribe():
                with self._ending_on_failure():
                    self._subscribe(message, now)
            case Complete():
                self._running.pop(message.id, None)
            case Ping():
                self._send("heartbeat", _PONG)
            case Pong():
                pass
            case _:
                assert_never(message)

    def _greet(self, message: ConnectionInit, now: float) -> None:
        if self._is_greeted:
            why = "there may be one connection_init, and it comes first"
            self.perform(self.stream.close(Close(ProtocolCode.TOO_MANY_INITS, why)))
            return
        self._is_greeted = True
        token = None if message.payload is None else message.payload.token
        self.hear(Hello(token=token, channels=()), now)
        self._acknowledge()

    def _subscribe(self, message: Subscribe, now: float) -> None:
        identity, account = self.stream.identity, self.account
        if not self._is_acknowledged or identity is None or account is None:
            why = "the first message must be a connection_init, and connection_ack its answer"
            self.perform(self.stream.close(Close(CloseCode.UNAUTHENTICATED, why)))
            return
        if message.id in self._running:
            why = "an operation of this id is running"
            self.perform(self.stream.close(Close(ProtocolCode.SUBSCRIBER_EXISTS, why)))
            return
        try:
            plan = self._operations.plan(bytes(message.payload), identity.user_id)
        except RequestErrors as error:
            self._refuse(message.id, request_errors(error.errors))
        except HTTPException as error:
            self._refuse(message.id, [error_of(TOO_MANY_REQUESTS, error.detail)])
        else:
            assert account.snapshot is not None
            self._execute(message.id, plan, identity.user_id, account.snapshot, self._freshness(now))

    def _execute(self, name: str, plan: Plan, user_id: UUID, newest: Snapshot, fresh: Freshness) -> None:
        if plan.kind == "query":
            assert self.account is not None
            shown = result(plan, Shown(newest, fresh, self.account.stale), user_id)
            self._send("heartbeat", _message("next", name, shown))
            self._send("heartbeat", b'{"id":%s,"type":"complete"}' % encode(name))
        elif len(self._running) >= SUBSCRIPTIONS_PER_SOCKET:
            self._refuse(name, [error_of(TOO_MANY_REQUESTS, _TOO_MANY)])
        else:
            sent = SentState(user_id, plan.channels, newest)
            running = self._running[name] = _Running(Subscription(plan, user_id), sent)
            self._send_result(name, running, sent.whole(newest, fresh), fresh)

    # The transport's side.

    def resume_writing(self) -> None:
        """The client takes more: send each subscription one result for all changes meanwhile."""
        super().resume_writing()
        if self.account is not None and self.account.snapshot is not None:
            self._advance(self.account.snapshot, self._freshness(time.monotonic()))

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, and nothing of the account is kept."""
        self._running.clear()
        super().connection_lost(exc)


def _message(kind: str, name: str, payload: Document | Sequence[Document]) -> bytes:
    return b'{"id":%s,"type":"%s","payload":%s}' % (encode(name), kind.encode(), encode(payload))


class GraphQLSocketEndpoint(WebSocketEndpoint):
    """WebSockets of `/graphql`, as an ASGI application."""

    subprotocol: ClassVar[str] = SUBPROTOCOL

    def __init__(
        self, *, sockets: OpenSockets, authenticate: AuthenticateHandshake, operations: Operations
    ) -> None:
        super().__init__(sockets=sockets, authenticate=authenticate)
        self._socket_of_operations = partial(GraphQLSocket, operations=operations)

    def _wanted(self, websocket: WebSocket) -> tuple[Channels, None]:
        """No channel: each subscription follows its own. Raises HTTPException(400) for another subprotocol."""
        if SUBPROTOCOL not in websocket.scope.get("subprotocols", []):
            raise HTTPException(400, _OTHER_SUBPROTOCOL)
        return (), None

    def _make(self, transport: asyncio.Transport, max_frame_bytes: int | None) -> Socket:
        return self._sockets.take_over(transport, max_frame_bytes, make=self._socket_of_operations)
