"""Connections that wait for their peer, and the end of those that have waited for too long.

One timer serves all of them: a timer for each connection would be set and cancelled with every request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from operator import methodcaller

import msgspec


class HttpTiming(msgspec.Struct, frozen=True, kw_only=True):
    """The time limits of connections before and between requests, in seconds.

    ``head``: for a whole request, head and body, and again for the decision on a WebSocket handshake.
    ``idle``: from an answer to the first byte of the next request. It is longer than proxies keep a quiet connection
    to a server (nginx 60 s, others up to 75 s), because the side that sends requests must be the one that hangs up.
    Otherwise a request meets a connection that is being closed, and a proxy does not send a POST twice.
    ``reader``: for a reader that has let every buffer fill; event streams have a shorter deadline of their own.
    ``grace``: a connection that is younger is not ended to make room. A crowd of thousands is accepted before it is
    read, which takes seconds.
    """

    head_seconds: float = 10.0
    idle_seconds: float = 90.0
    reader_seconds: float = 30.0
    grace_seconds: float = 4.0


class Deadlines:
    """The connections for which one server waits, of three kinds: without a whole request, with a WebSocket handshake
    that is not decided, and idle since an answer. At most ``most_waiting`` of each kind wait.
    """

    def __init__(self, *, most_waiting: int, timing: HttpTiming) -> None:
        self.timing = timing

        def waiting(seconds: float, end: str) -> ConnectionDeadlines:
            return ConnectionDeadlines(
                seconds=seconds, end=methodcaller(end), most=most_waiting, grace_seconds=timing.grace_seconds
            )

        self.requests = waiting(timing.head_seconds, "abort")
        self.handshakes = waiting(timing.head_seconds, "abort")
        self.idle = waiting(timing.idle_seconds, "close")


class ConnectionDeadlines:
    """Ends connections that have waited for ``seconds``, and the oldest ones sooner while more than ``most`` wait.

    ``end`` is called with the transport of a connection that has waited for too long. A connection younger than
    ``grace_seconds`` is not ended to make room.
    """

    def __init__(
        self,
        *,
        seconds: float,
        end: Callable[[asyncio.Transport], None],
        grace_seconds: float,
        most: int | None = None,
    ) -> None:
        self._seconds = seconds
        self._end = end
        self._most = most
        self._grace_seconds = grace_seconds
        self._since: dict[asyncio.Transport, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        """``transport`` waits from now on, or goes on waiting."""
        now = loop.time()
        self._since.setdefault(transport, now)
        if self._timer is None:
            self._timer = loop.call_at(now + self._seconds, self._end_late, loop)
        if self._most is not None and len(self._since) > self._most:
            self._end_until(now - self._grace_seconds, most=self._most)

    def leave(self, transport: asyncio.Transport) -> None:
        """The peer has sent what the connection waited for, or is gone."""
        self._since.pop(transport, None)

    def _end_late(self, loop: asyncio.AbstractEventLoop) -> None:
        """End the connections that have waited for too long, and set the timer for the next one."""
        self._end_until(loop.time() - self._seconds)
        oldest = next(iter(self._since.values()), None)
        self._timer = None
        if oldest is not None:
            self._timer = loop.call_at(oldest + self._seconds, self._end_late, loop)

    def _end_until(self, since: float, *, most: int = 0) -> None:
        """End the oldest connections while more than ``most`` wait, but none that entered after ``since``."""
        while len(self._since) > most:
            transport, entered = next(iter(self._since.items()))
            if entered > since:
                return
            del self._since[transport]
            self._end(transport)
