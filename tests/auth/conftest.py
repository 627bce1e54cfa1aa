"""Real servers for the tests of tokens: PostgreSQL, Redis, and an identity provider."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from auth.keys import SharedSecret
from auth.tokens import Verifier
from realtime.embedded.servers import EmbeddedServers
from tests.auth.issuer import RULES, SECRET
from tests.auth.jwks_server import JwksServer

_REVOCATIONS_SQL = Path("queries/migrations/sql/revocations.sql").read_text()


@pytest.fixture(scope="session")
def servers() -> Iterator[EmbeddedServers]:
    with EmbeddedServers.start() as running:
        yield running


@pytest.fixture
def redis_url(servers: EmbeddedServers) -> str:
    return servers.redis_url


@pytest.fixture
async def migrated_url(servers: EmbeddedServers) -> AsyncIterator[str]:
    name = f"auth_{uuid4().hex}"
    connection = await asyncpg.connect(servers.database_url)
    await connection.execute(f"CREATE DATABASE {name}")
    inside = await asyncpg.connect(servers.database_url, database=name)
    await inside.execute("CREATE SCHEMA guardwire;" + _REVOCATIONS_SQL)
    await inside.close()
    yield urlsplit(servers.database_url)._replace(path=f"/{name}").geturl()
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@pytest.fixture
async def engine(migrated_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(urlsplit(migrated_url)._replace(scheme="postgresql+asyncpg").geturl())
    yield engine
    await engine.dispose()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_url, socket_timeout=1.0, socket_connect_timeout=1.0)
    yield client
    await client.aclose()


@pytest.fixture
async def provider() -> AsyncIterator[JwksServer]:
    server = JwksServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def verifier() -> Verifier:
    return Verifier(keys=[SharedSecret(SECRET)], rules=RULES)
