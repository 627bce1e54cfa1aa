"""A client of a plain HTTP transport: it waits for the hub instead of being written to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Self
from uuid import UUID

from realtime.delivery.hub import Hub
from realtime.delivery.watch import Watch
from realtime.store.snapshot import Snapshot


class Waiter:
    """Attached to ``watch`` until `detach`; `news` is set when a newer snapshot is there or freshness
    changed.
    """

    __slots__ = ("news", "watch")

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.news = asyncio.Event()

    @classmethod
    @contextlib.contextmanager
    def attached(cls, hub: Hub, user_id: UUID) -> Iterator[Self]:
        """Watch an account while the context lasts."""
        watch = hub.reading(user_id)
        waiter = cls(watch)
        hub.attach(user_id, waiter)
        try:
            yield waiter
        finally:
            hub.detach(watch, waiter)

    def wake(self, newest: Snapshot, now: float) -> None:
        """See `Subscriber`."""
        self.news.set()

    def beat(self, now: float, *, stale: bool) -> None:
        """See `Subscriber`."""
        self.news.set()

    async def wait(self, seconds: float) -> bool:
        """Whether there was news within ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                await self.news.wait()
        except TimeoutError:
            return False
        self.news.clear()
        return True
