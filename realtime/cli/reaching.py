"""Connections to a database for commands, and whether it can be used at all."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from realtime.errors import ConfigurationError, UnavailableError

CONNECT_SECONDS: Final = 10.0
# PostgreSQL prefers a function or operator whose arguments match better, in whichever schema of the search path it is.
# One that somebody made in schema public would run with the rights of the command's login.
_SEARCH_PATH: Final = {"search_path": "pg_catalog"}


async def check_database(url: str) -> None:
    """Raise UnavailableError or ConfigurationError, one sentence without the password, when it is no use."""
    connection = await _connect(url)
    await connection.close()


async def open_database(url: str, *, keep_search_path: bool = False) -> Any:
    """A connection of asyncpg; raises what `check_database` raises.

    It looks names up in pg_catalog alone, unless it is to ``keep_search_path``, the login's own.
    """
    import asyncpg

    if keep_search_path:
        return await _connect(url)
    try:
        return await _connect(url, server_settings=_SEARCH_PATH)
    except asyncpg.ProtocolViolationError:
        # A pooler such as pgbouncer lets no client set anything for a session.
        return await _connect(url)


async def _connect(url: str, **options: Any) -> Any:
    import asyncpg

    try:
        return await asyncpg.connect(url, timeout=CONNECT_SECONDS, **options)
    except (ValueError, asyncpg.ClientConfigurationError) as error:
        raise ConfigurationError(
            ["DATABASE_URL is no PostgreSQL URL: postgresql://user:password@host/name."]
        ) from error
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        if options and isinstance(error, asyncpg.ProtocolViolationError):
            raise
        raise UnavailableError(f"The database at {_where(url)} cannot be used: {_why(error)}.") from error


def _where(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2] or "a local socket"


def _why(error: Exception) -> str:
    """The reason in the system's or the server's own words, one line of them."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text.splitlines() or ["no answer in time"])[0].rstrip(".")
