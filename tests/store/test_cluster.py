"""A real Redis Cluster: three primaries with a replica each, of which some fail, and slots that move or are lost."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from uuid import UUID

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from auth.identity import Identity
from auth.revocation import Revocations
from auth.tickets import Tickets
from guardwire.state import CHANNELS
from realtime.database import engine_for
from realtime.errors import AuthenticationError
from realtime.history import Step
from realtime.metrics import METRICS
from realtime.store.cluster import slot_of
from realtime.store.leases import Leases
from realtime.store.nodes import Nodes, Site
from realtime.store.redis_pool import connect
from realtime.store.snapshots import SnapshotStore, _snapshot_key, to_stored
from tests.machine import slowness
from tests.redis_servers import RedisCluster, Server
from tests.snapshots import snapshot
from tests.waiting import until

IDENTITY = Identity(
    user_id=UUID(int=7), subject=str(UUID(int=7)), issuer="", audience="", token_id="t", key_fingerprint=b"",
    issued_at=0.0, expires_at=4e9,
)  # fmt: skip
#: Enough for every primary to own some of them.
USERS = [UUID(int=number << 64 | 7) for number in range(1, 31)]
THIRD_OF_SLOTS = range(5461, 5463)
#: A failover takes the silence after which a primary has failed, an election, and a look of the client.
FOLLOWED_SECONDS = 8.0
PATIENT_SECONDS = 10.0


@pytest.fixture(scope="module")
def whole() -> Iterator[RedisCluster]:
    with RedisCluster() as cluster:
        asyncio.run(cluster.form())
        yield cluster


@pytest.fixture
async def cluster(whole: RedisCluster) -> RedisCluster:
    """The cluster, whole and empty."""
    await whole.until_whole()
    for server in whole.servers:
        if (await server.ask("ROLE"))[0] == "master":
            await server.ask("FLUSHALL")
    return whole


@pytest.fixture
async def redis(cluster: RedisCluster) -> AsyncIterator[Redis]:
    """A node's client, which waits for servers that get no processor on a busy machine."""
    client = connect(cluster.url, deadline_seconds=PATIENT_SECONDS)
    yield client
    await client.aclose()


def slot(user_id: UUID) -> int:
    return slot_of(_snapshot_key(user_id))


async def commit(store: SnapshotStore, users: Sequence[UUID], revision: int) -> list[int]:
    """Store a step to ``revision`` of each user; the results of those that were stored."""
    return await store.commit([
        to_stored(
            Step(snapshot(revision, user_id=user_id, syncs=revision),
                 snapshot(revision - 1, user_id=user_id, syncs=revision - 1) if revision > 1 else None)
        )
        for user_id in users
    ])  # fmt: skip


async def owned_by(cluster: RedisCluster, server: Server) -> list[UUID]:
    return [user_id for user_id in USERS if await cluster.owner(slot(user_id)) is server]


async def seconds_until(what: Callable[[], Awaitable[bool]], *, most: float) -> float:
    """Seconds until ``what`` held; raises TimeoutError after ``most`` seconds of a quiet machine."""
    began = time.monotonic()
    async with asyncio.timeout(most * slowness()):
        while not await what():
            await asyncio.sleep(0.02)
    return time.monotonic() - began


async def confirm(_identity: Identity) -> None:
    """Accept every identity."""


async def test_every_part_works_for_accounts_of_all_servers(redis: Redis, cluster: RedisCluster) -> None:
    assert len({(await cluster.owner(slot(user_id))).port for user_id in USERS}) == 3
    store = SnapshotStore(redis, channels=CHANNELS)
    for revision in (1, 2):
        assert await commit(store, USERS, revision) == [1] * len(USERS)
    found = await store.load(USERS)
    assert {stored.snapshot.revision for stored in found.values()} == {2}
    assert [len(found[user_id].edges) for user_id in USERS] == [1] * len(USERS)

    leases = Leases(redis, most_per_user=1)
    assert all(await asyncio.gather(*(leases.claim(f"one {user}", user) for user in USERS)))
    assert not any(await asyncio.gather(*(leases.claim(f"two {user}", user) for user in USERS)))
    await leases.release({f"one {user}": user for user in USERS})
    assert all(await asyncio.gather(*(leases.claim(f"two {user}", user) for user in USERS)))

    tickets = Tickets(redis=redis, confirm=confirm)
    issued = await asyncio.gather(*(tickets.issue(IDENTITY) for _ in range(50)))
    assert await asyncio.gather(*(tickets.redeem(ticket.text) for ticket in issued)) == [IDENTITY] * 50
    with pytest.raises(AuthenticationError):
        await tickets.redeem(issued[0].text)

    assert await Nodes(redis).report(7) == Site(1, 7)
    assert await Nodes(redis).report(5) == Site(2, 12)
    assert (await redis.info("memory"))["maxmemory_policy"] == "noeviction"


