"""Faults of Redis: empty, away, hanging, full, and with wrong values. A push never waits for Redis."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any, Final

import redis.exceptions

from tests.faults.stage import Stage
from tests.machine import slowness_of_a_process

#: Pushes go on without Redis, so the bound is that of a run without a fault.
_SLOWEST_SECONDS: Final = 3.0
_RIGHT_AGAIN_SECONDS: Final = 5.0
_BEFORE_SECONDS: Final = 1.0


async def emptied(stage: Stage) -> None:
    """FLUSHALL, after which half of the clients come back: there is nothing to resume from, so they get snapshots."""
    await _expect(stage)
    async with stage.ground.memory() as memory:
        before = await memory.dbsize()
        await memory.flushall()
        after = await memory.dbsize()
    cut = stage.sites[0].front.cut()
    stage.proves(
        f"{before} keys, then {after}; {cut} clients had to come back",
        before >= len(stage.bots) > after and cut > 0,
    )
    await stage.watch(1)
    stage.healed()


async def restarted(stage: Stage) -> None:
    """Stop Redis for a while; it comes back empty. Clients come and go meanwhile."""
    began = await _expect(stage)
    await asyncio.to_thread(stage.ground.redis.end)
    refused = await _error(stage)
    cut = stage.sites[0].front.cut()
    await stage.watch(3)
    slowest = stage.crowd.latency_ms(1.0, since=began) / 1000
    stage.ground.redis.start()
    stage.proves(
        f"asking it ends in {refused}; {cut} clients had to come back without it", bool(refused) and cut > 0
    )
    stage.figure("slowest push", slowest, _SLOWEST_SECONDS)
    stage.healed()


async def stopped(stage: Stage) -> None:
    """Stop Redis with SIGSTOP: connections stay open, and no answer comes. Clients come and go meanwhile."""
    # When it continues, it executes the commands of clients that have left meanwhile.
    stage.leases_may_run_out = True
    began = await _expect(stage)
    assert stage.ground.redis.pid is not None
    os.kill(stage.ground.redis.pid, signal.SIGSTOP)
    try:
        silent = await _error(stage)
        cut = stage.sites[0].front.cut()
        await stage.watch(4)
        slowest = stage.crowd.latency_ms(1.0, since=began) / 1000
    finally:
        os.kill(stage.ground.redis.pid, signal.SIGCONT)
    stage.proves(
        f"asking it ends in {silent}; {cut} clients had to come back meanwhile", bool(silent) and cut > 0
    )
    stage.figure("slowest push", slowest, _SLOWEST_SECONDS)
    stage.healed()


async def evicting(stage: Stage) -> None:
    """Give Redis so little memory that it evicts keys all the time."""
    stage.leases_may_run_out = True  # the leases that Redis had no room for when their clients left
    began = await _expect(stage)
    async with stage.ground.memory() as memory:
        before = (await memory.info("stats"))["evicted_keys"]
        used = (await memory.info("memory"))["used_memory"]
        await memory.config_set("maxmemory-policy", "allkeys-random")
        await memory.config_set("maxmemory", used - 100_000)
        await stage.watch(1.5)
        cut = stage.sites[1].front.cut()
        await stage.watch(1.5)
        evicted = (await memory.info("stats"))["evicted_keys"] - before
        await memory.config_set("maxmemory", 0)
        await memory.config_set("maxmemory-policy", "noeviction")
    stage.proves(f"{evicted} keys evicted; {cut} clients had to come back", evicted > 0 and cut > 0)
    stage.figure("slowest push", stage.crowd.latency_ms(1.0, since=began) / 1000, _SLOWEST_SECONDS)
    stage.healed()


async def full(stage: Stage) -> None:
    """Give Redis a disk that takes no writes: it answers every write command with MISCONF."""
    stage.leases_may_run_out = True  # releasing a lease is a write
    began = await _expect(stage)
    async with stage.ground.memory() as memory:
        # The account of Redis cannot write into this folder, so every attempt to save fails.
        await memory.config_set("save", "3600 1")
        await memory.set("guardwire-faults", 1, ex=60)
        try:
            await memory.bgsave()
            said = await _until_misconf(memory)
            cut = stage.sites[0].front.cut()
            await stage.watch(3)
            slowest = stage.crowd.latency_ms(1.0, since=began) / 1000
        finally:
            await memory.config_set("save", "")
            await memory.config_set("stop-writes-on-bgsave-error", "no")
        await memory.set("guardwire-faults", 2, ex=1)
        await memory.config_set("stop-writes-on-bgsave-error", "yes")
    stage.proves(
        f"a write was answered {said[:7]!r}; {cut} clients had to come back", "MISCONF" in said and cut > 0
    )
    stage.figure("slowest push", slowest, _SLOWEST_SECONDS)
    stage.healed()


async def _until_misconf(memory: Any) -> str:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            await memory.set("guardwire-faults", 1, ex=60)
        except redis.exceptions.ResponseError as error:
            return str(error)
        await asyncio.sleep(0.05)
    return "nothing"


async def poisoned(stage: Stage) -> None:
    """Replace every value: by another user's, by one of another type, by garbage, by one from the future."""
    stage.leases_may_run_out = True  # the replaced keys
    await _expect(stage)
    poison = [_of_another, _of_another_type, _garbled, _from_the_future, _with_strange_steps]
    async with stage.ground.memory() as memory:
        keys = sorted([key async for key in memory.scan_iter("guardwire:*:snapshot", count=1000)])
        ours = [str(bot.owner.user_id).encode() for bot in stage.bots]
        keys = [key for key in keys if any(user in key for user in ours)]
        for number, key in enumerate(keys):
            await poison[number % len(poison)](memory, key, keys[(number + 1) % len(keys)])
        async for lease in memory.scan_iter("guardwire:connections:*", count=1000):
            await memory.delete(lease)
            await memory.set(lease, "poison", ex=15)
    cut = sum(site.front.cut() for site in stage.sites)
    stage.proves(f"{len(keys)} values replaced; {cut} clients had to come back", len(keys) > 0 and cut > 0)
    await stage.watch(2)
    stage.healed()


