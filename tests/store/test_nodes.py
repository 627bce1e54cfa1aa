"""How many clients all nodes have, by what each of them wrote into Redis."""

from __future__ import annotations

import pytest

from realtime.store.nodes import COUNT_SECONDS, Nodes, Site
from realtime.store.redis_pool import connect

KEY = "guardwire:nodes"


async def test_every_node_counts_until_it_leaves(redis_url: str) -> None:
    redis = connect(redis_url)
    one, two = Nodes(redis), Nodes(redis)
    assert await one.report(7) == Site(1, 7)
    assert await two.report(30) == Site(2, 37)
    assert await one.report(8) == Site(2, 38)
    await two.leave()
    assert await one.report(8) == Site(1, 8)
    assert 0 < await redis.ttl(KEY) <= COUNT_SECONDS
    await redis.aclose()


async def test_a_node_that_died_is_forgotten(redis_url: str) -> None:
    redis = connect(redis_url)
    seconds, _ = await redis.time()
    await redis.hset(KEY, "dead", f"500 {seconds - 1}")
    assert await Nodes(redis).report(3) == Site(1, 3)
    assert not await redis.hexists(KEY, "dead")
    await redis.aclose()


@pytest.mark.parametrize(
    "value", ["", "many", "-1 {now}", "1.5 {now}", "1e9 {now}", "99999999 {now}", "1 {far}", "1", "1 {now} 1"]
)
async def test_what_no_node_wrote_counts_for_nothing(redis_url: str, value: str) -> None:
    redis = connect(redis_url)
    seconds, _ = await redis.time()
    await redis.hset(KEY, "poison", value.format(now=seconds + 5, far=seconds + 10_000))
    assert await Nodes(redis).report(3) == Site(1, 3)
    assert not await redis.hexists(KEY, "poison")
    await redis.set(KEY, "a text")
    assert await Nodes(redis).report(3) == Site(1, 3)
    await redis.aclose()


async def test_without_redis_nobody_is_counted() -> None:
    redis = connect("redis://127.0.0.1:1/0")
    assert await Nodes(redis).report(3) is None
    await redis.aclose()
