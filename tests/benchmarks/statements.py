"""Counts the statements that this process sends to PostgreSQL, through its driver."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg


class Statements:
    """``count`` grows with every statement on connections made since `watch`, by any part of the process.

    PostgreSQL's own counts are up to ten seconds late, and do not separate clients.
    """

    def __init__(self) -> None:
        self.count = 0
        self._connect = asyncpg.connect

    def watch(self) -> None:
        """Start counting."""

        async def connect(*args: Any, **options: Any) -> Any:
            connection = await self._connect(*args, **options)
            connection.add_query_logger(self._on_query)
            return connection

        asyncpg.connect = connect

    async def told(self) -> int:
        """The count, after the driver has reported finished statements, which it does in a later turn of the loop."""
        for _ in range(3):
            await asyncio.sleep(0)
        return self.count

    def leave(self) -> None:
        """Stop counting on connections that are made from now on."""
        asyncpg.connect = self._connect

    def _on_query(self, _record: object) -> None:
        self.count += 1
