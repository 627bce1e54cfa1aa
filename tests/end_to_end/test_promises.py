"""The promises to every client, on a healthy server."""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import pytest

from realtime.audit.history import Limits
from tests.end_to_end import tables
from tests.end_to_end.mirror import Mirror, mirror
from tests.end_to_end.node import Node, node
from tests.end_to_end.ordinary import equity, price, row
from tests.inbox import wait_for_empty_inbox

#: "Well under a second", on a machine with other work.
SOON_SECONDS: Final = 0.5
HISTORY_ROWS: Final = 8_000


@pytest.fixture
async def server(migrated_url: str, redis_url: str) -> AsyncIterator[Node]:
    async with node(migrated_url, redis_url, heartbeat_seconds=0.25) as server:
        yield server


@pytest.fixture
async def platform(migrated_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(migrated_url)
    yield connection
    await connection.close()


async def test_a_row_of_a_connected_user_is_on_the_wire_at_once_and_another_users_is_not(
    server: Node, platform: Any
) -> None:
    mine, other = uuid4(), uuid4()
    async with mirror(server.url, server.token(mine)) as account:
        took = []
        for _ in range(10):
            await tables.insert(platform, row(other, symbol="SECRET"))
            took.append(await _seconds_until_shown(platform, account, mine))
        assert statistics.median(took) < SOON_SECONDS
        assert not any(
            "SECRET" in received.text or str(other) in received.text for received in account.frames
        )


async def test_several_rows_of_one_commit_arrive_as_one_consistent_cut(server: Node, platform: Any) -> None:
    user_id = uuid4()
    async with mirror(server.url, server.token(user_id)) as account:
        async with platform.transaction():
            await tables.insert(platform, equity(user_id, 10_000), row(user_id), equity(user_id, 7_000))
        await account.until(lambda: account.state["guards"]["drawdown"]["should_close_all"])
        (update,) = account.frames_of("update")
        assert update["patch"].keys() == {"status", "positions", "guards"}


async def test_eight_thousand_rows_of_history_change_nothing_in_what_is_shown_nor_in_how_fast(
    server: Node, platform: Any
) -> None:
    veteran, novice = uuid4(), uuid4()
    await _give_history(platform, veteran)
    await wait_for_empty_inbox(platform, timeout_seconds=60)
    for user_id in (veteran, novice):
        await tables.insert(platform, row(user_id, ticket=7), equity(user_id, 10_000))
    shown = {}
    for user_id in (veteran, novice):
        async with mirror(server.url, server.token(user_id)) as account:
            took = [await _seconds_until_shown(platform, account, user_id, ticket=7) for _ in range(10)]
            assert statistics.median(took) < SOON_SECONDS
            shown[user_id] = account.state
    assert (
        shown[veteran]["status"].pop("total_syncs")
        == shown[novice]["status"].pop("total_syncs") + HISTORY_ROWS / 2
    )
    assert _without_ids_and_times(shown[veteran]) == _without_ids_and_times(shown[novice])


async def test_with_nothing_changed_only_heartbeats_are_sent(server: Node, platform: Any) -> None:
    user_id = uuid4()
    await tables.insert(platform, row(user_id), equity(user_id, 10_000))
    await wait_for_empty_inbox(platform)
    async with mirror(server.url, server.token(user_id)) as account:
        revision, seen = account.revision, len(account.frames)
        await tables.insert(platform, row(uuid4()), row(uuid4()))
        await account.until(lambda: len(account.frames) >= seen + 6)
        later = [received.frame for received in account.frames[seen:]]
        assert {(frame["type"], frame["base"], frame["revision"]) for frame in later} == {
            ("heartbeat", revision, revision)
        }
        assert not any(frame["stale"] for frame in later)


async def test_a_breach_that_came_and_went_is_still_seen(server: Node, platform: Any) -> None:
    user_id = uuid4()
    await tables.insert(platform, equity(user_id, 10_000))
    now = datetime.now(UTC)
    breach = equity(user_id, 7_900, created_at=now)
    recovery = equity(user_id, 9_900, created_at=now + timedelta(milliseconds=1))
    async with mirror(server.url, server.token(user_id)) as account:
        async with platform.transaction():
            await tables.insert(platform, breach, recovery)
        await account.until(lambda: account.state["guards"]["breaches"])
        latched = account.state["guards"]["breaches"][breach.id]
        assert (latched["kind"], latched["observed_pct"]) == ("drawdown", 21.0)
        assert latched["cleared_at"] > latched["raised_at"]
        assert account.state["guards"]["drawdown"]["alert_type"] == "normal"


async def test_the_end_of_an_alert_is_pushed(server: Node, platform: Any) -> None:
    user_id = uuid4()
    await tables.set_limits(platform, Limits(user_id=user_id, alert_window_seconds=2))
    async with mirror(server.url, server.token(user_id)) as account:
        gap = {"event_type": "guard_trigger", "divergence_reason": "gap", "ticket": None}
        await tables.insert(platform, row(user_id, "120", entry_price=Decimal(100), **gap))
        await account.until(lambda: account.state["guards"]["alerts"])
        assert account.state["guards"]["any_positions_should_close"]
        raised = account.revision
        await account.until(lambda: not account.state["guards"]["alerts"], seconds=10)
        assert account.revision > raised
        assert account.state["guards"]["system_status"] == "unknown"
        (breach,) = account.state["guards"]["breaches"].values()
        assert datetime.fromisoformat(breach["cleared_at"]) - datetime.fromisoformat(
            breach["raised_at"]
        ) == timedelta(seconds=2)


async def test_a_platform_that_stops_syncing_is_called_silent(server: Node, platform: Any) -> None:
    user_id = uuid4()
    await tables.set_limits(platform, Limits(user_id=user_id, sync_overdue_seconds=1))
    async with mirror(server.url, server.token(user_id)) as account:
        await tables.insert(platform, row(user_id))
        await account.until(lambda: account.state["status"]["source"] == "live")
        await account.until(lambda: account.state["status"]["source"] == "silent", seconds=10)
        await tables.insert(platform, row(user_id))
        await account.until(lambda: account.state["status"]["source"] == "live")


async def _seconds_until_shown(platform: Any, account: Mirror, user_id: UUID, *, ticket: int = 1) -> float:
    """Move a price, and measure from before the statement until the mirror shows it."""
    moved = (price(account, str(ticket)) or 1950.0) + 0.25
    began = time.monotonic()
    await tables.insert(platform, row(user_id, str(moved), ticket=ticket))
    await account.until(lambda: price(account, str(ticket)) == moved, seconds=2)
    return time.monotonic() - began


async def _give_history(platform: Any, user_id: UUID) -> None:
    """Years of positions that were opened and closed."""
    await platform.execute(
        """INSERT INTO reconciliation_logs (user_id, mt5_position_id, symbol, direction, volume, entry_price,
                                            current_price, matched, event_type, close_reason, created_at)
           SELECT $1, 1000 + n / 2, 'EURUSD', 'buy', 1, 1.08, 1.09, 1,
                  CASE n % 2 WHEN 0 THEN 'sync' ELSE 'close' END, CASE n % 2 WHEN 1 THEN 'manual' END,
                  now() - interval '300 days' + n * interval '10 minutes'
           FROM generate_series(0, $2::integer - 1) AS n""",
        user_id,
        HISTORY_ROWS,
    )


def _without_ids_and_times(value: Any) -> Any:
    """The common part of the states of two accounts with the same trades."""
    if isinstance(value, dict):
        kept = {key: each for key, each in value.items() if not key.endswith(("_at", "_time", "_id", "_ms"))}
        if "recent_events" in kept:
            kept["recent_events"] = None
        return {key: _without_ids_and_times(each) for key, each in kept.items()}
    return value
