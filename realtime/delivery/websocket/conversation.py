"""The WebSockets of this node, and the tasks of their streams that wait: for a token's key, for a lease, for the first
read, for an acknowledgement.

A `Socket` never waits itself.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any
from uuid import UUID

from auth.identity import Identity
from guardwire.errors import GuardwireError
from guardwire.messages import AlertFrame, Resume
from guardwire.state import DEFAULT_CHANNELS
from realtime.delivery.connection_log import WEBSOCKET, report_begin, report_end
from realtime.delivery.drain import Drain
from realtime.delivery.hub import Hub
from realtime.delivery.limits import MAX_FRAMES_PER_SECOND, Admission, AnonymousLimit
from realtime.delivery.sent_state import channels_in_order
from realtime.delivery.stream import Perform, Reply, Stream, Timing, Verify, close_after
from realtime.delivery.websocket.connection import Callbacks, Socket
from realtime.errors import AuthenticationError
from realtime.history import Store
from realtime.logs import SESSION_ID
from realtime.metrics import METRICS
from realtime.owners import WrongOwner
from realtime.snapshot import Channels

log = logging.getLogger(__name__)


class OpenSockets:
    """The WebSockets of this node; ``verify`` is the one verifier, ``store`` is None without Redis.

    ``perform`` performs a frame about alerts for a user, and gives the replies.
    """

    def __init__(
        self,
        *,
        hub: Hub,
        verify: Callable[[str], Awaitable[Identity]],
        store: Store | None,
        timing: Timing,
        admission: Admission,
        anonymous: AnonymousLimit,
        drain: Drain,
        perform: Callable[[UUID, AlertFrame], Awaitable[Sequence[Reply]]],
        max_frames_per_second: int = MAX_FRAMES_PER_SECOND,
    ) -> None:
        self._hub = hub
        self._verify_token = verify
        self._store = store
        self._timing = timing
        self.admission = admission
        self.anonymous = anonymous
        self.drain = drain
        self._perform_frame = perform
        self._max_frames_per_second = max_frames_per_second
        self._sockets: set[Socket] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._callbacks = Callbacks(self._on_verify, self._on_perform, self._on_gone)

    def all(self) -> tuple[Socket, ...]:
        """The open sockets, as they are now."""
        return tuple(self._sockets)

    # Sockets come and go.

    def take_over(
        self,
        transport: asyncio.Transport,
        max_frame_bytes: int | None,
        *,
        make: Callable[..., Socket] = Socket,
    ) -> Socket:
        """A socket on a connection whose handshake is done; `open_anonymous` or `open_for` follows."""
        return make(
            transport,
            Stream(time.monotonic(), self._timing, secrets.randbits(64)),
            callbacks=self._callbacks,
            max_frame_bytes=max_frame_bytes,
            frames_per_second=self._max_frames_per_second,
        )

    def open_anonymous(self, socket: Socket, address: str) -> None:
        """Open a socket that counts as anonymous, from ``address``; its first frame must be a hello with a token, in
        time.
        """
        socket.count_as_anonymous(address)
        self._open(socket)

    def open_for(
        self, socket: Socket, identity: Identity, lease: str, channels: Channels, resume: Resume | None
    ) -> None:
        """Open a socket whose handshake said whose it is, and which was admitted with ``lease``."""
        socket.admit(lease)
        socket.stream.identify(identity, time.monotonic())
        self._open(socket)
        self._spawn(socket, self._begin(socket, identity, channels, resume))

    def _open(self, socket: Socket) -> None:
        self._sockets.add(socket)
        log.debug("a socket is open", extra={"session_id": socket.stream.session_id})
        METRICS.sockets.set(len(self._sockets))
        if self.drain.begun:  # its handshake was under way when that began
            socket.drain()

    def _on_gone(self, socket: Socket) -> None:
        """The connection is lost."""
        self._sockets.discard(socket)
        METRICS.sockets.set(len(self._sockets))
        self._uncount_anonymous(socket)
        identity = socket.stream.identity
        if identity is not None:
            report_end(WEBSOCKET, identity.user_id, socket.stream.session_id, socket.opened_at)
        account, lease = socket.leave_account(), socket.take_lease()
        if account is not None:
            self._hub.detach(account, socket)
        if lease is not None:
            self.admission.leave(lease)

    def _uncount_anonymous(self, socket: Socket) -> None:
        address = socket.take_address()
        if address is not None:
            self.anonymous.leave(address)

    async def close(self) -> None:
        """Cut what is left."""
        for task in tuple(self._tasks):
            task.cancel()
        for socket in self.all():
            socket.abort()

    # Tasks that wait.

    def _on_verify(self, socket: Socket, asked: Verify) -> None:
        self._spawn(socket, self._verify(socket, asked))

    def _on_perform(self, socket: Socket, asked: Perform) -> None:
        self._spawn(socket, self._perform(socket, asked))

    async def _perform(self, socket: Socket, asked: Perform) -> None:
        replies = await self._perform_frame(asked.user_id, asked.frame)
        socket.perform(socket.stream.answer(replies, time.monotonic()))

    async def _verify(self, socket: Socket, asked: Verify) -> None:
        stream = socket.stream
        try:
            identity = await self._verify_token(asked.token)
        except AuthenticationError as error:
            socket.perform(stream.refuse_token(error, time.monotonic()))
            return
        if asked.hello is None:
            socket.perform(stream.renew(identity, time.monotonic()))
            return
        lease = await self.admission.admit(identity.user_id)
        if lease is None:
            socket.perform(stream.too_many())
            return
        if socket.has_ended():
            self.admission.leave(lease)
            return
        self._uncount_anonymous(socket)
        socket.admit(lease)
        stream.identify(identity, time.monotonic())
        wanted = asked.hello.channels
        channels = DEFAULT_CHANNELS if wanted is None else channels_in_order(wanted)
        await self._begin(socket, identity, channels, asked.hello.resume)

    async def _begin(
        self, socket: Socket, identity: Identity, channels: Channels, resume: Resume | None
    ) -> None:
        if socket.has_ended():
            return
        account = self._hub.attach(identity.user_id, socket)
        socket.watch(account)
        position = None if resume is None else resume.position
        newest = await account.snapshot_for(position, self._store, time.monotonic())
        log.debug("a session begins")
        report_begin(WEBSOCKET, identity.user_id, socket.stream.session_id)
        path = await account.path_from(position, newest, self._store)
        if socket.has_ended():
            return
        now = time.monotonic()
        fresh = account.freshness(now)
        outputs = socket.stream.open(
            newest, fresh, now, channels=channels, resume=resume, path=path, stale=account.stale
        )
        socket.perform(outputs)
        assert account.snapshot is not None
        # A newer snapshot may have come while the path was read.
        socket.wake(account.snapshot, fresh, now)

    def _spawn(self, socket: Socket, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(_run_guarded(socket, work), name="stream")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _run_guarded(socket: Socket, work: Coroutine[Any, Any, None]) -> None:
    """Run ``work`` of one client; what goes wrong ends the stream of that client alone."""
    SESSION_ID.set(socket.stream.session_id)
    try:
        await work
    except (GuardwireError, WrongOwner) as error:
        socket.perform(socket.stream.close(close_after(error)))
    except Exception as error:
        log.exception("a stream failed")
        socket.perform(socket.stream.close(close_after(error)))
