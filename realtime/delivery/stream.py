"""The stream of one client: every decision about its frames and its end, without sockets, tasks and a clock of its own.

A transport gives a `Stream` each event (a newer snapshot, a frame of the client, the time), and performs the answer:
write frames, send a ping, have a token verified, close. WebSocket, Server-Sent Events and long poll share every
decision in this file; they only encode and write.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, Literal, NamedTuple, assert_never
from uuid import UUID

import msgspec

from auth.identity import ACK_SCOPE, Identity
from auth.refusals import Reason, close_code, refusal
from guardwire.errors import CloseCode
from guardwire.messages import (
    OFFERED_FRAMES,
    Ack,
    AckOk,
    AlertFrame,
    Attend,
    Auth,
    AuthOk,
    AuthRequired,
    ClientFrame,
    Error,
    Hello,
    Leave,
    Move,
    Offers,
    Resume,
    Resync,
    Snooze,
    SnoozeOk,
    Subscribe,
    Unsubscribe,
    Welcome,
    encode,
)
from guardwire.state import CHANNELS
from realtime.delivery.sent_state import Frame, SentState, begin, channels_in_order
from realtime.errors import RETRY_AFTER_MS, AuthenticationError, StreamClosed, TooManyClaims, UnavailableError
from realtime.history import Edge
from realtime.metrics import METRICS
from realtime.owners import WrongOwner
from realtime.snapshot import Channels, Freshness, Snapshot

#: A heartbeat that is due within this time is sent when the stream is looked at: a look costs more than a heartbeat.
EARLY_SECONDS: Final = 0.75

_OUT_OF_PLACE: Final = "the first frame must be a hello, and welcome its answer"


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The time limits of streams, in seconds; ``ping`` is infinite for a transport without pings."""

    heartbeat_seconds: float = 5.0
    hello_seconds: float = 5.0
    send_deadline_seconds: float = 10.0
    ping_seconds: float = 20.0
    auth_warning_seconds: float = 60.0
    #: The longest time between two calls of `Stream.tick`: the shortest of all limits, so that a deadline which
    #: begins between two calls is noticed in time.
    longest_wait_seconds: float = field(init=False)
    #: A client that was silent for this long is pinged together with a heartbeat (two frames, one write), because a
    #: ping would be due before the next one.
    ping_with_heartbeat_seconds: float = field(init=False)

    def __post_init__(self) -> None:
        waits = (self.heartbeat_seconds, self.hello_seconds, self.send_deadline_seconds, self.ping_seconds)
        before_next = self.ping_seconds - self.heartbeat_seconds + EARLY_SECONDS
        # The way in which dataclasses set the attributes of a frozen instance, too.
        object.__setattr__(self, "longest_wait_seconds", min(waits))
        object.__setattr__(self, "ping_with_heartbeat_seconds", max(before_next, self.ping_seconds / 2))


class Ping(NamedTuple):
    """Ask the peer for a sign of life."""


class Verify(NamedTuple):
    """Have ``token`` verified. After a hello (``hello`` is not None), `Stream.identify` and `Stream.open` follow,
    else `Stream.renew`; `Stream.refuse_token` where the token is refused.
    """

    token: str
    hello: Hello | None


class Perform(NamedTuple):
    """Have ``frame`` performed for the client's account; `Stream.answer` follows with the replies."""

    user_id: UUID
    frame: AlertFrame


class Close(NamedTuple):
    """End the stream; nothing is sent after it.

    ``code`` is a `CloseCode`, or one of another protocol over WebSocket. ``retry_after_ms`` is None where the client
    may come back at once, or not at all. ``cuts``: the peer takes nothing, so the connection is cut and not closed.
    """

    code: IntEnum
    reason: str
    retry_after_ms: int | None = None
    cuts: bool = False


Output = Frame | Ping | Verify | Perform | Close
Outputs = Sequence[Output]
Reply = AckOk | SnoozeOk | Error
ReplyType = Literal["ack_ok", "snooze_ok", "error"]

NOTHING: Final[Outputs] = ()
_PING: Final = Ping()
_REPLY_TYPES: Final[dict[type[Reply], ReplyType]] = {AckOk: "ack_ok", SnoozeOk: "snooze_ok", Error: "error"}
_OFFERS: Final = Offers(channels=CHANNELS, frames=OFFERED_FRAMES)


