"""`guardwire apply`: processes that only apply rows, and the change to another one when a process ends."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.audit.auditing import audited
from tests.cli.conftest import Guardwire, applying
from tests.databases import Databases
from tests.feed.node import sync
from tests.inbox import wait_for_empty_inbox
from tests.queries.database_writer import connected
from tests.waiting import wait_until

#: OPERATIONS.md promises 3 s; a busy machine may take longer.
TAKEN_OVER_SECONDS = 20.0


@pytest.fixture
async def connection(migrated_url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    async with connected(migrated_url) as connection:
        yield connection


async def until_held(
    connection: asyncpg.Connection[Any], *, by: set[str], seconds: float = TAKEN_OVER_SECONDS
) -> str:
    """Wait until one of these processes holds the lease; returns its name."""
    async with asyncio.timeout(seconds):
        while True:
            holder: str | None = await connection.fetchval(
                "SELECT holder FROM guardwire.applier WHERE held_until > clock_timestamp()"
            )
            if holder in by:
                return holder
            await asyncio.sleep(0.05)


async def shows(connection: asyncpg.Connection[Any], user: UUID, rows: int) -> None:
    """Wait until all rows are applied, each of them once, and assert that the account agrees with its log."""
    await wait_for_empty_inbox(connection, timeout_seconds=TAKEN_OVER_SECONDS)
    applied = await connection.fetch("SELECT log_id FROM guardwire.arrivals WHERE user_id = $1", user)
    assert len(applied) == len(set(applied)) == rows
    verdict = await audited(connection, user)
    assert verdict.differences == []


def has_noticed(log: str) -> bool:
    """Whether a process logged that its lease is over, or that its connection was ended."""
    return "another process is the applier now" in log or "the applier waits for the database" in log


@pytest.mark.parametrize("ends_by", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
async def test_one_of_two_processes_applies_and_the_other_replaces_it(
    migrated_url: str, connection: asyncpg.Connection[Any], tmp_path: Path, ends_by: signal.Signals
) -> None:
    user = uuid4()
    with contextlib.ExitStack() as stack:
        processes = {
            name: stack.enter_context(applying(migrated_url, name, tmp_path)) for name in ("one", "two")
        }
        first = await until_held(connection, by=set(processes))
        await sync(connection, user, is_applied=False)
        await shows(connection, user, 1)
        processes[first].send_signal(ends_by)
        await sync(connection, user, price=1960, is_applied=False)
        second = await until_held(connection, by=set(processes) - {first})
        await shows(connection, user, 2)
        if ends_by == signal.SIGSTOP:
            # The term of this process is over, so it only competes for the next one.
            processes[first].send_signal(signal.SIGCONT)
            log = tmp_path / f"{first}.log"
            wait_until(lambda: has_noticed(log.read_text("utf-8")), seconds=TAKEN_OVER_SECONDS)
        if ends_by == signal.SIGTERM:
            assert processes[first].wait(10) == 0
        for price in range(1961, 1971):
            await sync(connection, user, price=price, is_applied=False)
        await shows(connection, user, 12)
        assert await until_held(connection, by=set(processes)) == second


async def test_it_gives_the_lease_back_when_it_is_ended_amid_its_work(
    migrated_url: str, connection: asyncpg.Connection[Any], tmp_path: Path
) -> None:
    users = [uuid4() for _ in range(20)]
    with applying(migrated_url, "one", tmp_path) as process:
        await until_held(connection, by={"one"})
        await connection.execute(
            "INSERT INTO reconciliation_logs (user_id, mt5_position_id, symbol, event_type, current_price)"
            " SELECT u, ticket, 'XAUUSD', 'sync', 1950 FROM unnest($1::uuid[]) AS u,"
            " generate_series(1, 500) AS ticket",
            users,
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert await connection.fetchval("SELECT holder FROM guardwire.applier") is None
    with applying(migrated_url, "two", tmp_path):
        await shows(connection, users[0], 500)


def test_without_a_database_the_sentence_says_what_is_missing(guardwire: Guardwire) -> None:
    refused = guardwire("apply")
    assert refused.returncode == 2
    assert "DATABASE_URL is not set" in refused.stderr


def test_a_database_that_was_never_migrated_is_a_sentence(guardwire: Guardwire, database_url: str) -> None:
    refused = guardwire("apply", DATABASE_URL=database_url)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "`guardwire migrate` does that" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_login_without_the_rights_is_a_sentence(
    guardwire: Guardwire, databases: Databases, migrated_url: str
) -> None:
    name = f"stranger_{secrets.token_hex(4)}"
    databases.run(databases.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'"))
    try:
        parts = urlsplit(migrated_url)
        url = urlunsplit(parts._replace(netloc=f"{name}:x@{parts.netloc.rpartition('@')[2]}"))
        refused = guardwire("apply", DATABASE_URL=url)
    finally:
        databases.run(databases.execute(f"DROP ROLE {name}"))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "GRANT guardwire_server" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
