"""The WebSockets of this node: what clients say is answered here.

A `Socket` never waits; what may have to (a token's key, the first read of an account) is a task of its own
here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, assert_never

from auth.identity import Identity
from auth.refusals import Reason, close_code, refusal
from guardwire.errors import CloseCode
from guardwire.messages import (
    Auth,
    AuthOk,
    ClientFrame,
    Error,
    Hello,
    Resume,
    Resync,
    Subscribe,
    Unsubscribe,
    Welcome,
    encode,
)
from guardwire.state import CHANNELS
from realtime.delivery.connection_log import WEBSOCKET, report_begin, report_end
from realtime.delivery.hub import Hub
from realtime.delivery.limits import RETRY_AFTER_SECONDS, Admission, Strangers
from realtime.delivery.stream import Session, channels_in_order, count_snapshot, retry_after_ms
from realtime.delivery.watched_account import Store
from realtime.delivery.websocket.connection import Socket
from realtime.delivery.websocket.timer_wheel import Wheel
from realtime.errors import AuthenticationError, StreamClosed, TooManyClaims, UnavailableError
from realtime.logs import SESSION_ID
from realtime.metrics import METRICS
from realtime.owners import WrongOwner
from realtime.snapshot import Channels, Freshness

log = logging.getLogger(__name__)

#: What a client's frame makes of its session: the frames to send.
Act = Callable[[Session, Freshness], list[bytes]]


class Streams:
    """The WebSockets of this node; ``verify`` is the one verifier, ``store`` is None without Redis."""

    def __init__(
        self,
        *,
        hub: Hub,
        verify: Callable[[str], Awaitable[Identity]],
        store: Store | None,
        heartbeat_seconds: float,
        admission: Admission,
        strangers: Strangers,
        max_frames_per_second: int,
    ) -> None:
        self._hub = hub
        self._verify = verify
        self._store = store
        self._heartbeat_seconds = heartbeat_seconds
        self.admission = admission
        self.strangers = strangers
        self.max_frames_per_second = max_frames_per_second
        self._sockets: set[Socket] = set()
        #: When each of them is looked at next, by the pulse.
        self.turns: Wheel[Socket] = Wheel(time.monotonic())
        self._tasks: set[asyncio.Task[None]] = set()
        self.draining = False

    def __iter__(self) -> Iterator[Socket]:
        """The open sockets, as they are now."""
        return iter(tuple(self._sockets))

    # Sockets come and go.

    def open_stranger(self, socket: Socket, address: str) -> None:
        """A socket was taken over that counts as a stranger's from ``address``; its first frame must be a
        hello with a token, in time.
        """
        socket.address = address
        self._open(socket)

    def _open(self, socket: Socket) -> None:
        self._sockets.add(socket)
        self.turns.put(socket, socket.opened_at)
        log.debug("a socket is open", extra={"session_id": socket.session_id})
        METRICS.sockets.set(len(self._sockets))
        if self.draining:  # its handshake was under way when that began
            hint = retry_after_ms(100, 2000)
            socket.close(CloseCode.DRAINING, "the server is restarting", retry_after_ms=hint)

    def open_for(
        self, socket: Socket, identity: Identity, lease: str, channels: Channels, resume: Resume | None
    ) -> None:
        """A socket was taken over whose handshake said whose it is, and which was admitted with ``lease``."""
        self._open(socket)
        socket.identity, socket.lease = identity, lease
        self._spawn(socket, self._begin(socket, identity, channels, resume))

    def on_gone(self, socket: Socket) -> None:
        """The connection is lost."""
        self._sockets.discard(socket)
        METRICS.sockets.set(len(self._sockets))
        self._is_stranger_no_more(socket)
        if socket.identity is not None:
            report_end(WEBSOCKET, socket.identity.user_id, socket.session_id, socket.opened_at)
        if socket.watch is not None:
            self._hub.detach(socket.watch, socket)
            # It may still wait for a turn, and an account's state with it.
            socket.watch = socket.session = None
        if socket.lease is not None:
            self.admission.leave(socket.lease)

    def _is_stranger_no_more(self, socket: Socket) -> None:
        address, socket.address = socket.address, None
        if address is not None:
            self.strangers.leave(address)

    async def close(self) -> None:
        """Cut what is left."""
        for task in tuple(self._tasks):
            task.cancel()
        for socket in self:
            socket.abort()

    # What clients say.

    def on_frame(self, socket: Socket, frame: ClientFrame) -> None:
        """Answer one frame; raises StreamClosed when the stream must end for it."""
        match frame:
            case Hello():
                self._on_hello(socket, frame)
            case Auth():
                self._spawn(socket, self._renew(socket, frame.token))
            case Subscribe():
                self._answer(socket, lambda session, fresh: session.subscribe(frame.channels, fresh))
            case Unsubscribe():
                self._answer(socket, lambda session, fresh: session.unsubscribe(frame.channels, fresh))
            case Resync():
                self._answer(socket, _whole)
            case _:
                assert_never(frame)

    def _on_hello(self, socket: Socket, hello: Hello) -> None:
        if socket.greeted:
            raise StreamClosed(CloseCode.MALFORMED, "there may be one hello, and it comes first")
        socket.greeted = True
        channels = CHANNELS if hello.channels is None else channels_in_order(hello.channels)
        if socket.identity is not None:
            # The header has authenticated and the session begins by itself: such a hello only chooses.
            if hello.channels is not None:
                socket.choice = channels
                self._choose(socket)
        elif hello.token is None:
            raise StreamClosed(CloseCode.UNAUTHENTICATED, "a token is needed: this connection carried none")
        else:
            self._spawn(socket, self._greet(socket, hello.token, channels, hello.resume))

    async def _greet(self, socket: Socket, token: str, channels: Channels, resume: Resume | None) -> None:
        try:
            identity = await self._verify(token)
        except AuthenticationError as error:
            refuse(socket, error)
            return
        lease = await self.admission.admit(identity.user_id)
        if lease is None:
            hint = retry_after_ms(1000, 1000 * RETRY_AFTER_SECONDS)
            socket.close(CloseCode.TOO_MANY_CONNECTIONS, "too many connections", retry_after_ms=hint)
            return
        if socket.has_ended():
            self.admission.leave(lease)
            return
        self._is_stranger_no_more(socket)
        socket.identity, socket.lease = identity, lease
        self.turns.put(socket, time.monotonic())
        await self._begin(socket, identity, channels, resume)

    async def _begin(
        self, socket: Socket, identity: Identity, channels: Channels, resume: Resume | None
    ) -> None:
        if socket.has_ended():
            return
        watch = socket.watch = self._hub.attach(identity.user_id, socket)
        session = socket.session = Session(identity.user_id, channels)
        position = None if resume is None else resume.position
        newest = await watch.snapshot_for(position, self._store, time.monotonic())
        log.debug("a session begins")
        report_begin(WEBSOCKET, identity.user_id, socket.session_id)
        path = None
        if resume is not None and resume.epoch == newest.epoch:
            path = await watch.path_from(resume.revision, newest, self._store)
        if socket.has_ended():
            return
        now = time.monotonic()
        welcome = Welcome(
            session=socket.session_id,
            epoch=newest.epoch,
            channels=channels,  # type: ignore[arg-type]
            expires_at=int(identity.expires_at),
            heartbeat_seconds=self._heartbeat_seconds,
            resumed=path is not None,
        )
        socket.send(encode(welcome), now)
        fresh = watch.freshness(now)
        if resume is None or path is None:
            count_snapshot(resume, newest)
            socket.send(session.snapshot(newest, fresh), now)
        else:
            held = channels if resume.channels is None else channels_in_order(resume.channels)
            for payload in session.resume(resume.revision, held, path, newest, fresh):
                socket.send(payload, now)
        assert watch.snapshot is not None
        socket.wake(watch.snapshot, now)
        if watch.stale:
            socket.beat(now, stale=True)
        self.turns.put(socket, now)
        self._choose(socket)

    def _choose(self, socket: Socket) -> None:
        """Change to the channels that a hello chose, as soon as the session has begun."""
        chosen, session = socket.choice, socket.session
        if chosen is None or session is None or session.held is None:
            return
        socket.choice = None
        dropped = set(session.channels) - set(chosen)
        self._answer(socket, lambda session, fresh: session.subscribe(chosen, fresh))
        self._answer(socket, lambda session, fresh: session.unsubscribe(dropped, fresh))

    def _answer(self, socket: Socket, act: Act) -> None:
        session, watch, now = socket.session, socket.watch, time.monotonic()
        if session is None or session.held is None or watch is None or watch.snapshot is None:
            raise StreamClosed(CloseCode.MALFORMED, "the first frame must be a hello, and welcome its answer")
        self._hub.touch(watch, now)
        fresh = watch.freshness(now)
        try:
            update = session.update(watch.snapshot, fresh)
            payloads = [*([] if update is None else [update]), *act(session, fresh)]
        except WrongOwner:
            stop_crossing(socket)
            return
        for payload in payloads:
            socket.send(payload, now)

    async def _renew(self, socket: Socket, token: str) -> None:
        if socket.identity is None:
            raise StreamClosed(CloseCode.MALFORMED, "the first frame must be a hello")
        try:
            socket.identity = socket.identity.renewed_by(await self._verify(token))
        except AuthenticationError as error:
            if error.status == 403 or error.reason == "other_user":
                refuse(socket, error)
                return
            METRICS.auth_failures.add(1, error.reason)
            # The token in force is still good: say what is wrong with the new one, and let the client try
            # again.
            later = error.status == 503
            hint = retry_after_ms(1000, 5000) if later else None
            refused = Error(code=error.code, message=str(error), retry=later, retry_after_ms=hint)
            socket.send(encode(refused), time.monotonic())
            return
        socket.warned = False
        self.turns.put(socket, time.monotonic())
        socket.send(encode(AuthOk(expires_at=int(socket.identity.expires_at))), time.monotonic())

    def _spawn(self, socket: Socket, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(guard(socket, work), name="stream")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _whole(session: Session, fresh: Freshness) -> list[bytes]:
    assert session.held is not None
    METRICS.resyncs.add(1, "requested")
    METRICS.updates.add(1, "snapshot")
    return [session.snapshot(session.held, fresh)]


def refuse(socket: Socket, error: AuthenticationError) -> None:
    """Close it over a token."""
    METRICS.auth_failures.add(1, error.reason)
    code = close_code(error)
    hint = retry_after_ms(1000, 5000) if code is CloseCode.OVERLOADED else None
    socket.close(code, str(error), retry_after_ms=hint)


def end(socket: Socket, reason: Reason) -> None:
    """Close it because the token that it began or went on with holds no longer."""
    error = refusal(reason)
    socket.close(close_code(error), str(error))


def stop_crossing(socket: Socket) -> None:
    """Nothing is sent of what is another's, and the client comes back to a node that has read anew."""
    socket.close(CloseCode.OVERLOADED, "please reconnect", retry_after_ms=retry_after_ms(1000, 5000))


async def guard(socket: Socket, work: Coroutine[Any, Any, None]) -> None:
    """Whatever goes wrong for one client is told to that client and ends there."""
    SESSION_ID.set(socket.session_id)
    try:
        await work
    except StreamClosed as closed:
        socket.close(closed.close_code, closed.reason)
    except WrongOwner:
        stop_crossing(socket)
    except TooManyClaims as error:
        hint = 1000 * error.retry_after_seconds
        socket.close(CloseCode.RATE_LIMITED, str(error), retry_after_ms=retry_after_ms(hint, 2 * hint))
    except UnavailableError as error:
        socket.close(CloseCode.OVERLOADED, str(error), retry_after_ms=retry_after_ms(1000, 5000))
    except Exception:
        log.exception("a stream failed")
        socket.close(CloseCode.OVERLOADED, "internal error", retry_after_ms=retry_after_ms(1000, 5000))
