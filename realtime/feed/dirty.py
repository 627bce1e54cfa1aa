"""The accounts that must be read again, in the order in which they were marked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from uuid import UUID


class DirtySet:
    """A set that many tasks mark and one task drains; while one batch is read, the next one gathers."""

    def __init__(self) -> None:
        self._marked: dict[UUID, None] = {}
        self._any = asyncio.Event()

    def __len__(self) -> int:
        return len(self._marked)

    def mark(self, user_id: UUID) -> None:
        """Mark an account that must be read again."""
        self._marked[user_id] = None
        self._any.set()

    def mark_all(self, user_ids: Iterable[UUID]) -> None:
        """Mark accounts that must be read again."""
        for user_id in user_ids:
            self.mark(user_id)

    async def take(self, most: int) -> list[UUID]:
        """Wait for a mark, then remove and return the oldest ``most`` ones."""
        await self._any.wait()
        taken = list(self._marked)[:most] if len(self._marked) > most else list(self._marked)
        for user_id in taken:
            del self._marked[user_id]
        if not self._marked:
            self._any.clear()
        return taken
