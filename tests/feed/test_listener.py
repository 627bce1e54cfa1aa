"""LISTEN on a real PostgreSQL: hints are heard, nonsense is not, and a dead connection is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from queries.migrations.run import rotate_channel
from realtime.feed.listener import NOTIFY_CHANNEL, Listener, parse_payload

USER = UUID("6a4a7d1c-0c1d-4f0e-9d5f-0d7d3f4b8a01")


class Ears:
    """A running listener and what it reported."""

    def __init__(self, database_url: str, *, canary_seconds: float = 0.2) -> None:
        self.told: list[tuple[str, bytes]] = []
        self.hints: list[tuple[UUID, int]] = []
        self.hearing: list[bool] = []
        self.listener = Listener(
            database_url=database_url,
            on_told=lambda payload, secret: self.told.append((payload, secret)),
            on_hint=lambda user_id, revision: self.hints.append((user_id, revision)),
            on_hearing=self.hearing.append,
            canary_seconds=canary_seconds,
        )

    async def until(self, *, hints: int = 0, hearing: bool | None = None) -> None:
        """Wait until so many hints were heard, or until hearing is so."""
        async with asyncio.timeout(10):
            while len(self.hints) < hints or (hearing is not None and self.hearing[-1:] != [hearing]):
                await asyncio.sleep(0.01)


@pytest.fixture
async def ears(migrated_url: str, connection: object) -> AsyncIterator[Ears]:
    ears = Ears(migrated_url)
    task = asyncio.create_task(ears.listener.run(), name="listener")
    yield ears
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def notify(connection: asyncpg.Connection[Any], payload: str) -> None:
    await connection.execute("SELECT pg_notify($1, $2)", NOTIFY_CHANNEL, payload)


async def terminate_listeners(connection: asyncpg.Connection[Any]) -> None:
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'guardwire listener' AND datname = current_database()"
    )


async def test_every_account_of_a_notification_is_a_hint(
    ears: Ears, connection: asyncpg.Connection[Any]
) -> None:
    await ears.until(hearing=True)
    await notify(connection, f"{USER}=7,{UUID(int=5)}=8")
    await ears.until(hints=2)
    assert ears.hints == [(USER, 7), (UUID(int=5), 8)]


async def test_forged_and_malformed_notifications_are_passed_over(
    ears: Ears, connection: asyncpg.Connection[Any]
) -> None:
    await ears.until(hearing=True)
    for payload in ("", "canary=forged", "nobody=1", f"{USER}=many", f"{USER}", "=,=,,", "x" * 7_000):
        await notify(connection, payload)
    await notify(connection, f"{USER}=1")
    await ears.until(hints=1)
    assert ears.hints == [(USER, 1)]
    assert ears.hearing == [True] * len(ears.hearing)


async def test_a_terminated_listener_does_not_wait_for_its_next_canary(
    migrated_url: str, connection: asyncpg.Connection[Any]
) -> None:
    ears = Ears(migrated_url, canary_seconds=3600)
    task = asyncio.create_task(ears.listener.run(), name="listener")
    await ears.until(hearing=True)
    await terminate_listeners(connection)
    await ears.until(hearing=False)
    await ears.until(hearing=True)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_terminated_listener_says_that_it_is_deaf_and_listens_again(
    ears: Ears, connection: asyncpg.Connection[Any]
) -> None:
    await ears.until(hearing=True)
    await terminate_listeners(connection)
    await ears.until(hearing=False)
    await ears.until(hearing=True)
    await notify(connection, f"{USER}=9")
    await ears.until(hints=1)


def test_a_payload_is_items_of_name_and_value() -> None:
    assert list(parse_payload("a=1,b=2=3,c,=4")) == [("a", "1"), ("b", "2=3"), ("", "4")]


async def test_what_commits_tell_is_heard_apart_from_hints(
    ears: Ears, connection: asyncpg.Connection[Any]
) -> None:
    await ears.until(hearing=True)
    await connection.execute("SELECT pg_notify(told_channel, 'told') FROM guardwire.configuration")
    await notify(connection, f"{USER}=1")
    await ears.until(hints=1)
    secret = await connection.fetchval("SELECT told_secret FROM guardwire.configuration")
    assert ears.told == [("told", secret)]
    assert ears.hints == [(USER, 1)]


async def test_a_channel_of_another_name_is_listened_to_within_one_canary(
    ears: Ears, connection: asyncpg.Connection[Any], migrated_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await ears.until(hearing=True)
    before = await connection.fetchrow("SELECT told_channel, told_secret FROM guardwire.configuration")
    await rotate_channel(migrated_url)
    await ears.until(hearing=False)
    await ears.until(hearing=True)
    await connection.execute("SELECT pg_notify(told_channel, 'told') FROM guardwire.configuration")
    async with asyncio.timeout(10):
        while not ears.told:
            await asyncio.sleep(0.01)
    after = await connection.fetchrow("SELECT told_channel, told_secret FROM guardwire.configuration")
    assert ears.told == [("told", after["told_secret"])]
    assert not set(before) & set(after)
    assert len(after["told_secret"]) == 32
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []
