"""Remembers steps in Redis behind the push: newest first to clients, then to memory, never the other way
round.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from realtime.history import Step
from realtime.metrics import METRICS
from realtime.store.snapshots import SnapshotStore, Taken, taken

#: With Redis slower than the feed, older steps are forgotten first: resume falls back to a snapshot, nothing
#: is wrong.
_MOST_WAITING: Final = 20_000
#: A call costs ten times what one more key in it does, and nobody waits for this one: a client that changes
#: nodes takes longer to connect.
_GATHER_SECONDS: Final = 0.05
_RESULTS: Final = {1: "stored", 0: "not_newer", -1: "older_epoch"}


class SnapshotWriter:
    """Single-flight and batched: steps gather for a moment, and while a batch is stored the next one does."""

    def __init__(self, store: SnapshotStore) -> None:
        self._store = store
        self._waiting: list[Taken] = []
        self._any = asyncio.Event()

    def remember(self, steps: Sequence[Step]) -> None:
        """Store these soon; returns at once."""
        if steps:
            self._waiting.extend(map(taken, steps))
            if len(self._waiting) > _MOST_WAITING:
                del self._waiting[: -_MOST_WAITING // 2]
            self._any.set()

    async def run(self) -> None:
        """For ever; what Redis does not take is dropped."""
        while True:
            await self._any.wait()
            await asyncio.sleep(_GATHER_SECONDS)
            self._any.clear()
            steps, self._waiting = self._waiting, []
            for result in await self._store.commit(steps):
                METRICS.stored.add(1, _RESULTS.get(result, "unknown"))
