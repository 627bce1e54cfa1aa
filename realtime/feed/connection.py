"""A database connection that a task of the feed keeps, and replaces when it breaks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from realtime.database import DATABASE_ERRORS

__all__ = ["DATABASE_ERRORS", "KeptConnection"]


class KeptConnection:
    """One connection of the pool, kept between uses, because a check-out costs more than a statement.

    One task uses it at a time. Any error drops the connection, and the next use gets another one.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._pooled: Any = None
        self._lock = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def driver(self) -> AsyncIterator[Any]:
        """The asyncpg connection, for one use."""
        async with self._lock:
            try:
                if self._pooled is None:
                    # A timeout here could cancel in the middle, and the pool would count the connection for ever. The
                    # engine's own deadlines for connecting and waiting bound this call.
                    self._pooled = await self._engine.raw_connection()
                yield self._pooled.driver_connection
            except BaseException:
                self._drop()
                raise

    def _drop(self) -> None:
        pooled, self._pooled = self._pooled, None
        if pooled is None:
            return
        # `close()` would wait for a server that may have stopped answering.
        driver = pooled.driver_connection
        if driver is not None:
            driver.terminate()
        with contextlib.suppress(Exception):
            pooled.invalidate()

    async def close(self) -> None:
        """Give the connection back to the pool."""
        async with self._lock:
            pooled, self._pooled = self._pooled, None
            if pooled is not None:
                pooled.close()
