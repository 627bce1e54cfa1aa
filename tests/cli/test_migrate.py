"""`guardwire migrate` and `guardwire simulate`, on a database that was empty before."""

from __future__ import annotations

import asyncpg
import pytest

from tests.cli.conftest import Guardwire
from tests.inbox import apply_inbox


async def test_an_empty_database_becomes_one_that_a_platform_can_write_to(
    guardwire: Guardwire, database_url: str
) -> None:
    for _ in ("made", "left as it is"):
        done = guardwire("migrate", DATABASE_URL=database_url)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert "up to date" in done.stderr
    done = guardwire("simulate", "--users", "2", "--rate", "50", "--seconds", "1", DATABASE_URL=database_url)
    assert done.returncode == 0, done.stderr
    connection = await asyncpg.connect(database_url)
    try:
        users = await connection.fetchval("SELECT count(DISTINCT user_id) FROM reconciliation_logs")
        assert users == 2
        await apply_inbox(connection)
        assert await connection.fetchval("SELECT count(*) FROM guardwire.accounts WHERE revision > 0") == 2
    finally:
        await connection.close()


async def test_whether_commits_notify_is_set_and_then_kept(guardwire: Guardwire, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        for option, notifies in ((("--no-notify",), False), ((), False), (("--notify",), True)):
            assert guardwire("migrate", *option, DATABASE_URL=database_url).returncode == 0
            assert await connection.fetchval("SELECT notify FROM guardwire.configuration") is notifies
    finally:
        await connection.close()


@pytest.mark.parametrize("name", ["migrate", "simulate"])
def test_without_a_database_nothing_is_done(guardwire: Guardwire, name: str) -> None:
    done = guardwire(name)
    assert done.returncode == 2
    assert "DATABASE_URL is not set" in done.stderr


def test_a_database_that_cannot_be_reached_is_one_sentence_without_its_password(guardwire: Guardwire) -> None:
    for name in ("migrate", "simulate"):
        done = guardwire(name, DATABASE_URL="postgresql://me:hidden-word@127.0.0.1:9/none")
        assert done.returncode == 1
        assert "127.0.0.1:9" in done.stderr
        assert "hidden-word" not in done.stderr
        assert len(done.stderr.splitlines()) == 1
