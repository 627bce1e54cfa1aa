"""A busy platform: an hour of trading in seconds, odd rows, late commits, nodes killed meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg
import pytest
from websockets.exceptions import InvalidHandshake

from auth.development import DevelopmentKey
from realtime.audit.history import Instrument
from realtime.audit.state import Oracle
from realtime.simulator import SimulatorOptions, demo_user_id, simulate
from tests.end_to_end.agreement import disagreements
from tests.end_to_end.mirror import Mirror, mirror
from tests.end_to_end.node_process import NodeProcess, node_process
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
    """A client that goes to the next node when its own is gone, and takes up where it was."""

    def __init__(self, user_id: UUID, token: str) -> None:
        self.user_id = user_id
        self.account: Mirror | None = None
        self.resumed: list[bool] = []
        self._token = token

    async def follow(self, nodes: Sequence[NodeProcess]) -> None:
        """For ever, from one node to the next."""
        for server in itertools.cycle(nodes):
            with contextlib.suppress(OSError, InvalidHandshake):
                async with mirror(server.url, self._token, held=self.account) as account:
                    self.account = account
                    self.resumed.append(bool(account.resumed))
                    await account.until_closed()

    async def is_right(self, connection: Any, instruments: Sequence[Instrument]) -> None:
        """Wait for the newest revision, then compare with the oracle."""
        revision = await connection.fetchval(
            "SELECT revision FROM guardwire.accounts WHERE user_id = $1", self.user_id
        )
        assert self.account is not None
        await self.account.until_revision(revision)
        history = await recorded_history(connection, self.user_id)
        expected = Oracle(self.user_id, instruments).state(history)
        found = disagreements(expected, self.account.state, since=history[0].at)
        assert not found, "\n".join(found)


@pytest.mark.fault
async def test_clients_follow_an_hour_of_trading_while_nodes_are_killed_under_them(
    migrated_url: str, redis_url: str
) -> None:
    secret = secrets.token_hex(32)
    key = DevelopmentKey(secret)
    users = [demo_user_id(index) for index in range(TRADING.users)]
    followers = [Follower(user_id, key.issue(user_id)) for user_id in users]
    async with contextlib.AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(node_process(migrated_url, redis_url, secret)) for _ in range(3)
        ]
        connection = await asyncpg.connect(migrated_url)
        stack.push_async_callback(connection.close)
        following = [asyncio.create_task(follower.follow(nodes)) for follower in followers]
        trading = asyncio.create_task(simulate(migrated_url, TRADING))
        for victim in nodes[:2]:
            await asyncio.sleep(TRADING_SECONDS / 3)
            victim.kill()
        await trading
        for follower in followers:
            await follower.is_right(connection, await known_instruments(connection))
            assert len(follower.resumed) == 3, follower.resumed
        # A killed node leaves behind what another needs to go on.
        assert any(resumed for follower in followers for resumed in follower.resumed)
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
