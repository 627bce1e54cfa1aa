"""A node's feed on a migrated database, and a connection of the platform."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.feed.node import FeedNode, feed_node


@pytest.fixture
async def connection(migrated_url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(migrated_url)
    yield connection
    await connection.close()


@pytest.fixture
async def node(migrated_url: str, connection: object) -> AsyncIterator[FeedNode]:
    async with feed_node(migrated_url) as node:
        yield node


@pytest.fixture
def user() -> UUID:
    return uuid4()
