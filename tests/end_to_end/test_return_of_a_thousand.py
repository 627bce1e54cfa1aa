"""A node is killed, and all its clients connect to the other one at once."""

from __future__ import annotations

import contextlib
import re
import resource
import secrets
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from auth.development import DevelopmentKey
from tests.end_to_end.load_clients import Arrival, load_clients
from tests.end_to_end.node_process import NodeProcess, node_process
from tests.inbox import wait_for_empty_inbox
from tests.machine import slowness

#: `make faults` has 5,000.
CLIENTS: Final = 1_000
POSITIONS: Final = 3
#: Accounts that change while no client is connected.
CHANGED: Final = 200
FRESH_SECONDS: Final = 15.0
PATIENCE_SECONDS: Final = 100.0
_OTHER_FILES: Final = 500


@pytest.mark.fault
@pytest.mark.timeout(240)
async def test_a_thousand_clients_that_come_back_at_once_are_fresh_within_seconds_for_one_read_each(
    migrated_url: str, redis_url: str
) -> None:
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most_files < CLIENTS + _OTHER_FILES:
        pytest.skip(f"{most_files} open files are granted here, too few for {CLIENTS} clients: ulimit -Hn")
    slow = slowness()
    secret = secrets.token_hex(32)
    key = DevelopmentKey(secret)
    users = [uuid4() for _ in range(CLIENTS)]
    async with contextlib.AsyncExitStack() as stack:
        first, second = [
            await stack.enter_async_context(node_process(migrated_url, redis_url, secret)) for _ in range(2)
        ]
        connection = await asyncpg.connect(migrated_url)
        stack.push_async_callback(connection.close)
        await _write(connection, users, POSITIONS)
        clients = await stack.enter_async_context(load_clients([key.issue(user_id) for user_id in users]))
        arrival = await clients.arrive(first.url, seconds=PATIENCE_SECONDS)
        await _is_right(arrival, connection, users, first, slow)
        first.kill()
        await _write(connection, users[:CHANGED], 1)
        arrival = await clients.arrive(second.url, seconds=PATIENCE_SECONDS)
        await _is_right(arrival, connection, users, second, slow)
        assert arrival.resumed >= CLIENTS - CHANGED


async def _is_right(
    arrival: Arrival, connection: Any, users: Sequence[UUID], at: NodeProcess, slow: float
) -> None:
    newest = dict(await connection.fetch("SELECT user_id, revision FROM guardwire.accounts"))
    assert arrival.revisions == [newest[user_id] for user_id in users]
    assert await _evaluations(at) == len(users)
    assert arrival.seconds < FRESH_SECONDS * max(slowness(), slow), f"tried again: {arrival.again}"


async def _evaluations(at: NodeProcess) -> int:
    """The number of accounts that this node has read so far."""
    async with httpx.AsyncClient(base_url=at.url, timeout=10, trust_env=False) as client:
        told = (await client.get("/metrics")).text
    match = re.search(r"^guardwire_evaluations_total (\d+)", told, re.MULTILINE)
    assert match is not None
    return int(match[1])


async def _write(connection: Any, users: Sequence[UUID], positions: int) -> None:
    """Sync so many positions of each user, and wait until a node has applied them."""
    for start in range(0, len(users), 500):
        await connection.execute(
            """INSERT INTO reconciliation_logs (user_id, mt5_position_id, symbol, direction, volume,
                                                entry_price, current_price, matched, event_type)
               SELECT owner, ticket, 'XAUUSD', 'buy', 0.1, 1950.50, 1955.75, 1, 'sync'
               FROM unnest($1::uuid[]) AS owner, generate_series(1, $2::integer) AS ticket""",
            users[start : start + 500],
            positions,
        )
    await wait_for_empty_inbox(connection, timeout_seconds=60)
