"""LISTEN on a real PostgreSQL: change notices arrive, nonsense is ignored, and a dead connection is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from queries.migrations.run import rotate_channel
from realtime.feed.listener import INBOX_CHANNEL, NOTICE_CHANNEL, Listener, parse_notices

USER = UUID("6a4a7d1c-0c1d-4f0e-9d5f-0d7d3f4b8a01")


class RunningListener:
    """A running listener, and its calls."""

    def __init__(self, database_url: str, *, canary_seconds: float = 0.2) -> None:
        self.deltas: list[str] = []
        self.notices: list[tuple[UUID, int]] = []
        self.secrets: list[bytes] = []
        self.hearing: list[bool] = []
        self.woken = 0
        self.own_pid: int | None = None
        self.listener = Listener(
            database_url=database_url,
            on_deltas=self.deltas.append,
            on_notice=lambda user_id, revision: self.notices.append((user_id, revision)),
            on_inbox=self._wake,
            on_secret=self.secrets.append,
            on_hearing=self.hearing.append,
            is_own=lambda pid: pid == self.own_pid,
            canary_seconds=canary_seconds,
        )

    def _wake(self) -> None:
        self.woken += 1

    async def until(self, *, notices: int = 0, deltas: int = 0, hearing: bool | None = None) -> None:
        """Wait until so many notices and deltas have arrived, or until the listener receives notifications or not."""
        async with asyncio.timeout(10):
            while (
                len(self.notices) < notices
                or len(self.deltas) < deltas
                or (hearing is not None and self.hearing[-1:] != [hearing])
            ):
                await asyncio.sleep(0.01)


@pytest.fixture
async def running(migrated_url: str, connection: object) -> AsyncIterator[RunningListener]:
    running = RunningListener(migrated_url)
    task = asyncio.create_task(running.listener.run(), name="listener")
    yield running
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def notify(connection: asyncpg.Connection[Any], payload: str) -> None:
    await connection.execute("SELECT pg_notify($1, $2)", NOTICE_CHANNEL, payload)


async def terminate_listeners(connection: asyncpg.Connection[Any]) -> None:
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'guardwire listener' AND datname = current_database()"
    )


async def test_every_account_of_a_change_notice_is_reported(
    running: RunningListener, connection: asyncpg.Connection[Any]
) -> None:
    await running.until(hearing=True)
    await notify(connection, f"{USER}=7,{UUID(int=5)}=8")
    await running.until(notices=2)
    assert running.notices == [(USER, 7), (UUID(int=5), 8)]


async def test_forged_and_malformed_notifications_are_passed_over(
    running: RunningListener, connection: asyncpg.Connection[Any]
) -> None:
    await running.until(hearing=True)
    for payload in ("", "canary=forged", "nobody=1", f"{USER}=many", f"{USER}", "=,=,,", "x" * 7_000):
        await notify(connection, payload)
    await notify(connection, f"{USER}=1")
    await running.until(notices=1)
    assert running.notices == [(USER, 1)]
    assert running.hearing == [True] * len(running.hearing)


async def test_a_terminated_listener_does_not_wait_for_its_next_canary(
    migrated_url: str, connection: asyncpg.Connection[Any]
) -> None:
    running = RunningListener(migrated_url, canary_seconds=3600)
    task = asyncio.create_task(running.listener.run(), name="listener")
    await running.until(hearing=True)
    await terminate_listeners(connection)
    await running.until(hearing=False)
    await running.until(hearing=True)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_terminated_listener_says_that_it_is_deaf_and_listens_again(
    running: RunningListener, connection: asyncpg.Connection[Any]
) -> None:
    await running.until(hearing=True)
    await terminate_listeners(connection)
    await running.until(hearing=False)
    await running.until(hearing=True)
    await notify(connection, f"{USER}=9")
    await running.until(notices=1)


def test_a_notice_is_items_of_name_and_value() -> None:
    assert list(parse_notices("a=1,b=2=3,c,=4")) == [("a", "1"), ("b", "2=3"), ("", "4")]


async def test_deltas_notices_and_wake_ups_are_told_apart(
    running: RunningListener, connection: asyncpg.Connection[Any]
) -> None:
    await running.until(hearing=True)
    await connection.execute("SELECT pg_notify(delta_channel, 'mac#delta') FROM guardwire.configuration")
    await connection.execute("SELECT pg_notify($1, '')", INBOX_CHANNEL)
    await notify(connection, f"{USER}=1")
    await running.until(notices=1)
    assert running.deltas == ["mac#delta"]
    assert running.notices == [(USER, 1)]
    assert running.woken == 1
    assert running.secrets == [await connection.fetchval("SELECT delta_secret FROM guardwire.configuration")]


async def test_what_this_process_applied_itself_is_skipped(
    running: RunningListener, connection: asyncpg.Connection[Any], migrated_url: str
) -> None:
    await running.until(hearing=True)
    running.own_pid = connection.get_server_pid()
    await connection.execute("SELECT pg_notify(delta_channel, 'mac#own') FROM guardwire.configuration")
    await notify(connection, f"{USER}=1")
    other = await asyncpg.connect(migrated_url)
    await notify(other, f"{USER}=2")
    await other.close()
    await running.until(notices=1)
    assert (running.deltas, running.notices) == ([], [(USER, 2)])


async def test_a_channel_of_another_name_is_listened_to_within_one_canary(
    running: RunningListener,
    connection: asyncpg.Connection[Any],
    migrated_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await running.until(hearing=True)
    await rotate_channel(migrated_url)
    await running.until(hearing=False)
    await running.until(hearing=True)
    await connection.execute("SELECT pg_notify(delta_channel, 'mac#delta') FROM guardwire.configuration")
    await running.until(deltas=1)
    before, after = running.secrets[0], running.secrets[-1]
    assert after == await connection.fetchval("SELECT delta_secret FROM guardwire.configuration")
    assert before != after
    assert len(after) == 32
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []
