"""One timer for all sockets: heartbeats, pings, deadlines, and the end of tokens."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from auth.identity import Identity
from realtime.delivery.hub import Hub
from realtime.delivery.socket import Socket
from realtime.delivery.streams import Streams
from realtime.errors import CloseCode
from realtime.messages import AuthRequired, encode
from realtime.metrics import METRICS

#: Every socket is visited once a second, a quarter of them at a time, so that no tick is long.
_SHARES: Final = 4
_TICK_SECONDS: Final = 1.0 / _SHARES
_AUTH_WARNING_SECONDS: Final = 60
#: A loop that stood still for so long is worth a line.
_STALL_SECONDS: Final = 1.0

log = logging.getLogger(__name__)


class Pulse:
    """Visits every socket once a second, for ever. All times are monotonic seconds, but those of tokens."""

    def __init__(
        self,
        *,
        hub: Hub,
        streams: Streams,
        heartbeat_seconds: float,
        hello_seconds: float,
        send_deadline_seconds: float,
        ping_seconds: float,
        is_revoked: Callable[[Identity], bool],
    ) -> None:
        self._hub = hub
        self._streams = streams
        # A visit may come up to a second late, so half of that early is on time.
        self._heartbeat_seconds = heartbeat_seconds - 0.5
        self._hello_seconds = hello_seconds
        self._send_deadline_seconds = send_deadline_seconds
        self._ping_seconds = ping_seconds
        self._is_revoked = is_revoked

    async def run(self) -> None:
        """For ever."""
        while True:
            sockets = tuple(self._streams)
            for share in range(_SHARES):
                due = time.monotonic() + _TICK_SECONDS
                await asyncio.sleep(_TICK_SECONDS)
                now, wall = time.monotonic(), time.time()
                _measure_lag(now - due)
                self._hub.tick(now)
                for socket in sockets[share::_SHARES]:
                    self._visit(socket, now, wall)

    def _visit(self, socket: Socket, now: float, wall: float) -> None:
        socket.refill(self._streams.max_frames_per_second)
        if socket.closing_since is not None:
            return
        if socket.blocked_since is not None:
            if now - socket.blocked_since > self._send_deadline_seconds:
                METRICS.slow_readers.add()
                socket.close(CloseCode.TOO_SLOW, "reader too slow")
                socket.abort()
        elif socket.identity is None:
            if now - socket.opened_at > self._hello_seconds:
                socket.close(CloseCode.NO_HELLO, "no hello in time")
        else:
            self._keep(socket, socket.identity, now, wall)

    def _keep(self, socket: Socket, identity: Identity, now: float, wall: float) -> None:
        if wall >= identity.expires_at:
            socket.close(CloseCode.TOKEN_EXPIRED, "the token expired")
            return
        if self._is_revoked(identity):
            socket.close(CloseCode.FORBIDDEN, "access has been revoked")
            return
        silent_seconds = now - socket.heard_at
        if silent_seconds > 2 * self._ping_seconds:
            socket.close(CloseCode.NO_PONG, "no sign of life")
            return
        if silent_seconds > self._ping_seconds:
            socket.ping()
        if not socket.warned and identity.expires_at - wall < _AUTH_WARNING_SECONDS:
            socket.warned = True
            socket.send(encode(AuthRequired(expires_at=int(identity.expires_at))), now)
        if now - socket.sent_at > self._heartbeat_seconds:
            socket.beat(now, stale=socket.watch is None or socket.watch.stale)


def _measure_lag(lag_seconds: float) -> None:
    METRICS.loop_lag.observe(max(0.0, lag_seconds))
    if lag_seconds > _STALL_SECONDS:
        log.warning("the event loop stood still for %.1f s: nobody was served meanwhile", lag_seconds)
