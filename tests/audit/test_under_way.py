"""While writers commit side by side and late, and an applier applies, no audit calls waiting rows different."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from queries.capture import housekeep
from tests.audit.auditing import audited, differences
from tests.inbox import PASSING_CLASSES, apply_inbox
from tests.queries.database_writer import DatabaseWriter, connected

_AUDITS = 60
_TICKETS = 4


class RandomWriter:
    """Writes random transactions for several accounts over one connection, until it is cancelled.

    Each writer changes and deletes only rows that it inserted itself, so no writer waits for another one. The writer
    with ``sets_reference`` also changes limits and instruments.
    """

    def __init__(self, connection: Any, users: list[UUID], seed: int) -> None:
        self._accounts = [DatabaseWriter(connection, user, applies=False) for user in users]
        self._random = Random(seed)
        self._sets_reference = seed == 0
        self._log: list[UUID] = []
        self._equity: list[UUID] = []

    async def run(self) -> None:
        """Write one transaction after the other, some of several rows, some rolled back."""
        connection = self._accounts[0].connection
        while True:
            transaction = connection.transaction()
            await transaction.start()
            try:
                for _ in range(self._random.randint(1, 5)):
                    await self._write(self._random.choice(self._accounts))
                await asyncio.sleep(self._random.uniform(0, 0.02))
            except BaseException:
                await transaction.rollback()
                raise
            await (transaction.rollback() if self._random.random() < 0.1 else transaction.commit())

    async def _write(self, account: DatabaseWriter) -> None:
        random, ticket = self._random, self._random.randint(1, _TICKETS)
        at = datetime.now(UTC) - timedelta(seconds=random.uniform(0, 3))
        match random.randint(0, 15):
            case 0:
                await account.close(ticket=ticket, created_at=at)
            case 1 | 2:
                flow = random.choice([0, 0, -50, 50])
                equity = random.randint(7_000, 10_000)
                self._equity.append(await account.equity(equity, created_at=at, cash_flow=flow))
            case 3:
                await account.guard("price gap", 100, random.randint(100, 115), created_at=at)
            case 4:
                await account.sync(ticket=ticket, created_at=at, matched=2, event_type="divergence")
            case 5:
                await account.sync(ticket=ticket, created_at=at, status="failed", error_message="no answer")
            case 6:
                await account.rate("USD", "JPY", random.randint(140, 160), created_at=at)
            case 7:
                await account.sync(ticket=ticket, created_at=at, symbol="USDJPY")
            case 8:
                await self._change_a_row(account)
            case 9 if self._sets_reference:
                await self._set_reference(account)
            case _:
                price = random.randint(1_900, 2_000)
                self._log.append(await account.sync(ticket=ticket, created_at=at, current_price=price))

    async def _change_a_row(self, account: DatabaseWriter) -> None:
        match self._random.randint(0, 3):
            case 0 if self._equity:
                row = self._random.choice(self._equity)
                equity = self._random.randint(7_000, 10_000)
                await account.execute("UPDATE equity_snapshots SET equity = $2 WHERE id = $1", row, equity)
            case 1 if len(self._log) > 20:
                await account.execute("DELETE FROM reconciliation_logs WHERE id = $1", self._log.pop(0))
            case _ if self._log:
                price = self._random.randint(1_900, 2_000)
                await account.update(self._random.choice(self._log), current_price=price)

    async def _set_reference(self, account: DatabaseWriter) -> None:
        if self._random.random() < 0.5:
            await account.set_limits(drawdown_critical_pct=self._random.randint(15, 30))
        else:
            size = self._random.choice([10, 100])
            await account.execute("UPDATE instruments SET contract_size = $1 WHERE symbol = 'XAUUSD'", size)


async def apply_again_and_again(connection: Any) -> None:
    """Apply the inbox over ``connection`` with pauses, as an applier with little time, until cancelled."""
    random = Random(1)
    while True:
        try:
            await apply_inbox(connection, batch_rows=random.choice([1, 10, 1_000]))
        except asyncpg.PostgresError as error:
            if not (error.sqlstate or "").startswith(PASSING_CLASSES):
                raise
        await asyncio.sleep(random.uniform(0, 0.05))


@asynccontextmanager
async def running(*coroutines: Any) -> AsyncIterator[None]:
    """Run tasks meanwhile; a task that fails fails the test."""
    tasks = [asyncio.create_task(each) for each in coroutines]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [end for end in ends if not isinstance(end, asyncio.CancelledError)] == []


@pytest.mark.timeout(120)
async def test_no_audit_calls_a_row_different_that_waits(migrated_url: str) -> None:
    users = [UUID(int=number) for number in (1, 2)]
    random = Random(7)
    async with (
        connected(migrated_url) as auditing,
        connected(migrated_url) as applying,
        connected(migrated_url) as first,
        connected(migrated_url) as second,
        connected(migrated_url) as third,
    ):
        writers = [RandomWriter(each, users, seed).run() for seed, each in enumerate((first, second, third))]
        rows = waited = 0
        async with running(*writers, apply_again_and_again(applying)):
            for turn in range(_AUDITS):
                await asyncio.sleep(0.02)
                await housekeep(auditing)
                waited += await auditing.fetchval("SELECT count(*) FROM guardwire.inbox") > 0
                verdict = await audited(auditing, users[turn % 2], most_rows=random.choice([10, 50, 10_000]))
                assert verdict.differences == [], "\n".join(map(str, verdict.differences))
                rows = max(rows, verdict.rows)
        assert rows > 50, "nobody wrote"
        assert waited > _AUDITS / 4, "no row ever waited"
        await apply_inbox(auditing)
        for user in users:
            assert await differences(auditing, user) == []
        assert await auditing.fetchval("SELECT count(*) FROM guardwire.set_aside") == 0