async def test_a_revocation_reaches_another_node_at_once(redis: Redis, migrated_url: str) -> None:
    engine = engine_for(migrated_url, pool_size=2, pooled=False)
    here, there = (
        Revocations(engine=engine, redis=redis, read_seconds=60, poll_seconds=0.02) for _ in range(2)
    )
    METRICS.redis_up.set(0)
    running = asyncio.create_task(there.run())
    try:
        await until(lambda: METRICS.redis_up.get() == 1)
        await here.revoke(user_id=IDENTITY.user_id)
        await until(lambda: there.is_revoked(IDENTITY))
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await engine.dispose()


async def test_a_failover_is_followed_under_load_and_harms_no_other_account(
    redis: Redis, cluster: RedisCluster
) -> None:
    store, tickets = SnapshotStore(redis, channels=CHANNELS), Tickets(redis=redis, confirm=confirm)
    victim = await cluster.owner(slot(USERS[0]))
    theirs = await owned_by(cluster, victim)
    others = [user_id for user_id in USERS if user_id not in theirs]
    assert await commit(store, USERS, 1) == [1] * len(USERS)

    async with load(store, others) as unstored:
        victim.kill()
        revision = 1

        async def are_stored_again() -> bool:
            nonlocal revision
            revision += 1
            return await commit(store, theirs, revision) == [1] * len(theirs)

        await seconds_until(are_stored_again, most=FOLLOWED_SECONDS)
        assert revision > 2, "the first commits after the kill found no server"
    assert unstored == []
    found = await store.load(USERS)
    assert {found[user_id].snapshot.revision for user_id in theirs} == {revision}
    for _ in range(30):
        ticket = await tickets.issue(IDENTITY)
        assert await tickets.redeem(ticket.text) == IDENTITY
    victim.start()
    await cluster.until_whole()
    assert await commit(store, USERS, 10_000) == [1] * len(USERS)


@contextlib.asynccontextmanager
async def load(store: SnapshotStore, users: Sequence[UUID]) -> AsyncIterator[list[tuple[int, list[int]]]]:
    """Commit steps of ``users`` all the time; gives those revisions that were not stored for all of them."""
    unstored: list[tuple[int, list[int]]] = []

    async def go_on() -> None:
        revision = 2
        while True:
            results = await commit(store, users, revision)
            if results != [1] * len(users):
                unstored.append((revision, results))
            revision += 1
            await asyncio.sleep(0.005)

    task = asyncio.create_task(go_on())
    try:
        yield unstored
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_slot_moves_under_load_and_nothing_is_lost(redis: Redis, cluster: RedisCluster) -> None:
    store = SnapshotStore(redis, channels=CHANNELS)
    users = users_of_one_slot(5)
    number = slot(users[0])
    source = await cluster.owner(number)
    target = await cluster.owner((number + 6000) % 16384)
    assert target is not source
    # Many connections, so that ASKING and the command behind it could take different ones.
    await asyncio.gather(*(commit(store, users, 1) for _ in range(16)))
    assert await commit(store, users, 2) == [1] * 5

    # Each account in commits of its own, which run side by side.
    async with contextlib.AsyncExitStack() as stack:
        unstored = [await stack.enter_async_context(load(store, [user_id])) for user_id in users]
        await reshard(number, source, target)
        assert await cluster.owner(number) is target
        revision = (await store.load(users))[users[0]].snapshot.revision
        await seconds_until(lambda: has_grown(store, users, revision), most=5)
    assert unstored == [[]] * 5
    assert await source.ask("CLUSTER COUNTKEYSINSLOT", number) == 0
    assert await target.ask("CLUSTER COUNTKEYSINSLOT", number) == 10


def users_of_one_slot(count: int) -> list[UUID]:
    """Accounts whose keys have one slot."""
    first = USERS[0]
    found = [first]
    number = 0
    while len(found) < count:
        number += 1
        if slot(UUID(int=number)) == slot(first):
            found.append(UUID(int=number))
    return found


async def has_grown(store: SnapshotStore, users: Sequence[UUID], revision: int) -> bool:
    found = await store.load(users)
    return len(found) == len(users) and all(each.snapshot.revision > revision for each in found.values())


async def reshard(number: int, source: Server, target: Server) -> None:
    """Move a slot as `redis-cli --cluster reshard` does, with a while between two accounts."""
    await target.ask("CLUSTER SETSLOT", number, "IMPORTING", await source.ask("CLUSTER MYID"))
    await source.ask("CLUSTER SETSLOT", number, "MIGRATING", await target.ask("CLUSTER MYID"))
    while keys := await source.ask("CLUSTER GETKEYSINSLOT", number, 100):
        account = keys[0].rpartition(":")[0]
        both = sorted(key for key in keys if key.startswith(account))
        await source.ask(
            "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "AUTH", target._password, "KEYS", *both
        )
        await asyncio.sleep(0.1)  # commits of this account are asked elsewhere meanwhile
    for server in (target, source):
        await server.ask("CLUSTER SETSLOT", number, "NODE", await target.ask("CLUSTER MYID"))


