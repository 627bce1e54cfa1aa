"""While writers commit side by side and late, no audit takes what is under way for wrong."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

from queries.capture import housekeep
from tests.audit.auditing import audited
from tests.inbox import apply_batch
from tests.queries.database_writer import DatabaseWriter, connected

USERS = [UUID(int=number) for number in (1, 2)]
_AUDITS = 40


def lately(random: Random) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=random.uniform(0, 3))


async def trade(writer: DatabaseWriter, random: Random, over: asyncio.Event) -> None:
    """One transaction after the other, of several rows for either account, some of them undone."""
    while not over.is_set():
        transaction = writer.connection.transaction()
        await transaction.start()
        for _ in range(random.randint(1, 5)):
            writer.user_id = random.choice(USERS)
            await statement(writer, random)
        await asyncio.sleep(random.uniform(0.02, 0.06))
        await (transaction.rollback() if random.random() < 0.1 else transaction.commit())


async def statement(writer: DatabaseWriter, random: Random) -> None:
    ticket, at = random.randint(1, 4), lately(random)
    match random.randint(0, 11):
        case 0:
            await writer.close(ticket=ticket, created_at=at)
        case 1:
            await writer.equity(random.randint(7_000, 10_000), created_at=at, cash_flow=random.randint(0, 5))
        case 2:
            await writer.guard("price gap", 100, random.randint(100, 115), created_at=at)
        case 3:
            await writer.sync(ticket=ticket, created_at=at, matched=2, divergence_reason="volume")
        case 4:
            await writer.sync(ticket=ticket, created_at=at, status="failed", error_message="no answer")
        case 5:
            await writer.insert(
                "fx_rates", base="USD", quote="JPY", rate=random.randint(140, 160), created_at=at
            )
        case 6:
            await writer.sync(ticket=ticket, created_at=at, symbol="USDJPY")
        case _:
            await writer.sync(ticket=ticket, created_at=at, current_price=random.randint(1_900, 2_000))


async def test_no_audit_takes_what_is_under_way_for_wrong(migrated_url: str) -> None:
    random, over = Random(7), asyncio.Event()
    async with (
        connected(migrated_url) as auditing,
        connected(migrated_url) as first,
        connected(migrated_url) as second,
        connected(migrated_url) as third,
    ):
        writers = [
            asyncio.create_task(trade(DatabaseWriter(each, applies=False), Random(number), over))
            for number, each in enumerate((first, second, third))
        ]
        rows = 0
        try:
            for turn in range(_AUDITS):
                await asyncio.sleep(0.02)
                await apply_batch(auditing)
                await housekeep(auditing)
                most_rows = random.choice([10, 50, 10_000])
                verdict = await audited(auditing, USERS[turn % 2], most_rows=most_rows)
                assert verdict.differences == [], "\n".join(map(str, verdict.differences))
                rows = max(rows, verdict.rows)
        finally:
            over.set()
            await asyncio.gather(*writers)
        assert rows > 50, "nobody wrote"
        assert await auditing.fetchval("SELECT count(*) FROM guardwire.set_aside") == 0