async def _of_another(memory: Any, key: bytes, other: bytes) -> None:
    values = await memory.hgetall(other)
    if values:
        await memory.hset(key, mapping=values)


async def _of_another_type(memory: Any, key: bytes, _: bytes) -> None:
    await memory.delete(key)
    await memory.set(key, "poison", ex=3600)


async def _garbled(memory: Any, key: bytes, _: bytes) -> None:
    await memory.hset(key, mapping={"state": b'{"status":{"\xff', "epoch": "x", "revision": "-1"})


async def _from_the_future(memory: Any, key: bytes, _: bytes) -> None:
    await memory.hset(key, mapping={"revision": 2**52})


async def _with_strange_steps(memory: Any, key: bytes, _: bytes) -> None:
    steps = key.replace(b":snapshot", b":edges")
    await memory.delete(steps)
    await memory.rpush(
        steps, b"", b"poison", b"1 2 3", b"x y z {}", b"5 4 0 {}", b"1 99999999999999999 0 {\xff"
    )
    await memory.expire(steps, 3600)


async def _expect(stage: Stage) -> float:
    stage.right_again_seconds = _RIGHT_AGAIN_SECONDS * await slowness_of_a_process()
    stage.misled_seconds = _SLOWEST_SECONDS
    await stage.watch(_BEFORE_SECONDS)
    return time.monotonic()


async def _error(stage: Stage) -> str:
    """The error of a command to Redis; "" when Redis answers."""
    async with stage.ground.memory() as memory:
        try:
            async with asyncio.timeout(1):
                await memory.ping()
        except (TimeoutError, OSError, redis.exceptions.RedisError) as error:
            return type(error).__name__
    return ""
