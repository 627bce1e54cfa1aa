"""A database connection that the feed keeps, and gets anew when it broke."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

#: What a broken connection, a stopped server or a statement past its deadline raises.
DATABASE_ERRORS = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    # The driver's word for a connection that was cut in the middle of preparing a statement.
    asyncpg.InternalClientError,
    SQLAlchemyError,
    # What the server says while it refuses; `raw_connection` does not make a SQLAlchemyError of it.
    AsyncAdapt_asyncpg_dbapi.Error,
)


class KeptConnection:
    """One connection of the pool, kept between uses, because checking one out costs more than the statement.

    ``driver`` is the pool's own asyncpg connection. One use at a time; any error drops the connection, and
    the next use gets another.
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
                    # No timeout around it: cancelled in the middle, the pool would count the connection for
                    # ever. The engine's own connect and wait deadlines bound it.
                    self._pooled = await self._engine.raw_connection()
                yield self._pooled.driver_connection
            except BaseException:
                self._drop()
                raise

    def _drop(self) -> None:
        pooled, self._pooled = self._pooled, None
        if pooled is None:
            return
        # Not `close()`: that would wait for a server that may have stopped answering.
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
