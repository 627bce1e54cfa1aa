"""NOTIFY: a hint in the writer's transaction that always fits, and can be done without."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID, uuid4

from queries.migrations.run import migrate
from tests.queries.conftest import Connect
from tests.queries.ears import Ears
from tests.queries.ledger import Ledger

#: PostgreSQL refuses payloads of 8,000 bytes, and with them the commit.
LIMIT_BYTES = 8000


async def hints(listener: Any, act: Any, ledger: Ledger) -> list[str]:
    """Payloads that ``act`` causes, in order, whether they tell or hint."""
    ears = await Ears.open(listener)
    await act()
    return [heard.payload for heard in await ears.all(ledger.connection)]


async def write_for(ledger: Ledger, users: list[UUID]) -> None:
    await ledger.connection.execute(
        """INSERT INTO reconciliation_logs (user_id, mt5_position_id, event_type, matched)
           SELECT unnest($1::uuid[]), 1, 'sync', 1""",
        users,
    )


async def test_a_commit_says_which_accounts_moved_and_where_to(
    ledger: Ledger, connect: Connect, user: UUID
) -> None:
    for ticket in range(3):
        log = partial(ledger.log, user, mt5_position_id=ticket + 1)
        (payload,) = await hints(await connect(), log, ledger)
        assert payload == f"{user}={await ledger.revision(user)}"


async def test_a_thousand_accounts_in_one_transaction_fit_their_payloads(
    ledger: Ledger, connect: Connect
) -> None:
    users = [uuid4() for _ in range(1000)]
    payloads = await hints(await connect(), lambda: write_for(ledger, users), ledger)
    assert max(len(payload.encode()) for payload in payloads) < LIMIT_BYTES
    pairs = dict(pair.split("=") for payload in payloads for pair in payload.split(","))
    assert {UUID(user): int(revision) for user, revision in pairs.items()} == await ledger.revisions()
    assert len(pairs) == 1000


async def test_what_is_rolled_back_is_not_hinted_at(ledger: Ledger, connect: Connect, user: UUID) -> None:
    async def roll_back() -> None:
        transaction = ledger.connection.transaction()
        await transaction.start()
        await ledger.log(user)
        await transaction.rollback()

    assert await hints(await connect(), roll_back, ledger) == []


async def test_without_notify_nothing_is_sent_and_everything_captured(
    ledger: Ledger, connect: Connect, user: UUID, migrated_url: str
) -> None:
    await migrate(migrated_url, notify=False)
    for second in range(3):
        assert await hints(await connect(), partial(ledger.log, user, second), ledger) == []
    assert (await ledger.state(user))["status"]["total_syncs"] == 3
    await migrate(migrated_url, notify=True)
    assert len(await hints(await connect(), lambda: ledger.log(user, 9), ledger)) == 1
    await migrate(migrated_url)
    assert len(await hints(await connect(), lambda: ledger.log(user, 10), ledger)) == 1


async def test_while_the_queue_of_notifications_is_half_full_none_is_sent(
    ledger: Ledger, connect: Connect, user: UUID
) -> None:
    # The queue belongs to the whole server, and takes minutes to fill: what measures it is replaced.
    definitions = await ledger.connection.fetch(
        """SELECT pg_get_functiondef(p.oid) AS definition FROM pg_proc AS p
           WHERE p.pronamespace = 'guardwire'::regnamespace
             AND p.prosrc LIKE '%pg_notification_queue_usage%'"""
    )
    assert definitions
    await ledger.connection.execute(
        "CREATE FUNCTION guardwire.usage() RETURNS float8 LANGUAGE sql AS 'SELECT 0.5::float8'"
    )
    for row in definitions:
        await ledger.connection.execute(
            row["definition"].replace("pg_notification_queue_usage()", "guardwire.usage()")
        )
    for second in range(3):
        assert await hints(await connect(), partial(ledger.log, user, second), ledger) == []
    assert list(await ledger.book(user)) == ["1"]
    await ledger.connection.execute(
        "CREATE OR REPLACE FUNCTION guardwire.usage() RETURNS float8 LANGUAGE sql AS 'SELECT 0.49::float8'"
    )
    assert len(await hints(await connect(), lambda: ledger.log(user, 9), ledger)) == 1