def retry_after_ms(code: CloseCode) -> int:
    """A time to wait before a client comes back after ``code``, drawn so that clients that were closed together do not
    come back together.
    """
    return random.randint(*RETRY_AFTER_MS[code])  # noqa: S311 - spreading load needs no secret


def close_after(error: Exception) -> Close:
    """How a stream ends over ``error``."""
    match error:
        case StreamClosed(close_code=CloseCode.RATE_LIMITED):
            return _close_for_now(CloseCode.RATE_LIMITED, error.reason)
        case StreamClosed():
            return Close(error.close_code, error.reason)
        case WrongOwner():
            # The client comes back to a node that has read the account anew.
            return _close_for_now(CloseCode.OVERLOADED, "please reconnect")
        case TooManyClaims():
            least_ms = 1000 * error.retry_after_seconds
            wait_ms = random.randint(least_ms, 2 * least_ms)  # noqa: S311 - as above
            return Close(CloseCode.RATE_LIMITED, str(error), wait_ms)
        case AuthenticationError():
            code = close_code(error)
            return Close(code, str(error), retry_after_ms(code) if code in RETRY_AFTER_MS else None)
        case UnavailableError():
            return _close_for_now(CloseCode.OVERLOADED, str(error))
        case _:
            return _close_for_now(CloseCode.OVERLOADED, "internal error")


def refuse(frame: AlertFrame, error: Error) -> list[Error]:
    """``error`` for each alert that ``frame`` names, so that each one is answered; once where it names none."""
    match frame:
        case Ack():
            return [msgspec.structs.replace(error, alert=alert) for alert in frame.alerts]
        case Snooze():
            return [msgspec.structs.replace(error, alert=frame.alert)]
        case _:
            return [error]


def _close_for_now(code: CloseCode, reason: str) -> Close:
    return Close(code, reason, retry_after_ms(code))


