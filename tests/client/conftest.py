"""A peer on a real socket for each test of the client."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.client.http_peer import HttpPeer
from tests.client.peer import Peer


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = Peer()
    async with peer.listening():
        yield peer


@pytest.fixture
async def http_peer() -> AsyncIterator[HttpPeer]:
    peer = HttpPeer()
    async with peer.listening():
        yield peer


@pytest.fixture
def no_way_back(http_peer: HttpPeer) -> None:
    """The client does not try the WebSocket again."""
    http_peer.shorten(first_return_seconds=3600.0)


@pytest.fixture
def brisk(http_peer: HttpPeer) -> None:
    """The client polls without long pauses."""
    http_peer.shorten(poll_round_seconds=0.05)
