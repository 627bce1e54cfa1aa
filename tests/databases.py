"""Databases for tests: made in milliseconds, dropped after, and strict about connections left behind."""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
import time
from collections.abc import Coroutine
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg

#: How long the server may take to notice a closed connection.
NOTICE_SECONDS: Final = 3.0
CALL_SECONDS: Final = 60.0
CONNECTED: Final = """
    SELECT coalesce(nullif(application_name, ''), 'pid ' || pid) || ': ' || left(query, 80) AS who
    FROM pg_stat_activity
    WHERE datname = $1 AND backend_type = 'client backend'
"""

Result = TypeVar("Result")


class ConnectionsLeft(AssertionError):
    """A test has ended, and connections to its database are still open."""


class Databases:
    """Makes and drops databases on one server, over one connection that lives in a thread of its own.

    In a thread, because a fixture may be set up outside of a running event loop or inside of one.
    """

    def __init__(
        self, server_url: str, *, is_throwaway: bool, notice_seconds: float = NOTICE_SECONDS
    ) -> None:
        """``notice_seconds`` is how long a closed connection may still be listed by the server."""
        self._server_url = server_url
        self._prefix = f"guardwire_test_{os.getpid()}_{secrets.token_hex(3)}"
        self._made = 0
        self._is_throwaway = is_throwaway
        self._notice_seconds = notice_seconds
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="databases", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._connection: asyncpg.Connection = self.run(asyncpg.connect(self._server_url))
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._connection.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run ``coroutine`` to its end in the thread of the connection; returns its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(CALL_SECONDS)

    async def execute(self, statement: str) -> None:
        """Run a statement on the server, outside of every database made here; for `run`."""
        await self._connection.execute(statement)

    @property
    def major_version(self) -> int:
        """The server's, as in 15."""
        major: int = self._connection.get_server_version().major
        return major

    def make(self, *, like: str | None = None, icu_locale: str | None = None, encoding: str = "UTF8") -> str:
        """The URL of a new database: empty, or a copy of the one at URL ``like``; of another encoding with locale C."""
        self._made += 1
        name = f"{self._prefix}_{self._made}"
        template = _name(like) if like else "template0"
        # FILE_COPY needs checkpoints, which are cheap only in a throw-away server, because it never flushes.
        by_files = self._is_throwaway and self.major_version >= 15
        strategy = "STRATEGY file_copy" if by_files else ""
        locale = f"LOCALE_PROVIDER icu ICU_LOCALE '{icu_locale}'" if icu_locale else ""
        if encoding != "UTF8":
            locale = f"ENCODING '{encoding}' LOCALE 'C'"
        self.run(
            self._connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" {strategy} {locale}')
        )
        return urlunsplit(urlsplit(self._server_url)._replace(path="/" + name))

    def drop(self, url: str) -> None:
        """Drop the database; raises ConnectionsLeft, after the drop, when a connection to it was left."""
        left = self._connections_left(_name(url))
        self.run(self._connection.execute(f'DROP DATABASE "{_name(url)}" WITH (FORCE)'))
        if left:
            raise ConnectionsLeft(f"the test is over, but still connected to its database: {', '.join(left)}")

    def _connections_left(self, name: str) -> list[str]:
        deadline = time.monotonic() + self._notice_seconds
        while True:
            rows = self.run(self._connection.fetch(CONNECTED, name))
            if not rows or time.monotonic() > deadline:
                return [row["who"] for row in rows]
            time.sleep(0.005)


def _name(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")
