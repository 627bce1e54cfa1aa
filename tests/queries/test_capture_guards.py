"""Equity, limits, market conditions, and what time alone brings about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from queries.capture import housekeep
from tests.queries.platform import OTHER, Platform, at, connected


async def test_a_breach_is_latched_and_its_countdown_is_never_restarted(platform: Platform) -> None:
    await platform.equity(10_000, 0)
    breach = await platform.equity(7_900, 1)
    counted_to = (await platform.account())["liquidation_at"]
    await platform.equity(7_000, 2)
    assert (await platform.account())["liquidation_at"] == counted_to == at(61)
    await platform.equity(9_900, 3)
    (latched,) = await platform.rows("breaches")
    assert (latched["breach_id"], latched["raised_at"], latched["cleared_at"]) == (str(breach), at(1), at(3))
    assert latched["observed_pct"] == 21
    assert (await platform.account())["liquidation_at"] is None
    assert await platform.events() == ["drawdown_alert"]


async def test_little_equity_is_critical_at_any_peak(platform: Platform) -> None:
    await platform.equity("99.99")
    assert (await platform.account())["drawdown_level"] == "critical"


async def test_a_withdrawal_is_no_drawdown(platform: Platform) -> None:
    await platform.equity(10_000, 0)
    await platform.equity(6_000, 1, cash_flow=-4_000)
    account = await platform.account()
    assert (account["drawdown_pct"], account["peak_equity"]) == (0, 6_000)


async def test_late_equity_counts_for_the_peak_with_the_flows_since(platform: Platform) -> None:
    await platform.equity(1_000, 0)
    await platform.equity(6_000, 5, cash_flow=5_000)
    await platform.equity(1_500, 3)
    account = await platform.account()
    assert (account["equity"], account["peak_equity"]) == (6_000, 6_500)


async def test_a_late_flow_moves_what_came_after_it(platform: Platform) -> None:
    await platform.equity(1_000, 0)
    await platform.equity(3_000, 5)
    await platform.equity(2_000, 2, cash_flow=1_000)
    account = await platform.account()
    assert (account["equity_flow"], account["peak_equity"]) == (1_000, 3_000)


async def test_negative_or_unusable_equity_never_moves_the_peak(platform: Platform) -> None:
    await platform.equity(1_000, 0)
    for equity in ("NaN", "Infinity", "1e15", None):
        await platform.equity(equity, 1)
    assert (await platform.account())["ignored_rows"] == 4
    await platform.equity(-50, 2)
    account = await platform.account()
    assert (account["equity"], account["peak_equity"], account["drawdown_pct"]) == (-50, 1_000, 100)


async def test_the_peak_can_be_restarted_and_put_back(platform: Platform) -> None:
    await platform.equity(10_000, 0)
    await platform.equity(8_000, 10)
    revision = await platform.revision()
    await platform.limit(peak_since=at(5))
    account = await platform.account()
    assert (account["peak_equity"], account["drawdown_level"]) == (8_000, "normal")
    assert account["revision"] > revision
    await platform.connection.execute("DELETE FROM guard_limits")
    assert (await platform.account())["drawdown_level"] == "critical"


async def test_limits_of_an_account_without_equity_raise_its_revision_and_nothing_else(
    platform: Platform,
) -> None:
    await platform.limit(drawdown_warning_pct=1)
    account = await platform.account()
    assert account["revision"] > 0
    assert account["drawdown_level"] is None


async def test_an_append_of_equity_does_not_read_the_history(platform: Platform) -> None:
    await platform.connection.execute(
        "INSERT INTO equity_snapshots (user_id, equity, currency, created_at) "
        "SELECT $1, 1000 + n % 7, 'USD', $2::timestamptz + n * interval '1 second' "
        "FROM generate_series(1, 3000) AS n",
        platform.user,
        at(0),
    )
    await platform.equity(1000, 4000, cash_flow=5)
    before = await _equity_rows_read(platform)
    for number in range(10):
        await platform.equity(1001, 5000 + number)
        await platform.equity(1001, 100 + number)
    # Each reads itself and, when it is late, the one row with a cash flow.
    assert await _equity_rows_read(platform) - before < 100


async def _equity_rows_read(platform: Platform) -> int:
    await platform.connection.execute("SELECT pg_stat_force_next_flush()")
    read: int = await platform.connection.fetchval(
        "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'equity_snapshots'"
    )
    return read


@pytest.mark.parametrize(
    ("reason", "before", "after", "condition", "level", "pct"),
    [
        ("Weekend GAP", 100, "104.99", "price_gap", "normal", "4.99"),
        ("gap", 100, 95, "price_gap", "warning", "5.00"),
        ("gap", 100, 110, "price_gap", "critical", "10.00"),
        ("gap", 0, 110, "price_gap", "warning", None),
        ("wide spread", "99.75", "100.25", "bid_ask_spread", "normal", "0.50"),
        ("spread", "99.7", "100.3", "bid_ask_spread", "warning", "0.60"),
        ("spread", "99.5", "100.5", "bid_ask_spread", "critical", "1.00"),
        ("spread", None, 100, "bid_ask_spread", "warning", None),
        ("Low Liquidity", 1, 2, "low_liquidity", "warning", None),
        ("volcano", 1, 2, "other", "warning", None),
    ],
)
async def test_a_market_condition_is_as_serious_as_the_limits_say(
    platform: Platform, reason: str, before: Any, after: Any, condition: str, level: str, pct: str | None
) -> None:
    await platform.guard(reason, before, after)
    (alert,) = await platform.rows("market_alerts")
    assert (alert["condition_type"], alert["alert_type"]) == (condition, level)
    observed = alert["gap_pct"] if condition == "price_gap" else alert["spread_pct"]
    assert observed == (None if pct is None else Decimal(pct))
    assert len(await platform.rows("breaches")) == (level == "critical")


async def test_the_latest_alert_of_a_symbol_and_condition_replaces_the_one_before(platform: Platform) -> None:
    now = datetime.now(UTC)
    await platform.guard("gap", 100, 120, created_at=now)
    await platform.guard("gap", 100, 130, created_at=now - timedelta(seconds=9))
    await platform.guard("gap", 100, 120, symbol="EURUSD", created_at=now)
    await platform.guard("gap", 100, 120, symbol=None, created_at=now)
    alerts = await platform.rows("market_alerts", "symbol")
    assert [(each["symbol"], each["gap_pct"]) for each in alerts] == [
        ("*", 20),
        ("EURUSD", 20),
        ("XAUUSD", 20),
    ]
    await platform.guard("gap", 100, 101, created_at=now + timedelta(seconds=1))
    cleared = [each["symbol"] for each in await platform.rows("breaches") if each["cleared_at"]]
    assert cleared == ["XAUUSD"]


async def test_housekeeping_does_not_wait_for_writers(platform: Platform, migrated_url: str) -> None:
    await platform.sync()
    await Platform(platform.connection, OTHER).sync()
    await platform.connection.execute(
        "UPDATE guardwire.accounts SET sync_due_at = clock_timestamp(), "
        "last_sync_arrived_at = clock_timestamp() - interval '1 hour'"
    )
    async with connected(migrated_url) as writer, writer.transaction():
        await writer.execute("SELECT FROM guardwire.accounts WHERE user_id = $1 FOR UPDATE", OTHER)
        assert (await housekeep(platform.connection)).fell_silent == 1
    assert (await housekeep(platform.connection)).fell_silent == 1


async def test_housekeeping_forgets_what_woke_the_capture_and_what_is_old(platform: Platform) -> None:
    await platform.sync()
    await platform.sync(None)
    await platform.connection.execute(
        "UPDATE guardwire.arrivals SET revision = revision - 49 * 3600 * 1000000::bigint"
    )
    await platform.connection.execute(
        "UPDATE guardwire.ignored_rows SET noted_at = noted_at - interval '49 hours'"
    )
    await platform.sync(8)
    await housekeep(platform.connection)
    await platform.connection.execute("SELECT guardwire.prune(100)")
    counts = await platform.connection.fetchrow(
        "SELECT (SELECT count(*) FROM guardwire.pending), (SELECT count(*) FROM guardwire.arrivals), "
        "(SELECT count(*) FROM guardwire.ignored_rows)"
    )
    assert tuple(counts) == (0, 1, 0)


async def test_of_breaches_the_newest_twenty_and_those_of_the_last_hour_are_kept(platform: Platform) -> None:
    await platform.equity(10_000, 0)
    for number in range(22):
        await platform.equity(7_000, 2 * number + 1)
        await platform.equity(10_000, 2 * number + 2)
    old = await platform.rows("breaches", "raised_at")
    assert (len(old), old[0]["raised_at"]) == (20, at(5))
    now = datetime.now(UTC)
    for number in range(25):
        await platform.guard("gap", 100, 120, symbol=f"S{number}", created_at=now)
    assert len(await platform.rows("breaches")) == 25
