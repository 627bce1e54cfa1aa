"""Sessions whose statements call PostgreSQL's own functions and operators alone, under any settings of their login.

PostgreSQL takes the function, operator or type whose arguments match best, in whichever schema of the session's
search_path it is. Before PostgreSQL 15 every login may make such in schema public, and a database that was upgraded
keeps it so. A function that a stranger made there would run with the rights of the login that calls it: the one that
migrates, or a node's. Therefore no session of ours has schema public in its path, and all its statements name the
schemas of tables and functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import asyncpg

from realtime.errors import UnavailableError

#: Settings of every session. The isolation level is PostgreSQL's default: under another one that was set for a role,
#: batches of the applier would fail whenever rows are written at the same time.
SETTINGS: Final[Mapping[str, str]] = {
    "search_path": "pg_catalog",
    "default_transaction_isolation": "read committed",
}
#: Sets the path for a role where a pooler lets no session have settings of its own.
REMEDY: Final = "ALTER ROLE … SET search_path = pg_catalog"
_POOLER: Final = (
    "The database cannot be used through this address, because it refuses settings of a session, as a pooler does:"
    " give PostgreSQL's own address."
)
_SAFE: Final = frozenset({"pg_catalog", "pg_temp"})


async def connect(
    database_url: str, *, settings: Mapping[str, str] | None = None, **options: Any
) -> asyncpg.Connection[Any]:
    """A connection with `SETTINGS`, and ``settings`` besides; ``options`` are those of `asyncpg.connect`.

    Raises what `asyncpg.connect` raises: ProtocolViolationError where a pooler refuses settings.
    """
    return await asyncpg.connect(database_url, server_settings={**(settings or {}), **SETTINGS}, **options)


async def connect_safely(
    database_url: str, *, settings: Mapping[str, str] | None = None, **options: Any
) -> asyncpg.Connection[Any]:
    """A connection as `connect` makes it; without ``settings`` also through a pooler that refuses settings.

    Raises UnavailableError where that pooler stands in the way, or where the session has another search_path.
    """
    try:
        connection = await connect(database_url, settings=settings, **options)
    except asyncpg.ProtocolViolationError as error:
        # A pooler such as pgbouncer lets no client set anything for a session.
        if settings:
            raise UnavailableError(_POOLER) from error
        connection = await asyncpg.connect(database_url, **options)
    try:
        if (problem := await unsafe_path(connection)) is not None:
            raise UnavailableError(f"The database cannot be used through this address: {problem}.")
    except BaseException:
        connection.terminate()
        raise
    return connection


async def unsafe_path(connection: Any) -> str | None:
    """Why names of this session's statements may be those of somebody else, with the remedy; None when none is."""
    path = str(await connection.fetchval("SHOW search_path"))
    if {name.strip(' "') for name in path.split(",")} <= _SAFE:
        return None
    return (
        f"its sessions have the search_path {path}, so a function that somebody makes in one of these schemas may run"
        f" with the rights of this login; use PostgreSQL's own address in place of a pooler's, or {REMEDY}"
    )