async def test_a_slot_without_an_owner_harms_its_accounts_alone_and_is_logged_once(
    redis: Redis, cluster: RedisCluster, caplog: pytest.LogCaptureFixture
) -> None:
    store, leases = SnapshotStore(redis, channels=CHANNELS), Leases(redis, most_per_user=1)
    lost, others = USERS[0], USERS[1:]
    assert await commit(store, USERS, 1) == [1] * len(USERS)
    owner = await cluster.owner(slot(lost))
    await disown(cluster, slot(lost), owner)
    for revision in range(2, 6):
        assert await commit(store, USERS, revision) == [1] * len(others)
        assert set(await store.load(USERS)) == set(others)
    assert store.available
    assert all(await asyncio.gather(*(leases.claim(f"one {user}", user) for user in USERS)))
    await until(lambda: METRICS.redis_slots_lost.get() == 1)
    await owner.ask("CLUSTER ADDSLOTS", slot(lost))
    await until(lambda: METRICS.redis_slots_lost.get() == 0, seconds=FOLLOWED_SECONDS * slowness())
    assert await commit(store, USERS, 6) == [1] * len(USERS)
    assert caplog.messages == [
        "1 of 16384 slots of the Redis Cluster are not served: their accounts are pushed, and not remembered",
        "all slots of the Redis Cluster are served again",
    ]


async def disown(cluster: RedisCluster, number: int, owner: Server) -> None:
    """Take a slot from its owner, until no server believes that it has one."""
    servers = [owner, await cluster.replica_of(owner), *cluster.servers]
    while believers := [server for server in servers if await server.believes_in_owner_of(number)]:
        for server in believers:
            with contextlib.suppress(ResponseError):  # it has heard of it meanwhile
                await server.ask("CLUSTER DELSLOTS", number)
        await asyncio.sleep(0.2)  # what the others say of the slot has arrived


async def test_servers_that_hang_hold_up_no_other_account(
    cluster: RedisCluster, caplog: pytest.LogCaptureFixture
) -> None:
    redis = connect(cluster.url, deadline_seconds=slowness())
    store = SnapshotStore(redis, channels=CHANNELS)
    assert await commit(store, USERS, 1) == [1] * len(USERS)
    primary = await cluster.owner(slot(USERS[0]))
    theirs = await owned_by(cluster, primary)
    others = [user_id for user_id in USERS if user_id not in theirs]
    pair = (primary, await cluster.replica_of(primary))
    for server in pair:
        server.send(signal.SIGSTOP)
    try:
        assert await commit(store, USERS, 2) == [1] * len(others)  # waits for the servers that hang
        bound = slowness()
        for revision in range(3, 23):
            began = time.monotonic()
            assert await commit(store, USERS, revision) == [1] * len(others)
            assert time.monotonic() - began < 0.5 * bound
        await until(lambda: METRICS.redis_slots_lost.get() in THIRD_OF_SLOTS)
    finally:
        for server in pair:
            server.send(signal.SIGCONT)

    async def are_stored_again() -> bool:
        return await commit(store, USERS, 10_000) == [1] * len(USERS)

    await seconds_until(are_stored_again, most=FOLLOWED_SECONDS)
    await until(lambda: METRICS.redis_slots_lost.get() == 0)
    await redis.aclose()
    assert len(caplog.messages) == 2


async def test_without_any_server_every_part_goes_on_as_without_redis(
    caplog: pytest.LogCaptureFixture,
) -> None:
    redis = connect("redis+cluster://127.0.0.1:1,127.0.0.1:2")
    store, tickets = SnapshotStore(redis, channels=CHANNELS), Tickets(redis=redis, confirm=confirm)
    assert await commit(store, USERS, 1) == []
    assert await store.load(USERS) == {}
    assert not store.available
    assert await Leases(redis, most_per_user=1).claim("one", USERS[0])
    assert await Nodes(redis).report(3) is None
    with pytest.raises(AuthenticationError):
        await tickets.issue(IDENTITY)
    await redis.aclose()


async def test_a_server_that_is_no_cluster_is_named_in_the_log(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    redis = connect(redis_url.replace("redis://", "redis+cluster://").rpartition("/")[0])
    assert await commit(SnapshotStore(redis, channels=CHANNELS), USERS, 1) == []
    await redis.aclose()
    assert [line for line in caplog.messages if "write redis:// in place of redis+cluster://" in line]
