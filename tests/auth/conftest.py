"""Fixtures for tests of tokens: connections to PostgreSQL and Redis, keys, and an identity provider."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from auth.jwks import Jwks
from auth.keys import SharedSecret
from auth.tokens import Verifier
from queries.migrations.run import driver_url
from tests.auth.clock import Clock
from tests.auth.issuer import RULES, SECRET, Signer
from tests.auth.jwks_server import JwksServer


@pytest.fixture
async def engine(migrated_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(driver_url(migrated_url))
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


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def jwks(provider: JwksServer, clock: Clock) -> AsyncIterator[Jwks]:
    source = Jwks(url=provider.url, cooldown_seconds=0.05, timeout_seconds=0.5, clock=clock)
    yield source
    await source.close()


@pytest.fixture(scope="session")
def signer() -> Signer:
    return Signer("ES256", "one")
