"""A platform and the migrated database that it writes to."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.queries.platform import Platform, connected


@pytest_asyncio.fixture
async def platform(migrated_url: str) -> AsyncIterator[Platform]:
    """Writes to a freshly migrated database."""
    async with connected(migrated_url) as connection:
        yield Platform(connection)
