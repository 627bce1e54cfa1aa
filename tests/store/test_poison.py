"""A stranger writes into Redis: the account of the key loses its memory, and no other account does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from redis.asyncio import Redis

from guardwire.state import CHANNELS
from realtime.history import Step
from realtime.snapshot import Snapshot
from realtime.store import snapshots
from realtime.store.leases import Leases
from realtime.store.redis_pool import connect
from realtime.store.snapshots import EDGE_COUNT, SnapshotStore, to_stored
from tests.snapshots import OTHER_USER, USER, snapshot

FIELDS = (
    "epoch", "revision", "as_of", "owner", "state", "state_revision", "state_seconds", "steps", "steps_bytes",
    "edge_bytes",
)  # fmt: skip
#: Lua's tonumber, HINCRBY, Python's int or a JSON reader could fail on these, or accept too much of them.
VALUES: dict[str, bytes] = {
    "empty": b"",
    "words": b"many",
    "nan": b"nan",
    "infinite": b"inf",
    "negative": b"-1",
    "fraction": b"1.5",
    "exponent": b"1e300",
    "hexadecimal": b"0x7fffffff",
    "huge": b"9" * 400,
    "2^53": b"9007199254740992",
    "int64": b"9223372036854775807",
    "padded": b" 1 ",
    "binary": bytes(range(256)),
    "long": b"x" * 1_000_000,
    "nested": b"[" * 100_000,
}
Poison = Callable[[Redis, str], Awaitable[Any]]
KEY_TYPES: dict[str, Poison] = {
    "string": lambda redis, key: redis.set(key, "poison"),
    "hash": lambda redis, key: redis.hset(key, "poison", "1"),
    "list": lambda redis, key: redis.rpush(key, "poison"),
    "set": lambda redis, key: redis.sadd(key, "poison"),
    "sorted set": lambda redis, key: redis.zadd(key, {"poison": float("inf")}),
    "stream": lambda redis, key: redis.xadd(key, {"poison": "1"}),
    "long list": lambda redis, key: redis.rpush(key, *["1 2 3 poison"] * 10_000),
    "list of binary": lambda redis, key: redis.rpush(key, bytes(range(256)), b"", b" ", b"nan nan nan nan"),
}


@pytest.fixture
async def redis(redis_url: str) -> Any:
    client = connect(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
async def store(redis: Redis) -> SnapshotStore:
    """A store with two accounts at revision 2, each by one step from revision 1."""
    store = SnapshotStore(redis, channels=CHANNELS)
    await commit(store, 1, from_scratch=True)
    await commit(store, 2)
    return store


def step(revision: int, user_id: UUID, *, from_scratch: bool = False) -> Step:
    def at(number: int) -> Snapshot:
        return snapshot(number, user_id=user_id, syncs=number)

    return Step(at(revision), None if from_scratch else at(revision - 1))


async def commit(store: SnapshotStore, revision: int, *, from_scratch: bool = False) -> list[int]:
    """One step of both accounts in one batch, the poisoned one first."""
    users = (USER, OTHER_USER)
    return await store.commit([to_stored(step(revision, user, from_scratch=from_scratch)) for user in users])


async def held(store: SnapshotStore) -> dict[UUID, tuple[int, Any]]:
    """The stored revision and state."""
    stored = await store.load([USER, OTHER_USER])
    return {user: (each.snapshot.revision, each.snapshot.state) for user, each in stored.items()}


async def check_that_others_are_remembered(store: SnapshotStore, redis: Redis, messages: list[str]) -> None:
    """Both accounts move on, before and after the poisoned one was read."""
    right = {user: (2, snapshot(2, syncs=2).state) for user in (USER, OTHER_USER)}
    before = await held(store)
    assert before[OTHER_USER] == right[OTHER_USER]
    assert before.get(USER, right[USER]) == right[USER]
    assert (await commit(store, 3))[1] == 1
    assert (await held(store))[OTHER_USER] == (3, snapshot(3, syncs=3).state)
    # The whole state is stored at the latest when there are too many steps since the last one.
    for revision in range(4, 4 + snapshots.STEPS + 1):
        assert await commit(store, revision) == [1, 1]
    state = (revision, snapshot(revision, syncs=revision).state)
    assert await held(store) == {USER: state, OTHER_USER: state}
    assert store.available
    assert not [message for message in messages if "out of reach" in message or "refuses" in message]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("field", FIELDS)
async def test_a_poisoned_field_costs_its_account_alone(
    store: SnapshotStore, redis: Redis, field: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    await redis.hset(snapshots._snapshot_key(USER), field, VALUES[value])
    await check_that_others_are_remembered(store, redis, caplog.messages)


@pytest.mark.parametrize("field", FIELDS)
async def test_a_missing_field_costs_its_account_alone(
    store: SnapshotStore, redis: Redis, field: str, caplog: pytest.LogCaptureFixture
) -> None:
    await redis.hdel(snapshots._snapshot_key(USER), field)
    await check_that_others_are_remembered(store, redis, caplog.messages)


@pytest.mark.parametrize("kind", KEY_TYPES)
@pytest.mark.parametrize("key_of", [snapshots._snapshot_key, snapshots._edges_key], ids=["snapshot", "edges"])
async def test_a_key_of_any_type_costs_its_account_alone(
    store: SnapshotStore,
    redis: Redis,
    key_of: Callable[[UUID], str],
    kind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await redis.delete(key_of(USER))
    await KEY_TYPES[kind](redis, key_of(USER))
    await check_that_others_are_remembered(store, redis, caplog.messages)


@pytest.mark.parametrize("field", ["epoch", "revision", "edge_bytes", "steps", "state_seconds"])
async def test_a_replaced_value_is_logged(
    store: SnapshotStore, redis: Redis, field: str, caplog: pytest.LogCaptureFixture
) -> None:
    await redis.hset(snapshots._snapshot_key(USER), field, "inf")
    await commit(store, 3)
    (record,) = caplog.records
    assert record.getMessage() == "a stored snapshot has a wrong form and is replaced"
    assert record.__dict__["user"] == str(USER)
    assert (await held(store))[USER] == (3, snapshot(3, syncs=3).state)


async def test_an_endless_list_is_read_up_to_its_limit(store: SnapshotStore, redis: Redis) -> None:
    key = snapshots._edges_key(USER)
    stored = await redis.lrange(key, 0, -1)
    await redis.delete(key)
    await redis.rpush(key, *[b"1 1 1 " + USER.bytes + b"{}"] * 5000, *stored)
    assert len((await store.load([USER]))[USER].edges) == EDGE_COUNT


async def test_leases_that_never_end_lock_nobody_out(redis: Redis) -> None:
    leases = Leases(redis, most_per_user=2)
    await redis.zadd(f"guardwire:connections:{USER}", {"a": float("inf"), "b": 1e300, "c": 4e9})
    assert all(await asyncio.gather(leases.claim("one", USER), leases.claim("two", USER)))
    assert not await leases.claim("three", USER)
