"""The database of a command: its setting, and connections to it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from realtime import settings
from realtime.errors import ConfigurationError, UnavailableError
from realtime.settings import Settings

CONNECT_SECONDS: Final = 10.0

Result = TypeVar("Result")


def read_database_settings(purpose: str) -> Settings:
    """The settings of the environment; ``purpose`` completes the error about a missing DATABASE_URL.

    Raises ConfigurationError.
    """
    read = settings.read(os.environ)
    if not read.database_url:
        raise ConfigurationError([f"DATABASE_URL is not set: it names the database {purpose}."])
    return read


async def check_database(url: str, *, with_settings: bool = True) -> None:
    """Connect once; raises UnavailableError or ConfigurationError in one sentence, without the password.

    Without ``with_settings`` the session keeps the settings of its login: a pooler lets it have no other.
    """
    import asyncpg

    from queries.search_path import connect_safely

    connect = connect_safely if with_settings else asyncpg.connect
    connection = await _opened(url, connect(url, timeout=CONNECT_SECONDS))
    await connection.close()


async def open_database(url: str, *, session: Mapping[str, str] | None = None) -> Any:
    """A connection of asyncpg with the settings of ``session``; raises what `check_database` raises."""
    from queries.search_path import connect_safely

    return await _opened(url, connect_safely(url, settings=session, timeout=CONNECT_SECONDS))


def run_on_database(purpose: str, work: Callable[[Any], Awaitable[Result]]) -> Result:
    """The result of ``work`` on a connection of asyncpg; ``purpose`` is that of `read_database_settings`."""
    read = read_database_settings(purpose)

    async def run() -> Result:
        connection = await open_database(read.database_url)
        try:
            return await work(connection)
        finally:
            await connection.close()

    return asyncio.run(run())


async def _opened(url: str, connecting: Awaitable[Any]) -> Any:
    import asyncpg

    try:
        return await connecting
    except (ValueError, asyncpg.ClientConfigurationError) as error:
        raise ConfigurationError(
            ["DATABASE_URL is no PostgreSQL URL: postgresql://user:password@host/name."]
        ) from error
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise UnavailableError(f"The database at {_where(url)} cannot be used: {_why(error)}.") from error


def _where(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2] or "a local socket"


def _why(error: Exception) -> str:
    """The first line of the message of the system or the server."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text.splitlines() or ["no answer in time"])[0].rstrip(".")
