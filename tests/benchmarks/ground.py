"""The ground of all figures: real servers, a migrated database with accounts, and tokens for them."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import asyncpg

from auth.development import DevelopmentKey
from queries.migrations.run import migrate
from realtime.embedded import EmbeddedServers
from tests.benchmarks.children import Child, child
from tests.benchmarks.platform import account, settle, write_accounts
from tests.inbox import apply_inbox

#: A folder on a disk, also where /tmp is in memory.
_ON_DISK: Final = "/var/tmp"
_FLUSHES: Final = 200


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The size of the measurements; ``limit_seconds`` bounds one group of figures."""

    accounts: int
    idle_sockets: tuple[int, ...]
    changes_per_second: tuple[int, ...]
    log_rows: tuple[int, ...]
    nodes: tuple[int, ...]
    samples: int
    window_seconds: float
    limit_seconds: float


QUICK = Scale(
    accounts=1000,
    idle_sockets=(1000,),
    changes_per_second=(200, 1000),
    log_rows=(10**3, 10**5),
    nodes=(1, 2),
    samples=5,
    window_seconds=2.0,
    limit_seconds=300.0,
)
FULL = Scale(
    accounts=1000,
    idle_sockets=(1000, 5000),
    changes_per_second=(200, 1000),
    log_rows=(10**3, 10**5, 10**6),
    nodes=(1, 2, 3),
    samples=9,
    window_seconds=4.0,
    limit_seconds=600.0,
)


@dataclass(frozen=True, kw_only=True)
class Ground:
    """The servers and databases. ``connection`` is the benchmark's own, and ``bare_url`` has no Guardwire.

    ``postmaster`` is the process id of PostgreSQL; None for a given server, which may run on another machine.
    """

    scale: Scale
    database_url: str
    bare_url: str
    redis_url: str
    connection: Any
    users: Sequence[UUID]
    secret: str
    postmaster: int | None

    @property
    def database(self) -> str:
        """The name of the database that the server reads."""
        return urlsplit(self.database_url).path.removeprefix("/")

    def tokens(self, users: Sequence[UUID], *, scopes: Sequence[str] = ()) -> list[str]:
        """A token for each of ``users``."""
        key = DevelopmentKey(self.secret)
        return [key.issue(user, scopes=scopes) for user in users]

    @contextlib.asynccontextmanager
    async def another_connection(self) -> AsyncIterator[Any]:
        """A further connection to the database that the server reads."""
        connection = await asyncpg.connect(self.database_url)
        try:
            yield connection
        finally:
            await connection.close()

    @contextlib.asynccontextmanager
    async def another_database(self) -> AsyncIterator[Any]:
        """A connection to a further database with Guardwire and without accounts, which is dropped at the end."""
        url = _named(self.database_url, f"{self.database}_{secrets.token_hex(2)}")
        await self.connection.execute(f'CREATE DATABASE "{_name(url)}" TEMPLATE template0')
        try:
            await migrate(url)
            connection = await asyncpg.connect(url)
            yield connection
            await connection.close()
        finally:
            await self.connection.execute(f'DROP DATABASE IF EXISTS "{_name(url)}" WITH (FORCE)')

    def node(
        self,
        *,
        counts_statements: bool = False,
        counts_reads: bool = False,
        fanout: str = "direct",
        graphql: bool = False,
    ) -> AbstractAsyncContextManager[Child]:
        """The real server. It counts the rows that it applies, its statements, which costs it a little, or its reads of
        accounts.
        """
        return child(
            "node",
            database_url=self.database_url,
            redis_url=self.redis_url,
            secret=self.secret,
            counts_statements=counts_statements,
            counts_reads=counts_reads,
            fanout=fanout,
            graphql="on" if graphql else "off",
            # Webhooks lead to this machine.
            webhook_allow_private=True,
        )

    def floor(self, notify_channel: str = "floor") -> AbstractAsyncContextManager[Child]:
        """From NOTIFY to a raw write."""
        return child("floor", database_url=self.database_url, notify_channel=notify_channel)

    def naive(self) -> AbstractAsyncContextManager[Child]:
        """The server that most people would write."""
        return child("naive", database_url=self.database_url, secret=self.secret)

    def stock(self, body_bytes: int = 0, http: str = "auto") -> AbstractAsyncContextManager[Child]:
        """Starlette and uvicorn with their defaults."""
        return child("stock", secret=self.secret, body_bytes=body_bytes, http=http)


@contextlib.asynccontextmanager
async def ground(servers: EmbeddedServers, scale: Scale) -> AsyncIterator[Ground]:
    """Databases of this run on ``servers``; they are dropped at the end."""
    name = f"guardwire_bench_{secrets.token_hex(4)}"
    admin = await asyncpg.connect(servers.database_url)
    urls = [_named(servers.database_url, name), _named(servers.database_url, f"{name}_bare")]
    try:
        for url in urls:
            await admin.execute(f'CREATE DATABASE "{_name(url)}" TEMPLATE template0')
            await migrate(url)
        users = [account(number) for number in range(scale.accounts)]
        await _without_guardwire(urls[1], users)
        connection = await asyncpg.connect(urls[0])
        await write_accounts(connection, users)
        await apply_inbox(connection)
        await settle(connection)
        yield Ground(
            scale=scale,
            database_url=urls[0],
            bare_url=urls[1],
            redis_url=servers.redis_url,
            connection=connection,
            users=users,
            secret=secrets.token_hex(32),
            postmaster=servers.postgres.pid if servers.postgres else None,
        )
        await connection.close()
    finally:
        for url in urls:
            await admin.execute(f'DROP DATABASE IF EXISTS "{_name(url)}" WITH (FORCE)')
        await admin.close()


@contextlib.asynccontextmanager
async def ground_on_disk(scale: Scale, redis_url: str) -> AsyncIterator[Ground]:
    """The same on a PostgreSQL with its data on a disk, where every commit waits for the disk."""
    with _folder_on_disk() as folder, EmbeddedServers.start(folder, redis_url=redis_url) as servers:
        connection = await asyncpg.connect(servers.database_url)
        # The setting of a role overrides that of the server's command line.
        await connection.execute("ALTER ROLE CURRENT_USER SET synchronous_commit = on")
        await connection.close()
        async with ground(servers, scale) as prepared:
            yield prepared


@contextlib.contextmanager
def _folder_on_disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="guardwire-bench-", dir=_ON_DISK) as name:
        folder = Path(name)
        # PostgreSQL's account must be able to enter the folder.
        folder.chmod(0o711)
        yield folder


def flush_us() -> float:
    """Median time of a write of 8 KB to the disk of `ground_on_disk`, with its fsync."""
    taken = []
    with tempfile.NamedTemporaryFile(dir=_ON_DISK) as file:
        for _ in range(_FLUSHES):
            file.write(bytes(8192))
            file.flush()
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - begun)
    return 1e6 * median(taken)


async def _without_guardwire(url: str, users: list[UUID]) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("DROP SCHEMA guardwire CASCADE")
    await write_accounts(connection, users)
    await settle(connection)
    await connection.close()


def _named(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path="/" + name))


def _name(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")
