"""One timer for all sockets: heartbeats, pings, deadlines, and the end of tokens."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from auth.identity import Identity
from auth.refusals import Reason
from guardwire.errors import CloseCode
from guardwire.messages import AuthRequired, encode
from realtime.delivery.hub import Hub
from realtime.delivery.websocket.connection import Socket
from realtime.delivery.websocket.conversation import Streams, end
from realtime.delivery.websocket.timer_wheel import EARLY_SECONDS, TICK_SECONDS
from realtime.metrics import METRICS

#: When access is revoked or a key withdrawn, all sockets are looked at within a second, and no tick is long.
_SHARES: Final = 4
_AUTH_WARNING_SECONDS: Final = 60
#: A loop that stood still for so long is worth a line.
_STALL_SECONDS: Final = 1.0

log = logging.getLogger(__name__)


class Pulse:
    """Looks at each socket when something of it is due, for ever. Times are monotonic seconds, but those of
    tokens.

    A look costs more than most of what it is for, so what is put off meanwhile (by an update, by a sign of
    life) is noticed at the look itself. ``recheck`` gives the reason for which an identity holds no longer,
    else None; ``changes`` grows when that may be another than before, but for time.
    """

    def __init__(
        self,
        *,
        hub: Hub,
        streams: Streams,
        heartbeat_seconds: float,
        hello_seconds: float,
        send_deadline_seconds: float,
        ping_seconds: float,
        recheck: Callable[[Identity], Reason | None],
        changes: Callable[[], int],
    ) -> None:
        self._hub = hub
        self._streams = streams
        self._heartbeat_seconds = heartbeat_seconds
        self._hello_seconds = hello_seconds
        self._send_deadline_seconds = send_deadline_seconds
        self._ping_seconds = ping_seconds
        self._recheck = recheck
        self._changes = changes
        self._seen = changes()
        # A ping that would be due before the next heartbeat goes with this one: two frames, one write.
        self._ask_seconds = max(ping_seconds - heartbeat_seconds + EARLY_SECONDS, ping_seconds / 2)
        # What begins between two looks is seen in time: no deadline is shorter.
        self._longest_seconds = min(heartbeat_seconds, hello_seconds, send_deadline_seconds, ping_seconds)

    async def run(self) -> None:
        """For ever."""
        while True:
            due = time.monotonic() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            now, wall = time.monotonic(), time.time()
            _measure_lag(now - due)
            self._hub.tick(now)
            self._hasten_after_changes(now)
            for socket in self._streams.turns.take(now):
                self._look(socket, now, wall)

    def _hasten_after_changes(self, now: float) -> None:
        changes = self._changes()
        if changes != self._seen:
            self._seen = changes
            for number, socket in enumerate(self._streams):
                self._streams.turns.put(socket, now + number % _SHARES * TICK_SECONDS)

    def _look(self, socket: Socket, now: float, wall: float) -> None:
        if socket.closing_since is not None:
            return
        socket.rest(now)
        reason = None if socket.identity is None else self._recheck(socket.identity)
        if reason is not None:
            # A blocked socket too: once it can take more, it would get an update.
            end(socket, reason)
            return
        if socket.blocked_since is not None:
            next_turn = socket.blocked_since + self._send_deadline_seconds
            if now > next_turn:
                METRICS.slow_readers.add()
                socket.close(CloseCode.TOO_SLOW, "reader too slow")
                socket.abort()
        elif socket.identity is None:
            next_turn = socket.opened_at + self._hello_seconds
            if now > next_turn:
                socket.close(CloseCode.NO_HELLO, "no hello in time")
        else:
            next_turn = self._keep(socket, socket.identity, now, wall)
        self._streams.turns.put(socket, min(next_turn, now + self._longest_seconds))

    def _keep(self, socket: Socket, identity: Identity, now: float, wall: float) -> float:
        """Do what is due, and tell when something is next."""
        left_seconds = identity.expires_at - wall
        silent_seconds = now - socket.heard_at
        if silent_seconds > 2 * self._ping_seconds:
            socket.close(CloseCode.NO_PONG, "no sign of life")
        else:
            self._say(socket, now, silent_seconds)
            if not socket.warned:
                left_seconds -= _AUTH_WARNING_SECONDS
                if left_seconds < 0:
                    socket.warned = True
                    socket.send(encode(AuthRequired(expires_at=int(identity.expires_at))), now)
        patience = self._ping_seconds if silent_seconds < self._ping_seconds else 2 * self._ping_seconds
        return min(socket.sent_at + self._heartbeat_seconds, socket.heard_at + patience, now + left_seconds)

    def _say(self, socket: Socket, now: float, silent_seconds: float) -> None:
        beats = now - socket.sent_at > self._heartbeat_seconds - EARLY_SECONDS
        if beats:
            stale = socket.watch is None or socket.watch.stale
            socket.beat(now, stale=stale, ask=silent_seconds > self._ask_seconds)
        elif silent_seconds > self._ping_seconds:
            socket.ping()


def _measure_lag(lag_seconds: float) -> None:
    METRICS.loop_lag.observe(max(0.0, lag_seconds))
    if lag_seconds > _STALL_SECONDS:
        log.warning("the event loop stood still for %.1f s: nobody was served meanwhile", lag_seconds)
