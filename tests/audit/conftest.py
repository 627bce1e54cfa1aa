"""What a platform writes to a migrated database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.queries.database_writer import DatabaseWriter, connected


@pytest_asyncio.fixture
async def writer(migrated_url: str) -> AsyncIterator[DatabaseWriter]:
    """Writes to a freshly migrated database."""
    async with connected(migrated_url) as connection:
        yield DatabaseWriter(connection)
