"""A busy platform: an hour of trading in seconds, odd rows, late commits, and nodes that are killed meanwhile.

The clients are third parties, one in Python and one in Node, each with a library for WebSockets and one for RFC 7396.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import secrets
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg
import httpx
import pytest
from websockets.exceptions import InvalidHandshake

from auth.development import DevelopmentKey
from guardwire.state import CHANNELS
from realtime.audit.history import Instrument
from realtime.audit.state import Oracle
from realtime.simulator import SimulatorOptions, demo_user_id, simulate
from realtime.store.redis_pool import connect
from realtime.store.snapshots import SnapshotStore
from tests.end_to_end.agreement import disagreements, is_same_json
from tests.end_to_end.mirror import Mirror, mirror
from tests.end_to_end.node_process import NodeProcess, node_process
from tests.end_to_end.outsider import Outsider, lacking, outsider
from tests.end_to_end.recorded import known_instruments, recorded_history

TRADING_SECONDS: Final = 7.5
#: An hour of trading, at eight minutes a second.
TRADING: Final = SimulatorOptions(
    users=4,
    positions=6,
    rows_per_second=120,
    seconds=TRADING_SECONDS,
    speed=480,
    equity_seconds=0.25,
    writers=3,
    rows_per_commit=8,
    odd_rows=0.05,
    late_commits=0.1,
    late_commit_seconds=0.5,
    updates_in_place=0.3,
)


class Follower:
    """A client that goes to the next node when its own is gone, and resumes."""

    def __init__(self, user_id: UUID, token: str) -> None:
        self.user_id = user_id
        self.account: Mirror | None = None
        self.resumed: list[bool] = []
        self.token = token

    async def follow(self, nodes: Sequence[NodeProcess]) -> None:
        """Follow for ever, from one node to the next."""
        for server in itertools.cycle(nodes):
            with contextlib.suppress(OSError, InvalidHandshake):
                async with mirror(server.url, self.token, held=self.account) as account:
                    self.account = account
                    self.resumed.append(bool(account.resumed))
                    await account.until_closed()


class Court:
    """The expected state: the oracle's result for the rows, and the answer of the surviving node."""

    def __init__(self, connection: Any, survivor: NodeProcess, instruments: Sequence[Instrument]) -> None:
        self._connection = connection
        self._survivor = survivor
        self._instruments = instruments

    async def revision(self, user_id: UUID) -> int:
        """The newest one."""
        found: int = await self._connection.fetchval(
            "SELECT revision FROM guardwire.accounts WHERE user_id = $1", user_id
        )
        return found

    async def judge(self, user_id: UUID, token: str, held: dict[str, Any]) -> None:
        """Fail unless ``held`` (epoch, revision, state) agrees with the rows and with the answer of a new query."""
        history = await recorded_history(self._connection, user_id)
        expected = Oracle(user_id, self._instruments).state(history)
        found = disagreements(expected, held["state"], since=history[0].at)
        assert not found, "\n".join(found)
        async with httpx.AsyncClient(base_url=self._survivor.url, timeout=10, trust_env=False) as client:
            answer = await client.get("/api/v1/state", headers={"Authorization": f"Bearer {token}"})
        frame = answer.json()
        assert {key: frame[key] for key in ("epoch", "revision")} == {
            key: held[key] for key in ("epoch", "revision")
        }
        assert is_same_json(held["state"], frame["state"])


@pytest.mark.fault
async def test_strangers_in_python_and_in_node_follow_an_hour_of_trading_while_nodes_are_killed_under_them(
    migrated_url: str, redis_url: str
) -> None:
    secret = secrets.token_hex(32)
    key = DevelopmentKey(secret)
    users = [demo_user_id(index) for index in range(TRADING.users)]
    followers = [Follower(user_id, key.issue(user_id)) for user_id in users]
    without_node = lacking()
    async with contextlib.AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(node_process(migrated_url, redis_url, secret)) for _ in range(3)
        ]
        connection = await asyncpg.connect(migrated_url)
        stack.push_async_callback(connection.close)
        following = [asyncio.create_task(follower.follow(nodes)) for follower in followers]
        in_node = None
        if without_node is None:
            program = outsider([node.url for node in nodes], [follower.token for follower in followers])
            in_node = await stack.enter_async_context(program)
        trading = asyncio.create_task(simulate(migrated_url, TRADING))
        for victim in nodes[:2]:
            await asyncio.sleep(TRADING_SECONDS / 3)
            victim.kill()
        await trading
        court = Court(connection, nodes[2], await known_instruments(connection))
        for follower in followers:
            await _is_right(court, follower)
        if in_node is not None:
            for at in range(len(users)):
                await _is_right_in_node(court, in_node, followers, at)
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
    if without_node is not None:
        pytest.skip(f"followed in Python alone: {without_node}")


async def test_what_a_killed_node_had_stored_lets_its_client_go_on_at_another(
    migrated_url: str, redis_url: str
) -> None:
    secret = secrets.token_hex(32)
    user_id = demo_user_id(0)
    token = DevelopmentKey(secret).issue(user_id)
    one_second = dataclasses.replace(TRADING, users=1, seconds=1.0, late_commits=0)
    async with contextlib.AsyncExitStack() as stack:
        first, second = [
            await stack.enter_async_context(node_process(migrated_url, redis_url, secret)) for _ in range(2)
        ]
        connection = await asyncpg.connect(migrated_url)
        stack.push_async_callback(connection.close)
        court = Court(connection, second, await known_instruments(connection))
        async with mirror(first.url, token) as account:
            await simulate(migrated_url, one_second)
            await account.until_revision(await court.revision(user_id))
            await _until_stored(redis_url, user_id, account.revision)
            first.kill()
            await account.until_closed()
        await simulate(migrated_url, one_second)
        newest = await court.revision(user_id)
        assert account.revision < newest
        async with mirror(second.url, token, held=account) as again:
            await again.until_revision(newest)
            assert again.resumed
            assert not again.frames_of("snapshot")
            await court.judge(user_id, token, vars(again))


async def _until_stored(redis_url: str, user_id: UUID, revision: int) -> None:
    redis = connect(redis_url)
    try:
        store = SnapshotStore(redis, channels=CHANNELS)
        async with asyncio.timeout(10):
            while True:
                stored = (await store.load([user_id])).get(user_id)
                if stored is not None and stored.snapshot.revision >= revision:
                    return
                await asyncio.sleep(0.01)
    finally:
        await redis.aclose()


async def _is_right(court: Court, follower: Follower) -> None:
    revision = await court.revision(follower.user_id)
    assert follower.account is not None
    await follower.account.until_revision(revision)
    await court.judge(follower.user_id, follower.token, vars(follower.account))
    assert len(follower.resumed) == 3, follower.resumed


async def _is_right_in_node(
    court: Court, program: Outsider, followers: Sequence[Follower], number: int
) -> None:
    follower = followers[number]
    held = await program.until_revision(number, await court.revision(follower.user_id))
    await court.judge(follower.user_id, follower.token, held)
    assert len(held["resumed"]) == 3, held["resumed"]
    assert held["resyncs"] == 0
