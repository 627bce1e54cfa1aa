"""Wakes everybody who waits for news, and keeps nothing for those who do not."""

from __future__ import annotations

import asyncio


class Signal:
    """Look first and wait afterwards, without an await between: then no news is missed."""

    def __init__(self) -> None:
        self._news = asyncio.Event()

    def notify(self) -> None:
        """There is news."""
        told, self._news = self._news, asyncio.Event()
        told.set()

    async def wait(self) -> None:
        """Until the next news."""
        await self._news.wait()
