"""The database of a command: its setting, and connections to it."""

from __future__ import annotations

import os
from typing import Any, Final
from urllib.parse import urlsplit

from realtime import settings
from realtime.errors import ConfigurationError, UnavailableError
from realtime.settings import Settings

CONNECT_SECONDS: Final = 10.0
#: PostgreSQL looks in every schema of the search path for the function or operator that matches best. An object that
#: somebody made in schema public could match, and it would run with the rights of the command's login.
_SEARCH_PATH: Final = {"search_path": "pg_catalog"}


def read_database_settings(purpose: str) -> Settings:
    """The settings of the environment; ``purpose`` completes the error about a missing DATABASE_URL.

    Raises ConfigurationError.
    """
    read = settings.read(os.environ)
    if not read.database_url:
        raise ConfigurationError([f"DATABASE_URL is not set: it names the database {purpose}."])
    return read


async def check_database(url: str) -> None:
    """Connect once; raises UnavailableError or ConfigurationError in one sentence, without the password."""
    connection = await _connect(url)
    await connection.close()


async def open_database(url: str, *, keep_search_path: bool = False) -> Any:
    """A connection of asyncpg; raises what `check_database` raises.

    It resolves names in pg_catalog alone, or with ``keep_search_path`` in the search path of the login.
    """
    import asyncpg

    if keep_search_path:
        return await _connect(url)
    try:
        return await _connect(url, server_settings=_SEARCH_PATH)
    except asyncpg.ProtocolViolationError:
        # A pooler such as pgbouncer refuses settings for a session.
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
    """The first line of the message of the system or the server."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text.splitlines() or ["no answer in time"])[0].rstrip(".")
