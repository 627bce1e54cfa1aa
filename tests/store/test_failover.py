"""A failover of Redis after which the old primary lives on as a replica, on two real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

import pytest
import redis.asyncio
from redis.asyncio import Redis
from redis.exceptions import ReadOnlyError

from auth.identity import Identity
from auth.revocation import Revocations
from auth.tickets import Tickets
from guardwire.state import CHANNELS
from realtime.database import engine_for
from realtime.embedded import EmbeddedServers
from realtime.errors import AuthenticationError
from realtime.history import Step
from realtime.metrics import METRICS
from realtime.store.leases import Leases
from realtime.store.redis_pool import connect
from realtime.store.snapshots import SnapshotStore, to_stored
from tests.faults.proxy import Proxy
from tests.snapshots import USER, snapshot

IDENTITY = Identity(
    user_id=UUID(int=7),
    subject=str(UUID(int=7)),
    issuer="",
    audience="",
    token_id="t",
    key_fingerprint=b"",
    issued_at=0.0,
    expires_at=4e9,
)


class Pair(NamedTuple):
    """Two servers, and the address of the present primary; ``client`` is a node's."""

    old: str
    new: str
    address: Proxy
    client: Redis

    async def fail_over(self) -> None:
        """Make the new server the primary and the old one its replica, and point the address to the new one."""
        await self.demote_old()
        self.address.target_port = _port(self.new)

    async def demote_old(self) -> None:
        new = urlsplit(self.new)
        async with redis.asyncio.from_url(self.old) as old, redis.asyncio.from_url(self.new) as promoted:
            await promoted.replicaof("NO", "ONE")
            await old.config_set("masterauth", new.password or "")
            await old.replicaof("127.0.0.1", str(new.port))


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[str, str]]:
    """The URLs of two servers."""
    nothing = "postgresql://not-used"
    with (
        EmbeddedServers.start(database_url=nothing) as one,
        EmbeddedServers.start(database_url=nothing) as two,
    ):
        yield one.redis_url, two.redis_url


@pytest.fixture
async def pair(both: tuple[str, str]) -> AsyncIterator[Pair]:
    for url in both:
        async with redis.asyncio.from_url(url) as server:
            await server.replicaof("NO", "ONE")
            await server.flushall()
    async with Proxy("redis", _port(both[0])) as address:
        # The servers have different passwords; the user of the address has one that both accept.
        for url in both:
            async with redis.asyncio.from_url(url) as server:
                await server.acl_setuser(
                    "node", enabled=True, reset_passwords=True, passwords=["+secret"], keys=["*"],
                    categories=["+@all"],
                )  # fmt: skip
        client = connect(f"redis://node:secret@127.0.0.1:{address.port}/0")
        yield Pair(*both, address, client)
        await client.aclose()


async def _confirm(_identity: Identity) -> None:
    """Accept every identity."""


async def test_tickets_are_given_out_again_after_a_failover(pair: Pair) -> None:
    tickets = Tickets(redis=pair.client, confirm=_confirm)
    # As many connections as a crowd would have opened.
    await asyncio.gather(*(tickets.issue(IDENTITY) for _ in range(50)))
    await pair.fail_over()
    with pytest.raises(AuthenticationError):
        await tickets.issue(IDENTITY)
    ticket = await tickets.issue(IDENTITY)
    assert await tickets.redeem(ticket.text) == IDENTITY


async def test_snapshots_and_leases_reach_the_new_primary(pair: Pair) -> None:
    store = SnapshotStore(pair.client, channels=CHANNELS)
    leases = Leases(pair.client, most_per_user=1)
    assert await store.commit([to_stored(Step(snapshot(1), None))]) == [1]
    await pair.fail_over()
    assert await store.commit([to_stored(Step(snapshot(2), None))]) == []
    assert await store.commit([to_stored(Step(snapshot(2), None))]) == [1]
    assert await leases.claim("one", USER)
    assert not await leases.claim("two", USER)
    async with redis.asyncio.from_url(pair.new) as new:
        kinds = {str(key).split(":")[1] for key in await new.keys("*")}
    assert "connections" in kinds
    assert (await store.load([USER]))[USER].snapshot.revision == 2


async def test_a_crowd_under_way_while_a_server_is_demoted_leaves_it_at_once(pair: Pair) -> None:
    tickets = Tickets(redis=pair.client, confirm=_confirm)
    await asyncio.gather(*(tickets.issue(IDENTITY) for _ in range(50)))
    await pair.fail_over()
    await asyncio.gather(*(tickets.issue(IDENTITY) for _ in range(50)), return_exceptions=True)
    await asyncio.gather(*(tickets.issue(IDENTITY) for _ in range(50)))


async def test_answers_of_a_pipeline_behind_a_refused_write_are_read(pair: Pair) -> None:
    await pair.client.set("a", "1")
    await pair.demote_old()
    pipeline = pair.client.pipeline(transaction=False)
    pipeline.set("a", "2")
    pipeline.echo("behind")
    refused, echoed = await pipeline.execute(raise_on_error=False)
    assert isinstance(refused, ReadOnlyError)
    assert echoed == b"behind"


async def test_redis_counts_as_down_while_it_takes_no_writes(pair: Pair, migrated_url: str) -> None:
    engine = engine_for(migrated_url, pool_size=2, pooled=False)
    revocations = Revocations(
        engine=engine, redis=pair.client, max_token_lifetime_seconds=3600, poll_seconds=0.05
    )
    running = asyncio.create_task(revocations.run())

    async def is_shown_as(value: float) -> None:
        async with asyncio.timeout(20):
            while METRICS.redis_up.get() != value:
                await asyncio.sleep(0.01)

    METRICS.redis_up.set(0)
    try:
        await is_shown_as(1)
        # The address still leads to the old server, which answers every read.
        await pair.demote_old()
        await is_shown_as(0)
        pair.address.target_port = _port(pair.new)
        await is_shown_as(1)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await engine.dispose()


async def test_a_refusal_of_redis_is_logged_once_and_not_as_an_outage(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    store = SnapshotStore(pair.client, channels=CHANNELS)
    await pair.demote_old()
    for revision in range(1, 5):
        await store.commit([to_stored(Step(snapshot(revision), None))])
        await store.load([USER])
    assert caplog.messages == ["Redis refuses to remember; pushes go on without it: ReadOnlyError"]
    pair.address.target_port = _port(pair.new)
    await store.commit([to_stored(Step(snapshot(5), None))])
    await store.commit([to_stored(Step(snapshot(5), None))])
    assert caplog.messages[1:] == ["Redis remembers again"]
