"""One timer for all sockets: heartbeats, pings, deadlines, and the end of tokens."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from auth.identity import Identity
from auth.refusals import Reason
from realtime.delivery.hub import Hub
from realtime.delivery.websocket.conversation import OpenSockets
from realtime.metrics import METRICS

TICK_SECONDS: Final = 0.25
#: When access is revoked or a key withdrawn, all sockets are looked at within a second, and no tick is long.
_SHARES: Final = 4
#: A loop that stood still for so long is worth a line.
_STALL_SECONDS: Final = 1.0

log = logging.getLogger(__name__)


class SocketTimer:
    """Looks at each socket when something of its stream is due, for ever.

    ``recheck`` gives the reason for which an identity holds no longer, else None; ``changes`` grows when that may
    differ from before for another cause than time.
    """

    def __init__(
        self,
        *,
        hub: Hub,
        sockets: OpenSockets,
        recheck: Callable[[Identity], Reason | None],
        changes: Callable[[], int],
    ) -> None:
        self._hub = hub
        self._sockets = sockets
        self._recheck = recheck
        self._changes = changes
        self._changes_seen = changes()

    async def run(self) -> None:
        """For ever."""
        while True:
            due = time.monotonic() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            now, wall = time.monotonic(), time.time()
            _measure_lag(now - due)
            self._hub.tick(now)
            self._look_at_all_after_changes(now)
            # To compare one number of each socket costs 5 ms a second with 20,000 sockets.
            for socket in self._sockets.all():
                if socket.stream.next_due <= now:
                    socket.look(now, wall, self._recheck)

    def _look_at_all_after_changes(self, now: float) -> None:
        changes = self._changes()
        if changes != self._changes_seen:
            self._changes_seen = changes
            for number, socket in enumerate(self._sockets.all()):
                socket.stream.look_by(now + number % _SHARES * TICK_SECONDS)


def _measure_lag(lag_seconds: float) -> None:
    METRICS.loop_lag.observe(max(0.0, lag_seconds))
    if lag_seconds > _STALL_SECONDS:
        log.warning("the event loop stood still for %.1f s: nobody was served meanwhile", lag_seconds)
