"""The feed on a real database, with its hub and a client that records snapshots."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg

from queries.channels import LIVE_QUERIES
from realtime.database import engine_for
from realtime.delivery.hub import Hub
from realtime.feed.connection import KeptConnection
from realtime.feed.dirty import DirtySet
from realtime.feed.housekeeping import Housekeeper
from realtime.feed.loop import Feed
from realtime.feed.sweep import Sweeper
from realtime.history import Step, Store
from realtime.snapshot import Freshness, Snapshot
from tests.inbox import apply_batches


class Client:
    """Records the snapshots that it is woken for."""

    def __init__(self) -> None:
        self.seen: list[Snapshot] = []

    def wake(self, newest: Snapshot, fresh: Freshness, now: float) -> None:
        """Record a newer snapshot."""
        self.seen.append(newest)

    def mark_stale(self, now: float, *, stale: bool) -> None:
        """Ignore a change of freshness."""

    async def sees(self, revision_above: int = 0) -> Snapshot:
        """The newest snapshot, as soon as its revision is above ``revision_above``."""
        async with asyncio.timeout(10):
            while not self.seen or self.seen[-1].revision <= revision_above:
                await asyncio.sleep(0.005)
        return self.seen[-1]


class Kept:
    """Records the steps that the feed passes on to be stored."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def remember(self, steps: Any) -> None:
        """Take steps, as the writer of the store does."""
        self.steps += steps


class FeedNode:
    """Feed, sweep and housekeeping with the connections of `app.Node`, without sockets, LISTEN, Redis and applier."""

    def __init__(self, database_url: str, memory: Store | None = None) -> None:
        self.dirty = DirtySet()
        self.hub = Hub(mark_dirty=self.dirty.mark, stale_seconds=2.0)
        self.kept = Kept()
        self.engine = engine_for(database_url, pool_size=4, pooled=False)
        self.connections = [KeptConnection(self.engine) for _ in range(3)]
        self.feed = Feed(
            connection=self.connections[0],
            live_queries=LIVE_QUERIES,
            dirty=self.dirty,
            hub=self.hub,
            memory=memory,
            remember=self.kept.remember,
        )
        self.sweeper = Sweeper(
            connection=self.connections[1], hub=self.hub, dirty=self.dirty, interval_seconds=0.1
        )
        self.housekeeper = Housekeeper(connection=self.connections[2], interval_seconds=0.1)

    def watch(self, user_id: UUID) -> Client:
        """A client that watches this account."""
        client = Client()
        self.hub.attach(user_id, client)
        return client


@contextlib.asynccontextmanager
async def feed_node(
    database_url: str, *, housekeeping: bool = False, memory: Store | None = None
) -> AsyncIterator[FeedNode]:
    """A running node, while the context lasts."""
    node = FeedNode(database_url, memory)
    runs = [node.feed.run, node.sweeper.run, *([node.housekeeper.run] if housekeeping else [])]
    tasks = [asyncio.create_task(run()) for run in runs]
    try:
        yield node
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        for connection in node.connections:
            await connection.close()
        await node.engine.dispose()
        died = [end for end in ends if not isinstance(end, asyncio.CancelledError)]
        assert not died, f"a task of the feed died: {died!r}"


async def sync(
    connection: asyncpg.Connection[Any],
    user_id: UUID,
    *,
    ticket: int = 7,
    price: float = 1955.75,
    is_applied: bool = True,
) -> list[str]:
    """Write one row of an open position as the platform, and apply it; returns the deltas."""
    await connection.execute(
        "INSERT INTO reconciliation_logs (user_id, mt5_position_id, symbol, direction, volume, entry_price,"
        " current_price, matched, event_type) VALUES ($1, $2, 'XAUUSD', 'buy', 0.1, 1950.50, $3, 1, 'sync')",
        user_id,
        ticket,
        price,
    )
    return await deltas(connection) if is_applied else []


async def deltas(connection: asyncpg.Connection[Any]) -> list[str]:
    """Apply the inbox; returns the deltas of accounts whose rows moved only prices and amounts."""
    return [delta for batch in await apply_batches(connection) for delta in batch["deltas"] or () if delta]
