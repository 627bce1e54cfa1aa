"""Clients are asked to move where a node has many more than its share, and seldom where asking does not help."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from uuid import UUID

import pytest

from auth.development import DevelopmentKey
from realtime.delivery.balance import Pauses, surplus
from realtime.metrics import METRICS
from realtime.store.nodes import Site
from tests.end_to_end.mirror import Mirror, mirror
from tests.end_to_end.node import node

CLIENTS = 30


@pytest.mark.parametrize(
    ("clients", "site", "expected"),
    [
        (500, Site(1, 500), 0),
        (500, Site(2, 500), 250),
        (260, Site(2, 500), 0),
        (280, Site(2, 500), 30),
        (20, Site(2, 20), 0),
        (22, Site(2, 22), 11),
        (0, Site(2, 500), 0),
        (3, Site(0, 0), 0),
        (400, Site(3, 600), 200),
    ],
)
def test_a_surplus_is_more_than_chance_would_give(clients: int, site: Site, expected: int) -> None:
    assert surplus(clients, site) == expected


def test_a_surplus_that_shrinks_is_asked_at_each_look() -> None:
    pauses = Pauses()
    assert [pauses.asks(over) for over in (250, 190, 140, 105, 0, 0, 80)] == [True] * 4 + [False] * 2 + [True]


def test_a_surplus_that_stays_is_asked_ever_more_seldom() -> None:
    pauses = Pauses()
    asked = [look for look in range(2000) if pauses.asks(250)]
    gaps = [later - sooner for sooner, later in itertools.pairwise(asked)]
    assert gaps[:5] == [1, 2, 4, 8, 16]
    assert max(gaps) == gaps[-1] == 121
    # As soon as it helps again, there is no pause any more.
    while not pauses.asks(100):
        pass
    assert pauses.asks(90)


async def test_a_node_with_all_clients_asks_half_of_its_surplus_and_no_other_node_asks(
    migrated_url: str, redis_url: str
) -> None:
    """The frame names the time over which clients spread; the connection goes on."""
    key, moves = DevelopmentKey(secrets.token_hex(32)), METRICS.moves.get()
    async with contextlib.AsyncExitStack() as stack:
        one = await stack.enter_async_context(node(migrated_url, redis_url, key=key))
        accounts = [
            await stack.enter_async_context(mirror(one.url, key.issue(UUID(int=1 + number // 5))))
            for number in range(CLIENTS)
        ]
        two = await stack.enter_async_context(node(migrated_url, redis_url, key=key))
        other = await stack.enter_async_context(mirror(two.url, key.issue(UUID(int=99))))
        async with asyncio.timeout(20):
            while len(asked(accounts)) < 7:
                await asyncio.sleep(0.02)
        first = asked(accounts)
        assert len(first) <= 8
        assert all(each.frames_of("move")[0] == {"type": "move", "within_ms": 4000} for each in first)
        assert not any(each.closed for each in accounts)
        assert asked([other]) == []
        assert METRICS.moves.get() >= moves + len(first)


def asked(accounts: list[Mirror]) -> list[Mirror]:
    """Those that were asked to move."""
    return [each for each in accounts if each.frames_of("move")]
