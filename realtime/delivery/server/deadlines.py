"""Connections that wait for their peer, oldest first, and the end of those that have waited for too long.

One timer looks after all of them: one for each would be set and cancelled with every request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

#: A connection that is younger has had no time to say anything: a crowd of thousands is accepted before it is
#: read, which takes seconds.
_GRACE_SECONDS: Final = 4.0


class Waiting:
    """Ends those who have waited for ``seconds``, and the oldest sooner while there are more than ``most``.

    ``end`` is called with the transport of a connection that is here no longer.
    """

    def __init__(
        self, *, seconds: float, end: Callable[[asyncio.Transport], None], most: int | None = None
    ) -> None:
        self._seconds = seconds
        self._end = end
        self._most = most
        self._since: dict[asyncio.Transport, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        """``transport`` waits from now on, or goes on waiting."""
        now = loop.time()
        self._since.setdefault(transport, now)
        if self._timer is None:
            self._timer = loop.call_at(now + self._seconds, self._end_late, loop)
        if self._most is not None and len(self._since) > self._most:
            self._end_until(now - _GRACE_SECONDS, most=self._most)

    def leave(self, transport: asyncio.Transport) -> None:
        """It has said what it was waited for, or is gone."""
        self._since.pop(transport, None)

    def _end_late(self, loop: asyncio.AbstractEventLoop) -> None:
        """End whoever is late, and look again when the next one would be."""
        self._end_until(loop.time() - self._seconds)
        oldest = next(iter(self._since.values()), None)
        self._timer = None
        if oldest is not None:
            self._timer = loop.call_at(oldest + self._seconds, self._end_late, loop)

    def _end_until(self, since: float, *, most: int = 0) -> None:
        """End the oldest while there are more than ``most``, but none who came after ``since``."""
        while len(self._since) > most:
            transport, entered = next(iter(self._since.items()))
            if entered > since:
                return
            del self._since[transport]
            self._end(transport)
