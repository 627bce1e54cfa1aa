"""The promises to every connected client while PostgreSQL or Redis is away."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4

import asyncpg
import pytest

from queries.migrations.run import migrate
from realtime.embedded import EmbeddedServers
from tests.embedded.processes import family
from tests.end_to_end import tables
from tests.end_to_end.mirror import Mirror, mirror
from tests.end_to_end.node import Node, node
from tests.end_to_end.ordinary import equity, price, row
from tests.machine import slowness

pytestmark = pytest.mark.fault

TOLD_SECONDS: Final = 3.0
RIGHT_AGAIN_SECONDS: Final = 5.0


@pytest.fixture
def mortal() -> Iterator[EmbeddedServers]:
    """A PostgreSQL and a Redis that a test may stop and kill."""
    with EmbeddedServers.start() as servers:
        # Commits must survive the kill, and throw-away servers commit without waiting for their log.
        asyncio.run(_commit_for_good(servers.database_url))
        yield servers


async def _commit_for_good(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        name = await connection.fetchval("SELECT quote_ident(current_database())")
        await connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = on")
    finally:
        await connection.close()


@dataclass
class Scene:
    """One connected account on a node of its own; `user_id` has a position at 1955.75."""

    node: Node
    account: Mirror
    user_id: UUID
    database_url: str

    async def write(self, new_price: str) -> None:
        """Move the price of the position, over a connection of its own."""
        connection = await asyncpg.connect(self.database_url, timeout=5)
        try:
            await tables.insert(connection, row(self.user_id, new_price), equity(self.user_id, 10_000))
        finally:
            await connection.close()

    async def shows(self, shown: float, *, seconds: float) -> None:
        """Wait until the mirror shows this price, and is not stale."""
        await self.account.until(
            lambda: price(self.account) == shown and not self.account.stale, seconds=seconds
        )

    async def is_right(self) -> None:
        """Fail unless the mirror agrees with a new query."""
        frame = await self.node.get("/api/v1/state", self.user_id)
        assert self.account.state == frame["state"]
        assert self.account.revision == frame["revision"]


@contextlib.asynccontextmanager
async def connected(servers: EmbeddedServers) -> AsyncIterator[Scene]:
    """A node on ``servers``, and a mirror of one account that shows a position."""
    await migrate(servers.database_url)
    user_id = uuid4()
    async with (
        node(servers.database_url, servers.redis_url, heartbeat_seconds=1.0) as server,
        mirror(server.url, server.token(user_id)) as account,
    ):
        scene = Scene(server, account, user_id, servers.database_url)
        await scene.write("1955.75")
        await account.until(lambda: price(account) == 1955.75)
        yield scene


async def test_with_redis_killed_pushes_go_on(mortal: EmbeddedServers) -> None:
    assert mortal.redis is not None
    async with connected(mortal) as scene:
        await asyncio.to_thread(mortal.redis.end)
        for moved in ("1960", "1961", "1962"):
            await scene.write(moved)
            await scene.shows(float(moved), seconds=2)
        await scene.is_right()
        # A node that gets no processor for two seconds says that it is stale, with Redis or without.
        assert slowness() > 2 or not any(frame["stale"] for frame in scene.account.frames_of("heartbeat"))
        # A client that connects now also gets everything.
        async with mirror(scene.node.url, scene.node.token(scene.user_id)) as newcomer:
            assert newcomer.state == scene.account.state


async def test_with_redis_hanging_pushes_go_on(mortal: EmbeddedServers) -> None:
    assert mortal.redis is not None
    assert mortal.redis.pid is not None
    async with connected(mortal) as scene:
        os.kill(mortal.redis.pid, signal.SIGSTOP)
        try:
            for moved in ("1960", "1961", "1962"):
                await scene.write(moved)
                await scene.shows(float(moved), seconds=2)
        finally:
            os.kill(mortal.redis.pid, signal.SIGCONT)


async def test_with_postgresql_stopped_clients_are_told_and_are_right_again_soon_after(
    mortal: EmbeddedServers,
) -> None:
    assert mortal.postgres is not None
    assert mortal.postgres.pid is not None
    async with connected(mortal) as scene:
        stopped = {mortal.postgres.pid, *(process.pid for process in family(mortal.postgres.pid))}
        _send(stopped, signal.SIGSTOP)
        try:
            await scene.account.until(lambda: scene.account.stale, seconds=TOLD_SECONDS)
        finally:
            _send(stopped, signal.SIGCONT)
        back = time.monotonic()
        await scene.write("1970")
        await _is_right_again(scene, 1970, back)


async def test_with_postgresql_killed_clients_are_told_and_are_right_again_soon_after(
    mortal: EmbeddedServers,
) -> None:
    assert mortal.postgres is not None
    assert mortal.postgres.pid is not None
    async with connected(mortal) as scene:
        os.kill(mortal.postgres.pid, signal.SIGKILL)
        await scene.account.until(lambda: scene.account.stale, seconds=TOLD_SECONDS)
        await asyncio.to_thread(mortal.postgres.end)
        mortal.postgres.start()
        back = time.monotonic()
        await scene.write("1970")
        await _is_right_again(scene, 1970, back)


async def test_a_killed_listener_is_noticed_and_nothing_is_missed(mortal: EmbeddedServers) -> None:
    async with connected(mortal) as scene:
        platform = await asyncpg.connect(mortal.database_url)
        try:
            killed = await platform.fetch(
                """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE datname = current_database() AND pid <> pg_backend_pid()"""
            )
            assert len(killed) >= 3
            await tables.insert(platform, row(scene.user_id, "1980"))
            await scene.shows(1980, seconds=RIGHT_AGAIN_SECONDS)
            await scene.is_right()
        finally:
            await platform.close()


async def _is_right_again(scene: Scene, shown: float, back: float) -> None:
    left = back + RIGHT_AGAIN_SECONDS - time.monotonic()
    await scene.shows(shown, seconds=left)
    await scene.is_right()
    assert scene.account.closed is None


def _send(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
