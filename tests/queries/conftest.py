"""Connections to the migrated database of a test, closed when it is over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio

from tests.queries.ledger import Ledger
from tests.queries.platform import Platform, connected


@pytest_asyncio.fixture
async def platform(migrated_url: str) -> AsyncIterator[Platform]:
    """Writes to a freshly migrated database."""
    async with connected(migrated_url) as connection:
        yield Platform(connection)


Connect = Callable[[], Awaitable[Any]]


@pytest.fixture
async def connect(migrated_url: str) -> AsyncIterator[Connect]:
    """Opens a further connection to the migrated database."""
    opened: list[Any] = []

    async def connect() -> Any:
        opened.append(await asyncpg.connect(migrated_url))
        return opened[-1]

    yield connect
    for connection in opened:
        await connection.close()


@pytest.fixture
async def ledger(connect: Connect) -> Ledger:
    return Ledger(await connect())


@pytest.fixture
def user() -> UUID:
    return uuid4()
