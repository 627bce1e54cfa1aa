"""Connections to PostgreSQL: one way to make them, for the pool and for the listener alike."""

from __future__ import annotations

from typing import Any, Final

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

_CONNECT_SECONDS: Final = 2.0
_STATEMENT_SECONDS: Final = 10
_POOL_WAIT_SECONDS: Final = 3.0


def engine_for(database_url: str, *, pool_size: int, pooled: bool) -> AsyncEngine:
    """An engine on ``database_url`` (`postgresql://…`, unix sockets by ``?host=``); nothing is connected yet.

    ``pooled``: the address is a transaction pooler's, so nothing may be prepared or set for the session.
    """
    settings = {
        "application_name": "guardwire",
        # A live query is short and often: compiling it would cost more than running it.
        "jit": "off",
        # And it is planned once: PostgreSQL would plan it anew for each set of accounts, which takes longer
        # than running it.
        "plan_cache_mode": "force_generic_plan",
        "statement_timeout": f"{_STATEMENT_SECONDS}s",
    }
    options: dict[str, Any] = {"statement_cache_size": 0} if pooled else {"server_settings": settings}

    async def connect() -> asyncpg.Connection[Any]:
        return await asyncpg.connect(database_url, timeout=_CONNECT_SECONDS, **options)

    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=_POOL_WAIT_SECONDS,
        pool_use_lifo=True,
        # Errors are logged; who was asked about is not.
        hide_parameters=True,
    )
