"""The simulator on a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from realtime.simulator import Orders, SimulatorOptions, demo_user_id, simulate
from tests.inbox import apply_inbox
from tests.machine import slowness

BRIEF = SimulatorOptions(seconds=1.5, rows_per_second=100)


@pytest.fixture
async def platform(migrated_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(migrated_url)
    yield connection
    await connection.close()


async def test_the_report_agrees_with_the_tables(migrated_url: str, platform: Any) -> None:
    report = await simulate(migrated_url, BRIEF)
    assert await platform.fetchval("SELECT count(*) FROM reconciliation_logs") == report.log_rows == 24 + 150
    assert await platform.fetchval("SELECT count(*) FROM equity_snapshots") == report.equity_rows
    assert await platform.fetchval("SELECT count(*) FROM fx_rates") == report.fx_rows
    assert report.rows_per_second == pytest.approx(150 / report.seconds)


async def test_rows_are_not_written_before_their_time_and_all_are_written(migrated_url: str) -> None:
    options = SimulatorOptions(users=100, rows_per_second=1000, seconds=2)
    report = await simulate(migrated_url, options)
    assert report.paced_rows == 2000
    assert 2 <= report.seconds < 4 * slowness()


async def test_the_positions_of_the_database_are_those_of_the_platform(
    migrated_url: str, platform: Any
) -> None:
    await simulate(migrated_url, replace(BRIEF, closes=2_000, updates_in_place=0.5, divergences=2_000))
    await apply_inbox(platform)
    log = await platform.fetch(
        """SELECT user_id, mt5_position_id FROM reconciliation_logs
           WHERE mt5_position_id IS NOT NULL GROUP BY 1, 2
           HAVING count(*) FILTER (WHERE close_reason IS NOT NULL) = 0"""
    )
    shown = await platform.fetch("SELECT user_id, ticket FROM guardwire.positions WHERE is_open")
    assert sorted(map(tuple, log)) == sorted(map(tuple, shown))


async def test_a_platform_that_runs_again_closes_its_old_positions_first(
    migrated_url: str, platform: Any
) -> None:
    user_id = demo_user_id(0)
    await simulate(migrated_url, BRIEF)
    await apply_inbox(platform)
    equity = await platform.fetchval("SELECT equity FROM guardwire.accounts WHERE user_id = $1", user_id)
    await simulate(migrated_url, BRIEF)
    await apply_inbox(platform)
    rows = await platform.fetch("SELECT ticket, is_open FROM guardwire.positions WHERE user_id = $1", user_id)
    before = [ticket for ticket, is_open in rows if not is_open]
    now = [ticket for ticket, is_open in rows if is_open]
    assert (len(before), len(now)) == (8, 8)
    assert max(before) < min(now)
    balance = await platform.fetchval("SELECT balance FROM guardwire.accounts WHERE user_id = $1", user_id)
    assert float(balance) == pytest.approx(float(equity), rel=0.02)


async def test_a_platform_that_runs_again_reports_that_wide_spreads_are_over(
    migrated_url: str, platform: Any
) -> None:
    critical = "SELECT count(*) FROM guardwire.market_alerts WHERE alert_type = 'critical'"
    orders = Orders()
    orders.widen_spread()
    await simulate(migrated_url, replace(BRIEF, users=1), orders=orders)
    await apply_inbox(platform)
    assert await platform.fetchval(critical) == 1
    await simulate(migrated_url, replace(BRIEF, users=1))
    await apply_inbox(platform)
    assert await platform.fetchval(critical) == 0


async def test_late_commits_several_writers_and_odd_rows_never_stop_it(migrated_url: str) -> None:
    report = await simulate(
        migrated_url,
        replace(BRIEF, odd_rows=0.5, late_commits=0.3, late_commit_seconds=0.5, writers=3, rows_per_commit=4),
    )
    assert report.paced_rows == 150
    assert report.odd_rows > 40


async def test_it_stops_on_its_event(migrated_url: str) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(simulate(migrated_url, SimulatorOptions(), stop=stop))
    stop.set()
    report = await asyncio.wait_for(running, 5 * slowness())
    assert report.log_rows >= 24
