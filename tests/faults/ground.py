"""The servers under test: PostgreSQL, Redis, nodes as processes, and a proxy on every way between them.

bots ── front proxy ── node ── database proxy ── PostgreSQL
                            ├─ listener proxy ──────┘
                            └─ memory proxy ── Redis
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import jwt
import redis.asyncio

from queries.migrations.run import migrate
from realtime.embedded import EmbeddedServers, Postgres, Redis
from tests.end_to_end.marks import Owner
from tests.faults.nodes import Node
from tests.faults.proxy import Proxy

_ISSUER: Final = "https://issuer.test"
_AUDIENCE: Final = "guardwire"
_TOKEN_SECONDS: Final = 6 * 3600
_LEADER_SECONDS: Final = 20.0
#: Half of the lifetime lies in the past, so that a node whose clock is hours off still accepts the token.
_ISSUED_AGO_SECONDS: Final = 2 * 3600


@dataclass
class Site:
    """One node with the proxies of its ways: to the node, to the database, to the listener, and to Redis."""

    node: Node
    front: Proxy
    database: Proxy
    listener: Proxy
    memory: Proxy

    @property
    def ways(self) -> tuple[Proxy, ...]:
        return self.front, self.database, self.listener, self.memory

    @property
    def address(self) -> str:
        """The address that bots connect to."""
        return f"ws://127.0.0.1:{self.front.port}"


@dataclass
class Ground:
    """Everything that runs; ``fixed`` are the numbers of tasks and files of a node without clients."""

    servers: EmbeddedServers
    folder: Path
    secret: str
    sites: list[Site] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    #: The users of `tokens`, in the same order.
    holders: list[str] = field(default_factory=list)
    fixed: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def postgres(self) -> Postgres:
        assert self.servers.postgres is not None
        return self.servers.postgres

    @property
    def redis(self) -> Redis:
        assert self.servers.redis is not None
        return self.servers.redis

    @property
    def database_url(self) -> str:
        """The URL that the platform writes to: the server itself, without a proxy."""
        return self.servers.database_url

    @property
    def addresses(self) -> list[str]:
        return [site.address for site in self.sites]

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """A connection to the database as its owner, without a proxy."""
        connection = await asyncpg.connect(self.database_url, timeout=10)
        try:
            yield connection
        finally:
            connection.terminate()

    @contextlib.asynccontextmanager
    async def memory(self) -> AsyncIterator[Any]:
        """A client of Redis without a proxy."""
        async with redis.asyncio.Redis.from_url(self.servers.redis_url, socket_timeout=10) as client:
            yield client

    def token(self, owner: Owner, *, scope: str = "") -> str:
        """A token of ``owner`` with a ``scope``, signed as by an identity provider."""
        now = int(time.time())
        claims = {
            "iss": _ISSUER, "aud": _AUDIENCE, "sub": str(owner.user_id), "jti": secrets.token_hex(8),
            "iat": now - _ISSUED_AGO_SECONDS, "exp": now - _ISSUED_AGO_SECONDS + _TOKEN_SECONDS,
            **({"scope": scope} if scope else {}),
        }  # fmt: skip
        token = jwt.encode(claims, self.secret, algorithm="HS256")
        self.tokens.append(token)
        self.holders.append(str(owner.user_id))
        return token

    async def leader(self) -> tuple[Site, int]:
        """Wait until a node holds the applier's lease; returns the node and its term."""
        async with asyncio.timeout(_LEADER_SECONDS), self.connection() as connection:
            while True:
                lease = await connection.fetchrow(
                    "SELECT holder, term FROM guardwire.applier WHERE shard = 0"
                )
                for site in self.sites:
                    if site.node.name == lease["holder"]:
                        return site, lease["term"]
                await asyncio.sleep(0.05)

    def settings(self, database: Proxy, listener: Proxy, memory: Proxy, **more: str) -> dict[str, str]:
        """The settings of a node in production."""
        return {
            "DATABASE_URL": _by(self.database_url, database),
            "LISTEN_DATABASE_URL": _by(self.database_url, listener),
            "REDIS_URL": _by(self.servers.redis_url, memory),
            "GUARDWIRE_JWT_SECRET": self.secret,
            "GUARDWIRE_JWT_ISSUER": _ISSUER,
            "GUARDWIRE_JWT_AUDIENCE": _AUDIENCE,
            # A node then notices a client that was cut off by silence while the suite still looks.
            "GUARDWIRE_PING_SECONDS": "4",
            # Targets are on this machine.
            "GUARDWIRE_WEBHOOK_ALLOW_PRIVATE": "1",
            **more,
        }

    async def remember_fixed(self, site: Site) -> None:
        """Record the tasks and files of a node without clients."""
        self.fixed[site.node.name] = await site.node.ask("report")


def _by(url: str, proxy: Proxy) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{proxy.port}"))


@contextlib.asynccontextmanager
async def ground(servers: EmbeddedServers, *, nodes: int) -> AsyncIterator[Ground]:
    """Migrate ``servers``, and run so many ``nodes`` on them while the context lasts."""
    await _commit_for_good(servers.database_url)
    await migrate(servers.database_url)
    with tempfile.TemporaryDirectory(prefix="guardwire-faults-") as folder:
        made = Ground(servers, Path(folder), secrets.token_urlsafe(48))
        async with contextlib.AsyncExitStack() as stack:
            for number in range(nodes):
                made.sites.append(await _site(made, stack, number))
            try:
                await asyncio.gather(*(site.node.start() for site in made.sites))
                for site in made.sites:
                    await made.remember_fixed(site)
                yield made
            finally:
                await asyncio.gather(*(_end(site.node) for site in made.sites))


async def _site(made: Ground, stack: contextlib.AsyncExitStack, number: int) -> Site:
    # The last node logs at the most verbose level, so that the suite can look for secrets in its log.
    name = "abcdef"[number]
    database = await stack.enter_async_context(Proxy(f"{name} database", made.postgres.port))
    listener = await stack.enter_async_context(Proxy(f"{name} listener", made.postgres.port))
    memory = await stack.enter_async_context(Proxy(f"{name} memory", made.redis.port))
    level = "DEBUG" if number == 1 else "INFO"
    settings = made.settings(database, listener, memory, GUARDWIRE_LOG_LEVEL=level, GUARDWIRE_NODE=name)
    node = Node(name, settings, made.folder / f"node-{name}.log")
    front = await stack.enter_async_context(Proxy(f"{name} front", node.port))
    return Site(node, front, database, listener, memory)


async def _end(node: Node) -> None:
    if node.process is not None:
        await node.kill()


async def _commit_for_good(database_url: str) -> None:
    """Make commits survive a killed server; the settings of throw-away servers do not."""
    connection = await asyncpg.connect(database_url)
    try:
        name = await connection.fetchval("SELECT quote_ident(current_database())")
        await connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = on")
    finally:
        await connection.close()


def sites_without(all_of: Sequence[Site], *some: Site) -> list[Site]:
    """The members of ``all_of`` that are not among ``some``."""
    return [site for site in all_of if site not in some]
