"""A far region: what its clients wait for beyond the link, and what it reads for that."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg

from queries.migrations.run import migrate
from tests.benchmarks.children import Child, child
from tests.benchmarks.figure import Figure
from tests.benchmarks.flow import Flow, percentile_ms
from tests.benchmarks.ground import Ground
from tests.benchmarks.platform import MOVE, settle, write_accounts
from tests.benchmarks.sockets import Sockets
from tests.inbox import apply_inbox
from tests.regions.servers import Replicas, replayed, replicas

_ONE_WAY_SECONDS: Final = 0.04
#: The bound for Guardwire itself, on both sides of the link.
_OURS_MS: Final = 5
_ACCOUNTS: Final = 40
_PER_SECOND: Final = 40
#: A node hears the relay's canary each second.
_SETTLED_SECONDS: Final = 3.0


class _Far(NamedTuple):
    node: Child
    primary_url: str


async def measure(ground: Ground) -> list[Figure]:
    """Price moves at home, and their frames in a region behind a link of 80 ms both ways."""
    p50_ms: list[float] = []
    reads: list[float] = []
    users = ground.users[:_ACCOUNTS]
    async with _region(ground) as far, Sockets(far.node.port) as sockets:
        await sockets.connect(users, ground.tokens(users))
        await asyncio.sleep(_SETTLED_SECONDS)
        flow = await Flow.open(far.primary_url)
        await flow.run([sockets], _move, users, per_second=_PER_SECOND, seconds=2.0)
        for _ in range(ground.scale.samples):
            before = (await far.node.usage()).counted
            seen = await flow.run(
                [sockets], _move, users, per_second=_PER_SECOND, seconds=ground.scale.window_seconds
            )
            p50_ms.append(percentile_ms(seen.latencies_seconds, 50))
            reads.append(((await far.node.usage()).counted - before) / seen.commits)
        await flow.close()
    load = f"{_PER_SECOND} changes/s, {2000 * _ONE_WAY_SECONDS:g} ms link"
    return [
        Figure(
            name=f"far region: commit → frame p50, {load}",
            unit="ms",
            ours=p50_ms,
            limit=1000 * _ONE_WAY_SECONDS + _OURS_MS,
        ),
        Figure(name=f"far region: reads of accounts per change, {load}", unit="", ours=reads, limit=0),
    ]


@contextlib.asynccontextmanager
async def _region(ground: Ground) -> AsyncIterator[_Far]:
    """A primary with a node that relays, and a far node whose every way home is slow."""
    with replicas("any") as made:
        async with (
            _link(made.primary.port) as database,
            _link(_port_of(ground.redis_url)) as redis,
            _nodes(ground, made, database.port, redis.port) as far,
        ):
            yield far


def _link(target_port: int) -> AbstractAsyncContextManager[Child]:
    return child("link", target_port=target_port, one_way_seconds=_ONE_WAY_SECONDS)


@contextlib.asynccontextmanager
async def _nodes(ground: Ground, made: Replicas, database: int, redis: int) -> AsyncIterator[_Far]:
    """Both nodes; ``database`` and ``redis`` are the ports of the slow ways."""
    primary_url = made.primary.url
    await migrate(primary_url)
    await _write(primary_url, ground)
    standby = made.standby(database)
    await replayed(primary_url, standby.url)
    shared: dict[str, Any] = {"secret": ground.secret, "counts_statements": False, "counts_reads": True}
    home = child("node", database_url=primary_url, redis_url=ground.redis_url, fanout="relay", **shared)
    far = child(
        "node",
        database_url=standby.url,
        primary_url=made.primary.url_of(primary_url, port=database),
        relay_url=_through(ground.redis_url, redis),
        **shared,
    )
    async with home, far as node:
        yield _Far(node, primary_url)


async def _move(connection: Any, user: UUID, ticket: int, price: int, on_commit: Callable[[], None]) -> None:
    """Write a single row; its time counts from the end of the commit, because the frame is on its way for longer."""
    await connection.execute(MOVE, user, ticket, price)
    on_commit()


async def _write(database_url: str, ground: Ground) -> None:
    connection = await asyncpg.connect(database_url)
    await write_accounts(connection, list(ground.users[:_ACCOUNTS]))
    await apply_inbox(connection)
    await settle(connection)
    await connection.close()


def _port_of(url: str) -> int:
    return urlsplit(url).port or 0


def _through(url: str, port: int) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{port}").geturl()
