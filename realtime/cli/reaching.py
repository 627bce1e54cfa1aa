"""Whether a database can be used, asked before a command begins."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from realtime.errors import ConfigurationError, UnavailableError

CONNECT_SECONDS: Final = 10.0


async def check_database(url: str) -> None:
    """Raise UnavailableError or ConfigurationError, one sentence without the password, when it is no use."""
    import asyncpg

    try:
        connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS)
    except (ValueError, asyncpg.ClientConfigurationError) as error:
        raise ConfigurationError(
            ["DATABASE_URL is no PostgreSQL URL: postgresql://user:password@host/name."]
        ) from error
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise UnavailableError(f"The database at {_where(url)} cannot be used: {_why(error)}.") from error
    await connection.close()


def _where(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2] or "a local socket"


def _why(error: Exception) -> str:
    """The reason in the system's or the server's own words, one line of them."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text.splitlines() or ["no answer in time"])[0].rstrip(".")
