"""`guardwire rebuild` and `peak reset`, as an operator runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from queries.channels import LIVE_QUERIES
from tests.cli.conftest import applying
from tests.feed.node import sync
from tests.inbox import apply_inbox
from tests.queries.database_writer import connected

ROOT = Path(__file__).parent.parent.parent


def guardwire(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "realtime.cli", *words],
        env={"PATH": os.environ["PATH"], **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


async def state(connection: asyncpg.Connection[Any], user: UUID) -> dict[str, Any]:
    (found,) = await LIVE_QUERIES.evaluate(connection, [user])
    return found.state


@pytest.mark.parametrize(
    "words",
    [("revoke", "--token-id", "a"), ("revoke", "--list"), ("rebuild", "--user", str(UUID(int=7)))],
    ids=" ".join,
)
def test_without_a_database_the_sentence_says_what_is_missing(words: tuple[str, ...]) -> None:
    refused = guardwire(*words)
    assert refused.returncode == 2
    assert "DATABASE_URL is not set" in refused.stderr


async def test_a_rebuilt_account_shows_what_the_log_says(migrated_url: str) -> None:
    user = uuid4()
    connection = await asyncpg.connect(migrated_url)
    try:
        await sync(connection, user)
        right = await state(connection, user)
        await connection.execute("UPDATE guardwire.positions SET symbol = 'WRONG' WHERE user_id = $1", user)
        assert await state(connection, user) != right
        done = guardwire("rebuild", "--user", str(user), DATABASE_URL=migrated_url)
        assert done.returncode == 0, done.stderr
        assert (await state(connection, user))["positions"] == right["positions"]
    finally:
        await connection.close()


async def breached(connection: asyncpg.Connection[Any], user: UUID) -> None:
    """An account that has lost a quarter of its equity."""
    for equity in (10_000, 7_500):
        await connection.execute(
            "INSERT INTO equity_snapshots (user_id, equity, currency) VALUES ($1, $2, 'GBP')", user, equity
        )
    await apply_inbox(connection)
    assert (await state(connection, user))["guards"]["drawdown"]["alert_type"] == "critical"


async def test_a_reset_peak_ends_the_drawdown(migrated_url: str, tmp_path: Path) -> None:
    user = uuid4()
    async with connected(migrated_url) as connection:
        await breached(connection, user)
        with applying(migrated_url, "one", tmp_path):
            done = guardwire("peak", "reset", "--user", str(user), DATABASE_URL=migrated_url)
        assert done.returncode == 0, done.stderr
        assert "the peak counts from now on (revision " in done.stderr
        guards = (await state(connection, user))["guards"]
        assert guards["drawdown"]["alert_type"] == "normal"
        assert guards["drawdown"]["peak_equity"] == 7_500.0
        assert [breach["kind"] for breach in guards["breaches"].values() if "cleared_at" in breach] == [
            "drawdown"
        ]


async def test_without_a_node_the_peak_is_reset_later(migrated_url: str) -> None:
    user = uuid4()
    async with connected(migrated_url) as connection:
        await breached(connection, user)
        done = guardwire("peak", "reset", "--user", str(user), DATABASE_URL=migrated_url)
        assert done.returncode == 0, done.stderr
        assert "no node applied the new peak within 5 s" in done.stderr
        assert (await state(connection, user))["guards"]["drawdown"]["alert_type"] == "critical"
        await apply_inbox(connection)
        assert (await state(connection, user))["guards"]["drawdown"]["alert_type"] == "normal"
