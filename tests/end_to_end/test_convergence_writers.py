"""Several writers at once on the same accounts: none waits for ever, none fails, and no row is lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import pytest

from queries.channels import LIVE_QUERIES
from realtime.audit.history import EquityRow, LogRow
from realtime.audit.state import Oracle
from tests.end_to_end import tables
from tests.end_to_end.agreement import disagreements
from tests.end_to_end.recorded import known_instruments, recorded_history
from tests.inbox import apply_inbox

WRITERS: Final = 4
COMMITS: Final = 40
START: Final = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=30)


@pytest.mark.parametrize("isolation", ["read_committed", "repeatable_read", "serializable"])
async def test_writers_of_the_same_accounts_never_fail_and_nothing_is_lost(
    migrated_url: str, isolation: str
) -> None:
    users = [uuid4() for _ in range(6)]
    async with contextlib.AsyncExitStack() as stack:
        connections = []
        for _ in range(WRITERS):
            connections.append(await asyncpg.connect(migrated_url))
            stack.push_async_callback(connections[-1].close)
        began = datetime.now(UTC)
        async with asyncio.TaskGroup() as group:
            writing = [
                group.create_task(_write(connection, users, Random(number), isolation))
                for number, connection in enumerate(connections)
            ]
        written = sum((task.result() for task in writing), Counter[UUID]())
        await apply_inbox(connections[0])
        assert not await connections[0].fetch("SELECT * FROM guardwire.set_aside")
        for evaluation in await LIVE_QUERIES.evaluate(connections[0], users):
            history = await recorded_history(connections[0], evaluation.user_id)
            assert len(history) == written[evaluation.user_id]
            oracle = Oracle(evaluation.user_id, await known_instruments(connections[0]))
            found = disagreements(oracle.state(history), evaluation.state, since=began)
            assert not found, "\n".join(found)


async def _write(connection: Any, users: list[UUID], random: Random, isolation: str) -> Counter[UUID]:
    """Commit rows of several users at once, in random order; returns the number for each user."""
    written = Counter[UUID]()
    for _ in range(COMMITS):
        async with connection.transaction(isolation=isolation):
            for user_id in random.sample(users, random.randrange(1, 5)):
                rows = [_log_row(user_id, random) for _ in range(random.randrange(1, 4))]
                await tables.LOG.insert(connection, rows)
                written[user_id] += len(rows)
                if random.random() < 0.4:
                    await tables.EQUITY.insert(connection, [_equity_row(user_id, random)])
                    written[user_id] += 1
    return written


def _log_row(user_id: UUID, random: Random) -> LogRow:
    event_type = random.choice(["sync"] * 5 + ["divergence", "close", "guard_trigger"])
    return LogRow(
        id=str(uuid4()),
        user_id=user_id,
        ticket=None if event_type == "guard_trigger" else random.randrange(1, 6),
        event_type=event_type,
        symbol=random.choice(["XAUUSD", "EURUSD"]),
        direction="buy",
        volume=Decimal(random.randrange(1, 100)) / 100,
        entry_price=Decimal(random.randrange(90, 110)),
        current_price=Decimal(random.randrange(90, 110)),
        matched=2 if event_type == "divergence" else 1,
        divergence_reason=random.choice(["gap", "spread"]) if event_type == "guard_trigger" else None,
        created_at=START + timedelta(seconds=random.randrange(100)),
    )


def _equity_row(user_id: UUID, random: Random) -> EquityRow:
    return EquityRow(
        id=str(uuid4()),
        user_id=user_id,
        equity=Decimal(random.randrange(7_000, 10_000)),
        balance=Decimal(10_000),
        currency="USD",
        cash_flow=Decimal(random.choice([0, 0, 0, 500, -500])),
        created_at=START + timedelta(seconds=random.randrange(100)),
    )
