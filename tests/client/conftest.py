"""A peer on a real socket for each test of the client."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from guardwire import ladder, long_poll
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
def no_way_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "_FIRST_RETURN_SECONDS", 3600.0)


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_poll, "_SHORTEST_ROUND_SECONDS", 0.05)
