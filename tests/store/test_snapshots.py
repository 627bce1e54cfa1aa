"""Snapshots in a real Redis."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from redis.asyncio import Redis

from guardwire.patch import apply
from guardwire.state import CHANNELS
from realtime.history import Step
from realtime.snapshot import Snapshot
from realtime.store import snapshots
from realtime.store.redis_pool import connect
from realtime.store.snapshots import EDGE_BYTES, EDGE_COUNT, STEPS, SnapshotStore, to_stored
from tests.snapshots import OTHER_USER, USER, snapshot


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()


class Clock:
    """Unix seconds that pass by themselves, plus ``leap_seconds``, which a test sets."""

    def __init__(self) -> None:
        self.leap_seconds = 0.0

    def __call__(self) -> float:
        return time.time() + self.leap_seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(redis: Redis, clock: Clock) -> SnapshotStore:
    return SnapshotStore(redis, channels=CHANNELS, clock=clock)


async def commit(store: SnapshotStore, steps: Iterable[Step]) -> list[int]:
    return await store.commit([to_stored(step) for step in steps])


def steps(*states: Snapshot) -> list[Step]:
    return [Step(new, old) for old, new in zip((None, *states), states, strict=False)]


async def test_a_stored_snapshot_is_read_back_with_its_steps(store: SnapshotStore) -> None:
    one, two = snapshot(1, tickets=(7,)), snapshot(2, syncs=2)
    assert await commit(store, steps(one, two)) == [1, 1]
    stored = (await store.load([USER]))[USER]
    assert (stored.snapshot.epoch, stored.snapshot.revision, stored.snapshot.state) == (9, 2, two.state)
    (edge,) = stored.edges
    assert (edge.base, edge.revision) == (1, 2)
    assert apply(one.state, snapshots._decode_state(edge.patch)) == two.state


async def test_an_older_revision_never_replaces_a_newer_one(store: SnapshotStore) -> None:
    await commit(store, steps(snapshot(5, syncs=5)))
    assert await commit(store, steps(snapshot(4, syncs=4))) == [0]
    assert (await store.load([USER]))[USER].snapshot.revision == 5


async def test_an_older_epoch_is_refused_and_a_newer_one_forgets_the_history(store: SnapshotStore) -> None:
    await commit(store, steps(snapshot(5), snapshot(6, syncs=2)))
    assert await commit(store, steps(snapshot(99, epoch=8))) == [-1]
    assert await commit(store, steps(snapshot(3, epoch=10))) == [1]
    stored = (await store.load([USER]))[USER]
    assert (stored.snapshot.epoch, stored.snapshot.revision, stored.edges) == (10, 3, ())


async def test_different_steps_of_two_nodes_to_one_revision_are_both_kept(
    store: SnapshotStore,
) -> None:
    one, two, three = snapshot(1), snapshot(2, syncs=2), snapshot(3, syncs=3)
    await commit(store, [Step(one, None), Step(two, one), Step(three, two)])
    assert await commit(store, [Step(three, one)]) == [1]
    edges = (await store.load([USER]))[USER].edges
    assert {(edge.base, edge.revision) for edge in edges} == {(1, 2), (2, 3), (1, 3)}


async def whole_at(redis: Redis) -> int:
    """The revision of the state that is stored as a whole."""
    (key,) = [key async for key in redis.scan_iter() if key.endswith(b":snapshot")]
    (revision,) = await redis.hmget(key, "state_revision")
    return int(revision or -1)


async def test_a_whole_state_is_stored_seldom_and_the_newest_is_computed_from_edges(
    store: SnapshotStore, redis: Redis
) -> None:
    states = [snapshot(number, syncs=number) for number in range(1, 2 * STEPS + 5)]
    for number, step in enumerate(steps(*states)):
        assert await commit(store, [step]) == [1]
        stored = (await store.load([USER]))[USER].snapshot
        assert (stored.revision, stored.state) == (step.snapshot.revision, step.snapshot.state)
        assert await whole_at(redis) == 1 + number - number % (STEPS + 1)


async def test_a_state_is_stored_again_when_the_steps_since_are_old_or_long(
    store: SnapshotStore, redis: Redis, clock: Clock
) -> None:
    short, later, long = snapshot(1), snapshot(2, syncs=2), snapshot(3, tickets=tuple(range(1, 900)))
    await commit(store, steps(short))
    clock.leap_seconds = snapshots.STEPS_SECONDS + 1
    await commit(store, [Step(later, short)])
    assert await whole_at(redis) == 2
    await commit(store, [Step(long, later)])
    assert await whole_at(redis) == 3


async def test_a_step_that_does_not_continue_the_stored_revision_brings_its_state(
    store: SnapshotStore, redis: Redis
) -> None:
    one, two, three = snapshot(1), snapshot(2, syncs=2), snapshot(3, syncs=3)
    await commit(store, steps(one))
    assert await commit(store, [Step(three, two)]) == [1]
    assert (await store.load([USER]))[USER].snapshot.state == three.state
    assert await whole_at(redis) == 3


async def test_without_a_step_that_the_newest_state_needs_nothing_is_loaded(
    store: SnapshotStore, redis: Redis
) -> None:
    await commit(store, steps(snapshot(1), snapshot(2, syncs=2), snapshot(3, syncs=3)))
    (key,) = [key async for key in redis.scan_iter() if key.endswith(b":edges")]
    await redis.lpop(key)
    assert await store.load([USER]) == {}


async def test_history_is_bounded_in_steps(store: SnapshotStore) -> None:
    states = [snapshot(number, syncs=number) for number in range(1, EDGE_COUNT + 20)]
    await commit(store, steps(*states))
    edges = (await store.load([USER]))[USER].edges
    assert len(edges) == EDGE_COUNT
    assert edges[-1].revision == states[-1].revision


async def test_history_is_bounded_in_bytes(store: SnapshotStore) -> None:
    books = [tuple(range(start, start + 100)) for start in range(1, 2000, 100)]
    await commit(
        store, steps(*(snapshot(number, tickets=book) for number, book in enumerate(books, start=1)))
    )
    edges = (await store.load([USER]))[USER].edges
    assert 0 < sum(len(edge.patch) for edge in edges) <= EDGE_BYTES


async def test_history_is_bounded_in_time(store: SnapshotStore, clock: Clock) -> None:
    one, two, three = snapshot(1), snapshot(2, syncs=2), snapshot(3, syncs=3)
    await commit(store, steps(one, two))
    clock.leap_seconds = snapshots.EDGE_SECONDS + 1
    await commit(store, [Step(three, two)])
    assert [edge.base for edge in (await store.load([USER]))[USER].edges] == [2]


async def test_a_batch_is_stored_for_every_account_in_it(store: SnapshotStore) -> None:
    results = await commit(store, [Step(snapshot(1), None), Step(snapshot(2, user_id=OTHER_USER), None)])
    assert results == [1, 1]
    found = await store.load([USER, OTHER_USER])
    assert {user: stored.snapshot.revision for user, stored in found.items()} == {USER: 1, OTHER_USER: 2}


@pytest.mark.parametrize(
    "poison",
    [
        {b"state": b"not json"},
        {b"state": b"[]"},
        {b"state": b'{"status":{}}'},
        {b"revision": b"many"},
        {b"owner": OTHER_USER.bytes},
    ],
    ids=["not JSON", "not an object", "a channel missing", "no number", "another owner"],
)
async def test_an_invalid_value_counts_as_missing(
    store: SnapshotStore, redis: Redis, poison: dict[Any, Any]
) -> None:
    await commit(store, steps(snapshot(1)))
    (key,) = [key async for key in redis.scan_iter() if key.endswith(b":snapshot")]
    await redis.hset(key, mapping=poison)
    assert await store.load([USER]) == {}


async def test_a_key_of_another_type_is_replaced(store: SnapshotStore, redis: Redis) -> None:
    await commit(store, steps(snapshot(1)))
    (key,) = [key async for key in redis.scan_iter() if key.endswith(b":snapshot")]
    await redis.set(key, "poison")
    await redis.set(key.replace(b":snapshot", b":edges"), "poison")
    assert await store.load([USER]) == {}
    assert await commit(store, steps(snapshot(2))) == [1]
    assert (await store.load([USER]))[USER].snapshot.revision == 2


async def test_every_key_expires(store: SnapshotStore, redis: Redis) -> None:
    await commit(store, steps(snapshot(1), snapshot(2, syncs=2)))
    keys = [key async for key in redis.scan_iter()]
    assert len(keys) == 2
    assert all([await redis.ttl(key) > 0 for key in keys])


async def test_without_redis_nothing_is_raised_and_the_store_is_unavailable() -> None:
    client = connect("redis://127.0.0.1:1/0")
    store = SnapshotStore(client, channels=CHANNELS)
    assert await commit(store, steps(snapshot(1))) == []
    assert await store.load([USER]) == {}
    assert not store.available
    await client.aclose()
