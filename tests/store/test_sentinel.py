"""A real primary with a replica and three Sentinels, one of which makes the replica the primary."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from uuid import UUID

import pytest
from redis.asyncio import Redis
from redis.asyncio.sentinel import MasterNotFoundError

from auth.identity import Identity
from auth.tickets import Tickets
from guardwire.state import CHANNELS
from realtime.errors import AuthenticationError
from realtime.history import Step
from realtime.store.leases import Leases
from realtime.store.redis_pool import connect
from realtime.store.snapshots import SnapshotStore, to_stored
from tests.machine import slowness
from tests.redis_servers import SERVICE, SentinelSite
from tests.snapshots import USER, snapshot

IDENTITY = Identity(
    user_id=UUID(int=7), subject=str(UUID(int=7)), issuer="", audience="", token_id="t", key_fingerprint=b"",
    issued_at=0.0, expires_at=4e9,
)  # fmt: skip
#: The silence after which a primary has failed, an agreement of the Sentinels, and the promotion.
FOLLOWED_SECONDS = 8.0


@pytest.fixture(scope="module")
def site() -> Iterator[SentinelSite]:
    with SentinelSite() as site:
        asyncio.run(site.form())
        yield site


@pytest.fixture
async def redis(site: SentinelSite) -> AsyncIterator[Redis]:
    """A node's client."""
    client = connect(site.url)
    yield client
    await client.aclose()


async def confirm(_identity: Identity) -> None:
    """Accept every identity."""


async def commit(store: SnapshotStore, revision: int) -> list[int]:
    return await store.commit([to_stored(Step(snapshot(revision, syncs=revision), None))])


async def test_the_primary_is_found_and_the_database_is_the_one_of_the_url(
    redis: Redis, site: SentinelSite
) -> None:
    assert await commit(SnapshotStore(redis, channels=CHANNELS), 1) == [1]
    async with connect(f"redis://:{site.password}@127.0.0.1:{(await site.primary()).port}/1") as direct:
        assert (await SnapshotStore(direct, channels=CHANNELS).load([USER]))[USER].snapshot.revision == 1
        await direct.flushall()


async def test_a_failover_is_followed_with_every_connection_also_without_one_sentinel(
    redis: Redis, site: SentinelSite
) -> None:
    site.sentinels[0].kill()
    store, tickets = SnapshotStore(redis, channels=CHANNELS), Tickets(redis=redis, confirm=confirm)
    leases = Leases(redis, most_per_user=1)
    # As many connections as a crowd would have opened.
    await asyncio.gather(*(tickets.issue(IDENTITY) for _ in range(50)))
    old = await site.primary()
    old.kill()
    began, revision = time.monotonic(), 1
    while await commit(store, revision) != [1]:
        assert time.monotonic() - began < FOLLOWED_SECONDS * slowness()
        revision += 1
        await asyncio.sleep(0.02)
    assert revision > 1, "the first commit after the kill found no server"
    issued = await asyncio.gather(*(tickets.issue(IDENTITY) for _ in range(50)))
    assert await asyncio.gather(*(tickets.redeem(ticket.text) for ticket in issued)) == [IDENTITY] * 50
    assert await leases.claim("one", USER)
    assert not await leases.claim("two", USER)
    assert await site.primary() is not old


@pytest.mark.parametrize("wrong", ["service", "login", "away"])
async def test_without_a_primary_every_part_goes_on_as_without_redis(
    site: SentinelSite, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    urls = {
        "service": site.url.replace(f"/{SERVICE}/", "/another/"),
        "login": site.url.replace("sentinel_password=", "sentinel_password=x"),
        "away": "redis+sentinel://127.0.0.1:1,127.0.0.1:2/guardwire",
    }
    redis = connect(urls[wrong])
    store, tickets = SnapshotStore(redis, channels=CHANNELS), Tickets(redis=redis, confirm=confirm)
    assert await commit(store, 1) == []
    assert not store.available
    with pytest.raises(AuthenticationError):
        await tickets.issue(IDENTITY)
    with pytest.raises(MasterNotFoundError):
        await redis.get("guardwire:x")
    await redis.aclose()
    named = [line for line in caplog.messages if "does not know the service" in line]
    assert len(named) == (wrong == "service")
