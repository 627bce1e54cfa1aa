"""The way out: this node takes nobody new, and its clients are asked, a few at a time, to go elsewhere.

First it is not ready any more, and for a moment nothing else happens, so that a balancer can see it. Then the
WebSockets are closed in batches (1012, each with a hint of its own of when to return), while event streams
and long polls, which look by themselves once a second, leave at the same pace. What takes no goodbye is cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Iterable, Iterator
from math import ceil
from typing import Final, Protocol

from guardwire.errors import CloseCode
from realtime.delivery.stream import retry_after_ms
from realtime.errors import UnavailableError
from realtime.metrics import Gauge

log = logging.getLogger(__name__)

#: Fewer clients than would fill the time are not kept waiting for it.
_MOST_A_SECOND: Final = 100
_STEP_SECONDS: Final = 0.1
_GOODBYE_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.05


class Leaving(Protocol):
    """One WebSocket, as the drain sees it."""

    def close(self, code: CloseCode, reason: str, *, retry_after_ms: int | None = None) -> None:
        """Say why and hang up."""

    def abort(self) -> None:
        """Cut the connection without waiting for anybody."""


class Sockets(Protocol):
    """All WebSockets of this node; ``draining`` says that it takes no new ones."""

    draining: bool

    def __iter__(self) -> Iterator[Leaving]: ...


class Drain:
    """Where this node stands on its way out; `begun` says that it takes nobody new."""

    def __init__(self, streams: Sockets) -> None:
        self._streams = streams
        self._held = 0
        self._share_gone = 0.0

    @property
    def begun(self) -> bool:
        """Whether this node is on its way out."""
        return self._streams.draining

    def asks_to_leave(self) -> bool:
        """Whether a client that asks now should leave now; asked once a second, all have left in the end."""
        return self._share_gone > 0 and random.random() < self._share_gone  # noqa: S311 - it spreads, no more

    def refuse(self) -> None:
        """Raise UnavailableError when this node takes nobody new."""
        if self.begun:
            raise UnavailableError("The server is restarting; connect again.")

    @contextlib.contextmanager
    def holding(self, gauge: Gauge) -> Iterator[None]:
        """Count a client that `asks_to_leave` by itself, in ``gauge`` too."""
        self._held += 1
        gauge.add(1)
        try:
            yield
        finally:
            self._held -= 1
            gauge.add(-1)

    async def run(self, *, notice_seconds: float, spread_seconds: float) -> None:
        """Be unready for ``notice_seconds``, then see everybody off within ``spread_seconds`` and a bit."""
        self._streams.draining = True
        log.info("draining: %d clients are asked to come back elsewhere", self._clients())
        await asyncio.sleep(notice_seconds)
        await self._see_off(min(spread_seconds, self._clients() / _MOST_A_SECOND))
        self._share_gone = 1.0
        _say_goodbye(self._streams)  # also to those whose handshake was under way
        await self._until_nobody_is_left(_GOODBYE_SECONDS)
        left = tuple(self._streams)
        if left:
            log.info("%d sockets did not answer the goodbye, and are cut", len(left))
        for socket in left:
            socket.abort()

    async def _see_off(self, seconds: float) -> None:
        began = time.monotonic()
        sockets = list(self._streams)
        random.shuffle(sockets)
        while self._share_gone < 1 and self._clients():
            self._share_gone = min(1.0, (time.monotonic() - began + _STEP_SECONDS) / (seconds or 1e-9))
            leaving = ceil(self._share_gone * len(sockets))
            _say_goodbye(sockets[:leaving])
            # Jitter, so that nodes that are told together keep no step.
            await asyncio.sleep(_STEP_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - it spreads, no more

    async def _until_nobody_is_left(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._clients() and time.monotonic() < deadline:  # noqa: ASYNC110 - asked for once in a life
            await asyncio.sleep(_LOOK_SECONDS)

    def _clients(self) -> int:
        return len(tuple(self._streams)) + self._held


def _say_goodbye(sockets: Iterable[Leaving]) -> None:
    for socket in sockets:
        # One that is told already, or gone by itself, is left alone.
        hint = retry_after_ms(100, 2000)
        socket.close(CloseCode.DRAINING, "the server is restarting", retry_after_ms=hint)
