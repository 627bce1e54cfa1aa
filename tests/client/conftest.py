"""A peer on a real socket for each test of the client."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.client.peer import Peer


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = Peer()
    async with peer.listening():
        yield peer
