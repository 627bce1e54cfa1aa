"""How many connections a user may hold, over all nodes, with and without Redis."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis
from starlette.exceptions import HTTPException

from realtime.delivery.limits import Admission
from realtime.store.leases import LEASE_SECONDS, Leases
from realtime.store.redis_pool import connect
from tests.snapshots import OTHER_USER, USER


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()


def node(redis: Redis | None) -> Admission:
    """A node that lets every user have two connections."""
    leases = None if redis is None else Leases(redis, most_per_user=2)
    return Admission(leases=leases, most_per_user=2)


@contextlib.asynccontextmanager
async def running(admission: Admission) -> AsyncIterator[None]:
    task = asyncio.create_task(admission.run(), name="admission")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_user_is_counted_over_all_nodes(redis: Redis) -> None:
    one, two = node(redis), node(redis)
    assert await one.admit(USER)
    assert await two.admit(USER)
    assert await one.admit(USER) is None
    assert await two.admit(OTHER_USER)


async def test_what_is_given_back_can_be_had_again_on_another_node(redis: Redis) -> None:
    one, two = node(redis), node(redis)
    async with running(one):
        leases = [await one.admit(USER), await one.admit(USER)]
        assert await two.admit(USER) is None
        assert leases[0] is not None
        one.leave(leases[0])
        while await two.admit(USER) is None:
            await asyncio.sleep(0.01)


async def test_a_crowd_that_comes_at_once_costs_few_calls_and_is_counted_one_by_one(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases, calls = Leases(redis, most_per_user=2), 0
    send = leases._script._send

    async def counted(sent: Sequence[Sequence[Any]]) -> list[Any]:
        nonlocal calls
        calls += len(sent)
        return await send(sent)

    monkeypatch.setattr(leases._script, "_send", counted)
    users = [*(uuid4() for _ in range(300)), *([USER] * 5)]
    claims = (leases.claim(str(number), user_id) for number, user_id in enumerate(users))
    answers = await asyncio.gather(*claims)
    assert all(answers[:300])
    assert sum(answers[300:]) == 2
    assert calls < 5


@pytest.mark.parametrize("turns", range(8))
async def test_a_client_that_vanishes_while_it_is_admitted_holds_no_place(redis: Redis, turns: int) -> None:
    admission = node(redis)
    async with running(admission):
        asked = [asyncio.create_task(admission.admit(uuid4())) for _ in range(20)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in asked:
            task.cancel()
        for lease in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(lease, str):
                admission.leave(lease)
        kept = await admission.admit(USER)
        async with asyncio.timeout(5):
            while await redis.keys() != [f"guardwire:connections:{USER}".encode()]:
                await asyncio.sleep(0.01)
        assert kept is not None
        admission.leave(kept)


async def test_the_leases_of_a_dead_node_end_by_themselves(redis: Redis) -> None:
    dead = node(redis)
    await dead.admit(USER)
    key = f"guardwire:connections:{USER}"
    assert 0 < await redis.ttl(key) <= LEASE_SECONDS
    # Time passes for what is left of the dead node.
    await redis.eval("redis.call('ZADD', KEYS[1], 1, redis.call('ZRANGE', KEYS[1], 0, 0)[1])", 1, key)
    another = node(redis)
    assert await another.admit(USER)
    assert await another.admit(USER)


async def test_leases_that_redis_lost_are_claimed_anew_by_renewal(redis: Redis) -> None:
    leases = Leases(redis, most_per_user=2)
    await redis.flushdb()
    await leases.renew({"a": USER, "b": USER})
    assert not await leases.claim("c", USER)


async def test_without_redis_each_node_counts_alone(caplog: pytest.LogCaptureFixture) -> None:
    unreachable = connect("redis://127.0.0.1:1/0")
    for alone in (node(None), node(unreachable)):
        assert await alone.admit(USER)
        assert await alone.admit(USER)
        assert await alone.admit(USER) is None
    await unreachable.aclose()
    assert len([line for line in caplog.messages if "counted on this node alone" in line]) == 1


async def test_of_many_that_come_at_once_only_as_many_as_allowed_pass(redis: Redis) -> None:
    one, two = node(redis), node(redis)
    asked = [admission.admit(USER) for admission in (one, two) for _ in range(10)]
    assert len([lease for lease in await asyncio.gather(*asked) if lease]) == 2


async def test_a_request_holds_its_place_only_while_it_lasts() -> None:
    alone = node(None)
    async with alone.admitted(USER), alone.admitted(USER):
        with pytest.raises(HTTPException) as refused:
            async with alone.admitted(USER):
                pass
        assert refused.value.status_code == 429
    async with alone.admitted(USER):
        pass
    assert alone._counts == {}


async def test_a_lost_user_id_key_of_another_type_is_replaced(redis: Redis) -> None:
    await redis.set(f"guardwire:connections:{UUID(int=7)}", "poison")
    assert await node(redis).admit(UUID(int=7))
