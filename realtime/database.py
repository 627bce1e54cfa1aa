"""The pool of connections to PostgreSQL, and the errors of a database that does not answer."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

import asyncpg
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from queries.search_path import connect

_CONNECT_SECONDS: Final = 2.0
_STATEMENT_SECONDS: Final = 10
_POOL_WAIT_SECONDS: Final = 3.0

#: The errors of a broken connection, a stopped server, or a statement past its deadline.
DATABASE_ERRORS: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    # asyncpg raises this when a connection is cut while it prepares a statement.
    asyncpg.InternalClientError,
    SQLAlchemyError,
    # `raw_connection` raises the dialect's own errors, without wrapping them in a SQLAlchemyError.
    AsyncAdapt_asyncpg_dbapi.Error,
)


def engine_for(database_url: str, *, pool_size: int, pooled: bool) -> AsyncEngine:
    """An engine on ``database_url`` (`postgresql://…`, Unix sockets by ``?host=``); it does not connect yet.

    With ``pooled`` the URL is that of a transaction pooler, which supports neither prepared statements nor settings
    of a session; the settings of its role take their place.
    """
    settings = {
        "application_name": "guardwire",
        # A live query is short and frequent, so its compilation would cost more than its execution.
        "jit": "off",
        # Without this, PostgreSQL plans a live query again for each set of accounts, which takes longer than the query.
        "plan_cache_mode": "force_generic_plan",
        "statement_timeout": f"{_STATEMENT_SECONDS}s",
    }

    async def open_connection() -> asyncpg.Connection[Any]:
        if pooled:
            return await asyncpg.connect(database_url, timeout=_CONNECT_SECONDS, statement_cache_size=0)
        return await connect(database_url, settings=settings, timeout=_CONNECT_SECONDS)

    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=open_connection,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=_POOL_WAIT_SECONDS,
        pool_use_lifo=True,
        # Errors are logged, and their parameters would contain the ids of accounts.
        hide_parameters=True,
    )


@contextlib.asynccontextmanager
async def borrow(engine: AsyncEngine) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A connection of the pool as asyncpg gives it, outside of any transaction; an error drops it.

    The engine's own deadlines bound the wait for it. A timeout around that could cancel in the middle, and the pool
    would count the connection for ever.
    """
    pooled = await engine.raw_connection()
    driver = pooled.driver_connection
    assert driver is not None
    try:
        yield driver
    except BaseException:
        # `close()` would wait for a server that may have stopped answering.
        driver.terminate()
        with contextlib.suppress(Exception):
            pooled.invalidate()
        raise
    pooled.close()
