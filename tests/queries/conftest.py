"""Connections to the migrated database of a test, closed when it is over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from tests.queries.database_writer import DatabaseWriter
from tests.queries.notifications import NotificationRecorder

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
async def writer(connect: Connect) -> DatabaseWriter:
    """Writes to a freshly migrated database."""
    return DatabaseWriter(await connect())


@pytest.fixture
async def recorder(connect: Connect) -> NotificationRecorder:
    """Records the notifications of that database."""
    return await NotificationRecorder.open(await connect())
