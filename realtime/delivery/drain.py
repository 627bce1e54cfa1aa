"""The way out: this node takes no new clients, and asks its clients, a few at a time, to go elsewhere.

First the node is not ready any more, and for a moment nothing else happens, so that a balancer can see it. Then the
WebSockets are closed in batches (1012, each with a hint of its own of when to return), while event streams and long
polls, which ask once a second, leave at the same pace. A client that does not answer the goodbye is cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from math import ceil
from typing import Final, TypeVar

from realtime.errors import UnavailableError
from realtime.metrics import Gauge

log = logging.getLogger(__name__)

#: A WebSocket.
S = TypeVar("S")

#: Fewer clients than would fill the time are not kept waiting for it.
_MOST_A_SECOND: Final = 100
_STEP_SECONDS: Final = 0.1
_GOODBYE_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.05


class Drain:
    """The drain of this node; ``begun`` says that it takes no new clients."""

    def __init__(self) -> None:
        self.begun = False
        self._counted = 0
        self._share_gone = 0.0

    def should_leave(self) -> bool:
        """Whether a client that asks now should leave now; when asked once a second, all have left in the end."""
        return self._share_gone > 0 and random.random() < self._share_gone  # noqa: S311 - it spreads, no more

    def refuse(self) -> None:
        """Raise UnavailableError when this node takes no new clients."""
        if self.begun:
            raise UnavailableError("The server is restarting; connect again.")

    @contextlib.contextmanager
    def counting(self, gauge: Gauge) -> Iterator[None]:
        """Count a client that asks `should_leave` by itself, in ``gauge`` too."""
        self._counted += 1
        gauge.add(1)
        try:
            yield
        finally:
            self._counted -= 1
            gauge.add(-1)

    async def run(
        self,
        sockets: Callable[[], Sequence[S]],
        *,
        say_goodbye: Callable[[S], None],
        cut: Callable[[S], None],
        notice_seconds: float,
        spread_seconds: float,
    ) -> None:
        """Be unready for ``notice_seconds``, then have all clients leave within ``spread_seconds`` and a bit.

        ``sockets`` gives the WebSockets that are open now. ``say_goodbye`` closes one, unless its stream has ended.
        """
        self.begun = True
        log.info("draining: %d clients are asked to come back elsewhere", len(sockets()) + self._counted)
        await asyncio.sleep(notice_seconds)
        clients = len(sockets()) + self._counted
        await self._spread(sockets, say_goodbye, min(spread_seconds, clients / _MOST_A_SECOND))
        self._share_gone = 1.0
        for socket in sockets():  # also those whose handshake was under way
            say_goodbye(socket)
        await self._wait_until_empty(sockets, _GOODBYE_SECONDS)
        left = sockets()
        if left:
            log.info("%d sockets did not answer the goodbye, and are cut", len(left))
        for socket in left:
            cut(socket)

    async def _spread(
        self, sockets: Callable[[], Sequence[S]], say_goodbye: Callable[[S], None], seconds: float
    ) -> None:
        began = time.monotonic()
        leaving = list(sockets())
        random.shuffle(leaving)
        while self._share_gone < 1 and (sockets() or self._counted):
            self._share_gone = min(1.0, (time.monotonic() - began + _STEP_SECONDS) / (seconds or 1e-9))
            for socket in leaving[: ceil(self._share_gone * len(leaving))]:
                say_goodbye(socket)
            # Jitter, so that nodes that drain together keep no step.
            await asyncio.sleep(_STEP_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - it spreads, no more

    async def _wait_until_empty(self, sockets: Callable[[], Sequence[S]], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (sockets() or self._counted) and time.monotonic() < deadline:  # noqa: ASYNC110 - once in a life
            await asyncio.sleep(_LOOK_SECONDS)
