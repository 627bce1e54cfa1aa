"""The platform's connection to a migrated database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.queries.platform import Platform, connected


@pytest_asyncio.fixture
async def platform(migrated_url: str) -> AsyncIterator[Platform]:
    """Writes to a freshly migrated database; in the end nothing may have failed that the test has not looked at."""
    async with connected(migrated_url) as connection:
        yield Platform(connection)
