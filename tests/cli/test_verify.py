"""`guardwire verify` and `rebuild`, as an operator runs them."""

from __future__ import annotations

from uuid import UUID, uuid4

import asyncpg

from tests.cli.conftest import Guardwire
from tests.feed.node import sync
from tests.inbox import apply_inbox
from tests.queries.database_writer import connected

WRONG = "UPDATE guardwire.positions SET symbol = 'WRONG' WHERE user_id = $1"


async def tampered(connection: asyncpg.Connection[None], users: list[UUID]) -> UUID:
    """Change the first account, and write past a trigger for the second and for a new one; returns the new id."""
    newcomer = uuid4()
    await connection.execute(WRONG, users[0])
    await connection.execute("ALTER TABLE reconciliation_logs DISABLE TRIGGER guardwire_copy")
    await sync(connection, users[1], ticket=8)
    await sync(connection, newcomer)
    return newcomer


async def test_differences_are_lines_and_an_exit_code_until_all_is_rebuilt(
    guardwire: Guardwire, migrated_url: str
) -> None:
    users = [uuid4() for _ in range(3)]
    async with connected(migrated_url) as connection:
        for user in users:
            await sync(connection, user)
        await apply_inbox(connection)
        clean = guardwire("verify", DATABASE_URL=migrated_url)
        assert (clean.returncode, clean.stdout) == (0, "")
        assert "3 accounts, 3 rows" in clean.stderr
        assert "0 different" in clean.stderr

        newcomer = await tampered(connection, users)
        found = guardwire("verify", "--all", DATABASE_URL=migrated_url)
        assert found.returncode == 1
        assert f"{users[0]} positions/open/7/symbol: should be 'XAUUSD' and is 'WRONG'" in found.stdout
        assert f"{users[1]} positions/open/8: should be there and is nothing" in found.stdout
        assert f"{users[1]} rows written past the triggers: 1" in found.stdout
        assert f"{newcomer} positions/open/7: should be there and is nothing" in found.stdout
        assert "trigger guardwire_copy on public.reconciliation_logs is disabled" in found.stdout
        assert "`guardwire migrate`" in found.stdout
        assert str(users[2]) not in found.stdout
        assert "3 different" in found.stderr
        assert "guardwire rebuild" in found.stderr

        one = guardwire("verify", "--user", str(users[2]), DATABASE_URL=migrated_url)
        assert one.stdout.count("\n") == 1, "the trigger alone"

        assert guardwire("migrate", DATABASE_URL=migrated_url).returncode == 0
        rebuilt = guardwire("rebuild", DATABASE_URL=migrated_url)
        assert rebuilt.returncode == 0, rebuilt.stderr
        assert "4 accounts rebuilt" in rebuilt.stderr
        clean = guardwire("verify", DATABASE_URL=migrated_url)
        assert (clean.returncode, clean.stdout) == (0, ""), clean.stdout


async def test_only_the_newest_rows_are_read_when_that_is_asked_for(
    guardwire: Guardwire, migrated_url: str
) -> None:
    async with connected(migrated_url) as connection:
        user = uuid4()
        for price in range(1900, 1910):
            await sync(connection, user, price=price)
        await apply_inbox(connection)
    done = guardwire("verify", "--rows", "4", "--doubts", DATABASE_URL=migrated_url)
    assert done.returncode == 0, done.stdout
    assert "of 1 only the newest rows were read" in done.stderr
    assert "in doubt: status/total_syncs: should be 4 and is 10" in done.stdout


def test_a_database_that_was_never_migrated_is_a_sentence(guardwire: Guardwire, database_url: str) -> None:
    refused = guardwire("verify", DATABASE_URL=database_url)
    assert refused.returncode == 1
    assert "`guardwire migrate` does that" in refused.stderr


def test_one_account_or_all_of_them(guardwire: Guardwire, database_url: str) -> None:
    refused = guardwire("verify", "--all", "--user", str(uuid4()), DATABASE_URL=database_url)
    assert refused.returncode == 2
    assert "Either one account" in refused.stderr