class Stream:
    """The stream of one client, from its connection to its end.

    ``now`` is always monotonic seconds, ``wall`` unix seconds, and ``fresh`` the freshness of the account's state. Each
    method returns the outputs to perform, in order; after a `Close` every method returns nothing. ``next_due`` is the
    time at which `tick` is to be called next; an earlier call does no harm.
    """

    __slots__ = (
        "_chosen", "_greeted", "_opened_at", "_sent", "_stale_sent", "_timing", "_warned", "blocked_since", "has_ended",
        "heard_at", "identity", "is_stale", "next_due", "sent_at", "session_number",
    )  # fmt: skip

    def __init__(
        self, now: float, timing: Timing, session_number: int, identity: Identity | None = None
    ) -> None:
        self._timing = timing
        self._chosen: Channels | None = None
        self._greeted = self._warned = False
        self._sent: SentState | None = None
        self._stale_sent = self.is_stale = False
        self._opened_at = self.heard_at = self.sent_at = self.next_due = now
        #: Since when the transport takes nothing more; None while it does.
        self.blocked_since: float | None = None
        self.has_ended = False
        #: The identity that the client's token proved; None until a token was verified.
        self.identity = identity
        self.session_number = session_number

    @property
    def session_id(self) -> str:
        """The name of this stream, in its welcome and in log lines."""
        return f"{self.session_number:016x}"

    @property
    def is_open(self) -> bool:
        """Whether the client has got its first state."""
        return self._sent is not None

    @property
    def shown(self) -> Snapshot:
        """The snapshot that the client's state equals; the stream is open."""
        assert self._sent is not None
        return self._sent.snapshot

    def look_by(self, at: float) -> None:
        """Have `tick` called by ``at``, unless the stream has ended."""
        if not self.has_ended:
            self.next_due = min(self.next_due, at)

    # The client says who it is.

    def identify(self, identity: Identity, now: float) -> None:
        """The token of the client's hello is good."""
        self.identity = identity
        self.look_by(now)

    def renew(self, newer: Identity, now: float) -> Outputs:
        """The token that the client sent in band is good; the stream goes on with it, unless it is of another user."""
        if self.has_ended or self.identity is None:
            return NOTHING
        try:
            self.identity = self.identity.renewed_by(newer)
        except AuthenticationError as error:
            return self.refuse_token(error, now)
        self._warned = False
        self.look_by(now)
        return (self._frame("auth_ok", AuthOk(expires_at=int(newer.expires_at)), now),)

    def refuse_token(self, error: AuthenticationError, now: float) -> Outputs:
        """A token that the client sent is not good. An identified client keeps the token in force, so it gets an error
        frame and may send another token.
        """
        METRICS.auth_failures.add(1, error.reason)
        if self.identity is None or error.status == 403 or error.reason == "other_user":
            return self.close(close_after(error))
        later = error.status == 503
        hint_ms = retry_after_ms(CloseCode.OVERLOADED) if later else None
        frame = Error(code=error.code, message=str(error), retry=later, retry_after_ms=hint_ms)
        return NOTHING if self.has_ended else (self._frame("error", frame, now),)

    # The stream begins.

    def open(
        self,
        newest: Snapshot,
        fresh: Freshness,
        now: float,
        *,
        channels: Channels,
        resume: Resume | None = None,
        path: Sequence[Edge] | None = None,
        stale: bool = False,
    ) -> Outputs:
        """Welcome the client and bring it to ``newest``: along ``path`` from the revision that it names in ``resume``,
        or by a snapshot where there is no path (None). A hello that chose other channels meanwhile is answered, too.
        """
        identity = self.identity
        if self.has_ended or identity is None:
            return NOTHING
        welcome = Welcome(
            session=self.session_id,
            epoch=newest.epoch,
            channels=channels,  # type: ignore[arg-type]
            expires_at=int(identity.expires_at),
            heartbeat_seconds=self._timing.heartbeat_seconds,
            resumed=path is not None and resume is not None,
            offers=_OFFERS,
        )
        try:
            self._sent, frames = begin(identity.user_id, channels, newest, fresh, resume=resume, path=path)
        except WrongOwner as error:
            return self.close(close_after(error))
        self.look_by(now)
        first: list[Output] = [self._frame("welcome", welcome, now), *frames]
        return [*first, *self._choose(newest, fresh, now), *self.stale(stale, fresh, now)]

    def open_for_poll(
        self,
        newest: Snapshot,
        fresh: Freshness,
        *,
        channels: Channels,
        since: Resume,
        path: Sequence[Edge] | None,
        stale: bool,
    ) -> Outputs:
        """Open the stream for one answer: the update from ``since``, or a snapshot; nothing where nothing has changed.

        Patches do not compose, so more than one step along ``path`` cannot be one update.
        """
        if self.has_ended or self.identity is None:
            return NOTHING
        user_id = self.identity.user_id
        self.is_stale = self._stale_sent = stale
        try:
            if path is None or len(path) > 1:
                self._sent, frames = begin(user_id, channels, newest, fresh, resume=since, path=None)
            else:
                self._sent = SentState(user_id, channels, newest)
                frames = self._sent.replay(since.revision, channels, path, newest, fresh)
        except WrongOwner as error:
            return self.close(close_after(error))
        return frames

    # The account changes.

    def newer(self, newest: Snapshot, fresh: Freshness, now: float) -> Outputs:
        """Send the update that turns the client's state into ``newest``. A client that cannot take it now gets one
        update later, for all changes until then.

        To a client, an update means that the state is current, so a heartbeat follows that of a stale account.
        """
        if self._sent is None or self.blocked_since is not None or self.has_ended:
            return NOTHING
        try:
            frame = self._sent.update(newest, fresh)
        except WrongOwner as error:
            return self.close(close_after(error))
        if frame is None:
            return NOTHING
        self.sent_at = now
        return (frame, *self._heartbeat(fresh, now)) if self.is_stale else (frame,)

    def stale(self, is_stale: bool, fresh: Freshness, now: float) -> Outputs:
        """Send a heartbeat at once when staleness begins or ends."""
        self.is_stale = is_stale
        return NOTHING if is_stale is self._stale_sent else self._heartbeat(fresh, now)

    # The client says something, or takes nothing.

    def hear(self, now: float) -> None:
        """Something came from the client."""
        self.heard_at = now

    def client_frame(
        self, frame: ClientFrame, newest: Snapshot | None, fresh: Freshness, now: float
    ) -> Outputs:
        """Answer one frame; ``newest`` is None while nothing of the account is known."""
        if self.has_ended:
            return NOTHING
        match frame:
            case Hello():
                return self._hello(frame, newest, fresh, now)
            case Auth():
                if self.identity is None:
                    return self._malformed("the first frame must be a hello")
                return (Verify(frame.token, None),)
            case Subscribe() | Unsubscribe() | Resync():
                return self._answer(frame, newest, fresh, now)
            case Ack() | Snooze() | Attend() | Leave():
                return self._request(frame, now)
            case _:
                assert_never(frame)

    def answer(self, replies: Iterable[Reply], now: float) -> Outputs:
        """Send the replies to a frame that was performed; nothing after the end of the stream."""
        if self.has_ended:
            return NOTHING
        return [self._frame(_REPLY_TYPES[type(reply)], reply, now) for reply in replies]

    def block(self, now: float) -> None:
        """The transport takes nothing more."""
        self.blocked_since = now

    def unblock(self, newest: Snapshot | None, fresh: Freshness, now: float) -> Outputs:
        """The transport takes more: send one update for all changes meanwhile."""
        self.blocked_since = None
        if newest is None:
            return NOTHING
        return [*self.newer(newest, fresh, now), *self.stale(self.is_stale, fresh, now)]

    # Time passes.

    def tick(self, now: float, wall: float, fresh: Freshness) -> Outputs:
        """Give what is due: a heartbeat, a ping, a warning before the token ends, or the close of a client that sends
        or takes nothing.
        """
        if self.has_ended:
            return NOTHING
        outputs = NOTHING
        if self.blocked_since is not None:
            due = self.blocked_since + self._timing.send_deadline_seconds
            if now >= due:
                return self.too_slow()
        elif self.identity is None:
            due = self._opened_at + self._timing.hello_seconds
            if now >= due:
                return self.close(Close(CloseCode.NO_HELLO, "no hello in time"))
        else:
            outputs = self._keep_alive(self.identity, now, wall, fresh)
            due = self._next_due(self.identity, now, wall)
        self.next_due = min(due, now + self._timing.longest_wait_seconds)
        return outputs

    def _keep_alive(self, identity: Identity, now: float, wall: float, fresh: Freshness) -> Outputs:
        timing = self._timing
        silent_seconds = now - self.heard_at
        if silent_seconds > 2 * timing.ping_seconds:
            return self.close(Close(CloseCode.NO_PONG, "no sign of life"))
        outputs: Outputs = NOTHING
        if self._sent is not None and now - self.sent_at > timing.heartbeat_seconds - EARLY_SECONDS:
            outputs = self._heartbeat(fresh, now)
            if silent_seconds > timing.ping_with_heartbeat_seconds:
                outputs = (_PING, *outputs)
        elif silent_seconds > timing.ping_seconds:
            outputs = (_PING,)
        if not self._warned and identity.expires_at - wall < timing.auth_warning_seconds and self.is_open:
            self._warned = True
            warning = AuthRequired(expires_at=int(identity.expires_at))
            outputs = (*outputs, self._frame("auth_required", warning, now))
        return outputs

    def _next_due(self, identity: Identity, now: float, wall: float) -> float:
        timing = self._timing
        next_ping_at = self.heard_at + timing.ping_seconds
        if next_ping_at <= now:
            next_ping_at += timing.ping_seconds
        left_seconds = identity.expires_at - wall - (0.0 if self._warned else timing.auth_warning_seconds)
        return min(self.sent_at + timing.heartbeat_seconds, next_ping_at, now + max(left_seconds, 0.0))

    # The stream ends.

    def revoked(self, reason: Reason) -> Outputs:
        """The client's token holds no longer. A blocked client is closed, too: else it would get an update once it
        takes more.
        """
        return self.close(close_after(refusal(reason)))

    def draining(self, hint_ms: int) -> Outputs:
        """The node is on its way out; the client comes back elsewhere after ``hint_ms``."""
        return self.close(Close(CloseCode.DRAINING, "the server is restarting", hint_ms))

    @property
    def may_move(self) -> bool:
        """Whether the client has its first state, and takes frames."""
        return self._sent is not None and self.blocked_since is None and not self.has_ended

    def move(self, within_ms: int, now: float) -> Outputs:
        """Another node has fewer clients: the client may open a second connection, and then leave this one."""
        return (self._frame("move", Move(within_ms=within_ms), now),) if self.may_move else NOTHING

    def too_slow(self) -> Outputs:
        """The client took nothing until the send deadline."""
        METRICS.slow_readers.add()
        return self.close(Close(CloseCode.TOO_SLOW, "reader too slow", cuts=True))

    def too_many(self) -> Outputs:
        """The user has as many connections as are allowed."""
        return self.close(_close_for_now(CloseCode.TOO_MANY_CONNECTIONS, "too many connections"))

    def end(self) -> None:
        """The connection is gone; nothing of the account is kept."""
        self.has_ended, self._sent, self.next_due = True, None, float("inf")

    def close(self, last: Close) -> Outputs:
        """End the stream with ``last``, unless it has ended."""
        if self.has_ended:
            return NOTHING
        self.end()
        return (last,)

    def _frame(
        self,
        kind: Literal["welcome", "auth_required", "auth_ok", "move"] | ReplyType,
        message: msgspec.Struct,
        now: float,
    ) -> Frame:
        self.sent_at = now
        return Frame(kind, encode(message))

    def _heartbeat(self, fresh: Freshness, now: float) -> Outputs:
        if self._sent is None or self.blocked_since is not None or self.has_ended:
            return NOTHING
        self.sent_at, self._stale_sent = now, self.is_stale
        return (self._sent.heartbeat(fresh, stale=self.is_stale),)

    def _malformed(self, reason: str) -> Outputs:
        return self.close(Close(CloseCode.MALFORMED, reason))

    def _hello(self, hello: Hello, newest: Snapshot | None, fresh: Freshness, now: float) -> Outputs:
        if self._greeted:
            return self._malformed("there may be one hello, and it comes first")
        self._greeted = True
        if self.identity is None:
            if hello.token is None:
                why = "a token is needed: this connection carried none"
                return self.close(Close(CloseCode.UNAUTHENTICATED, why))
            return (Verify(hello.token, hello),)
        # The header has authenticated, and the stream begins by itself: such a hello only chooses.
        if hello.channels is not None:
            self._chosen = channels_in_order(hello.channels)
        return self._choose(newest, fresh, now)

    def _request(self, frame: AlertFrame, now: float) -> Outputs:
        identity = self.identity
        if identity is None or self._sent is None:
            return self._malformed(_OUT_OF_PLACE)
        if ACK_SCOPE not in identity.scopes:
            # An error and not a close: a dashboard that may not acknowledge must still show the alerts.
            why = f"the token does not carry the scope `{ACK_SCOPE}`"
            return self.answer(refuse(frame, Error(code="not_allowed", message=why, retry=False)), now)
        return (Perform(identity.user_id, frame),)

    def _choose(self, newest: Snapshot | None, fresh: Freshness, now: float) -> Outputs:
        """Change to the channels that a hello chose, as soon as the stream is open."""
        chosen, sent = self._chosen, self._sent
        if chosen is None or sent is None:
            return NOTHING
        self._chosen = None
        dropped: Any = tuple(set(sent.channels) - set(chosen))
        added = self._answer(Subscribe(channels=chosen), newest, fresh, now)  # type: ignore[arg-type]
        return [*added, *self._answer(Unsubscribe(channels=dropped), newest, fresh, now)]

    def _answer(
        self, frame: Subscribe | Unsubscribe | Resync, newest: Snapshot | None, fresh: Freshness, now: float
    ) -> Outputs:
        sent = self._sent
        if sent is None or newest is None:
            return self._malformed(_OUT_OF_PLACE)
        try:
            update = sent.update(newest, fresh)
            match frame:
                case Subscribe():
                    answer = sent.subscribe(frame.channels, fresh)
                case Unsubscribe():
                    answer = sent.unsubscribe(frame.channels, fresh)
                case Resync():
                    METRICS.resyncs.add(1, "requested")
                    answer = [sent.whole(sent.snapshot, fresh)]
        except WrongOwner as error:
            return self.close(close_after(error))
        self.sent_at = now
        frames = answer if update is None else [update, *answer]
        return [*frames, *self._heartbeat(fresh, now)] if frames and self.is_stale else frames
