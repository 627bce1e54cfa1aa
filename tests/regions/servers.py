"""A primary of PostgreSQL and standbys that stream from it.

The data folder of the primary is copied before its first start, which is a base backup without WAL. A standby begins
with the copy and streams everything since, so one can be made at any time, as often as a test promotes one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, ClassVar, Final, Self
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from realtime.embedded.account import ServerAccount, server_account
from realtime.embedded.folder import OwnedFolder
from realtime.embedded.postgres import DATABASE, SETTINGS, USER, Postgres
from realtime.embedded.programs import PostgresPrograms, Source, find_postgres

#: Nothing survives a crash of this machine, and nothing else is left out: a commit is replicated at once.
REPLICATED: Final = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "on",
    "wal_level": "replica",
    "max_wal_senders": "10",
    "wal_keep_size": "1GB",
    "checkpoint_timeout": "1h",
    "hot_standby": "on",
    "wal_retrieve_retry_interval": "100ms",
    "wal_receiver_timeout": "5s",
}
_CATCH_UP_SECONDS: Final = 30.0


class ReplicatedPostgres(Postgres):
    """A primary, or a standby of one."""

    ready_states: ClassVar[frozenset[str]] = frozenset({"ready", "standby"})

    def _arguments(self) -> list[str]:
        settings = SETTINGS | REPLICATED | {"port": str(self.port)}
        return ["-D", str(self.cluster), *(f"--{name}={value}" for name, value in settings.items())]

    def _is_ready(self) -> bool:
        lines = self._lock_file.read_text().splitlines() if self._lock_file.exists() else []
        return bool(lines) and lines[-1].strip() in self.ready_states

    def url_of(self, database_url: str, *, port: int | None = None) -> str:
        """The URL here of the database that ``database_url`` names on another server of the pair."""
        parts = urlsplit(database_url)
        netloc = f"{parts.netloc.rpartition(':')[0]}:{port or self.port}"
        return urlunsplit(parts._replace(netloc=netloc))


class Replicas:
    """A primary, and the copy of its data folder from which standbys are made."""

    def __init__(self, account: ServerAccount, programs: PostgresPrograms) -> None:
        self._account = account
        self._programs = programs
        self._folders: list[OwnedFolder] = []
        self._servers: list[Postgres] = []
        self.primary = self._server()
        self._original = self.primary.cluster.with_name("original")

    @classmethod
    def start(cls, source: Source) -> Self:
        """Start the primary; in the main thread only."""
        account = server_account()
        made = cls(account, find_postgres(account, source=source))
        made.primary._make_cluster()
        made._copy(made.primary.cluster, made._original)
        made.primary.start()
        return made

    def standby(self, port: int | None = None) -> ReplicatedPostgres:
        """A new standby, started, that streams from ``port`` instead of the primary's; in the main thread only."""
        standby = self._server()
        self._copy(self._original, standby.cluster)
        shutil.copy(self.primary._password_file, standby._password_file)
        (standby.cluster / "standby.signal").touch()
        link = standby.cluster / "postgresql.auto.conf"
        with link.open("a") as file:
            file.write(f"primary_conninfo = '{self.conninfo(port or self.primary.port)}'\n")
        self._own(standby.cluster)
        standby.start()
        return standby

    def conninfo(self, port: int) -> str:
        """The address of the primary, or of a proxy before it, as a standby reads it."""
        password = self.primary._password_file.read_text().strip()
        return f"host=127.0.0.1 port={port} user={USER} password={password} dbname={DATABASE}"

    def end(self) -> None:
        """End all servers, and remove their folders."""
        for server in reversed(self._servers):
            server.end()
        for folder in self._folders:
            folder.release()

    def end_server(self, server: ReplicatedPostgres) -> None:
        """End one server before the others."""
        server.end()

    def _server(self) -> ReplicatedPostgres:
        folder = OwnedFolder.make_throwaway(self._account)
        self._folders.append(folder)
        server = ReplicatedPostgres(self._programs, account=self._account, owned=folder)
        self._servers.append(server)
        return server

    def _copy(self, source: Path, target: Path) -> None:
        shutil.copytree(source, target)
        self._own(target)

    def _own(self, folder: Path) -> None:
        if not self._account.is_other:
            return
        for path in (folder, *folder.rglob("*")):
            os.chown(path, self._account.uid, self._account.gid)


@contextlib.contextmanager
def replicas(source: Source) -> Iterator[Replicas]:
    """A running primary, while the context lasts."""
    made = Replicas.start(source)
    try:
        yield made
    finally:
        made.end()


async def execute(url: str, *statements: str) -> Any:
    """Run statements outside of a transaction; the first value of the last one."""
    connection = await asyncpg.connect(url, timeout=10)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetchval(statements[-1])
    finally:
        connection.terminate()


async def replayed(primary_url: str, standby_url: str) -> None:
    """Wait until the standby has replayed every commit of the primary up to now."""
    position = await execute(primary_url, "SELECT pg_current_wal_insert_lsn()::text")
    deadline = time.monotonic() + _CATCH_UP_SECONDS
    while not await execute(standby_url, f"SELECT pg_last_wal_replay_lsn() >= '{position}'::pg_lsn"):
        assert time.monotonic() < deadline, "the standby does not follow"
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def paused(standby_url: str) -> AsyncIterator[None]:
    """The standby replays nothing while the context lasts."""
    await execute(standby_url, "SELECT pg_wal_replay_pause()")
    while await execute(standby_url, "SELECT pg_get_wal_replay_pause_state()") != "paused":
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        await execute(standby_url, "SELECT pg_wal_replay_resume()")
