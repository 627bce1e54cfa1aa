"""Faults that other rules left in a database are found by an audit, and a rebuild mends them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from queries.capture import rebuild
from tests.audit.auditing import differences
from tests.queries.database_writer import DatabaseWriter

HOUR = timedelta(hours=1)


def now_on(clock: timedelta) -> datetime:
    """The time that a clock shows which is off by so much."""
    return datetime.now(UTC) + clock


async def a_row_of_the_future(writer: DatabaseWriter) -> str:
    await writer.sync(created_at=now_on(3 * HOUR), current_price=1960)
    await writer.sync(created_at=now_on(timedelta(0)), current_price=1940)
    return (
        "UPDATE guardwire.positions"
        " SET current_price = 1960, pnl = 95, pnl_pct = 0.49, state_at = now() + interval '3 hours'"
    )


async def a_clock_that_stepped(writer: DatabaseWriter) -> str:
    await writer.sync(created_at=now_on(timedelta(0)), current_price=1960)
    for price in (1941, 1942, 1943):
        await writer.sync(created_at=now_on(-HOUR), current_price=price)
    return "UPDATE guardwire.positions SET current_price = 1960, pnl = 95, pnl_pct = 0.49"


async def an_offset_that_is_not_said(writer: DatabaseWriter) -> str:
    for price in (1941, 1942, 1943):
        await writer.sync(created_at=now_on(3 * HOUR), current_price=price)
    return "UPDATE guardwire.accounts SET clock_offset_seconds = NULL"


async def a_price_that_was_forgotten(writer: DatabaseWriter) -> str:
    await writer.sync(1, current_price=1940)
    await writer.sync(2, current_price=None)
    return "UPDATE guardwire.positions SET current_price = NULL, pnl = 0, pnl_pct = 0"


async def a_level_of_zero(writer: DatabaseWriter) -> str:
    await writer.sync(1, stop_loss=0)
    return "UPDATE guardwire.positions SET stop_loss = 0"


async def a_decorated_symbol(writer: DatabaseWriter) -> str:
    await writer.sync(1, symbol="XAUUSD.m")
    return (
        "UPDATE guardwire.positions SET contract_size_assumed = true, contract_size = 1, instrument = NULL,"
        " point_value = 0.1, pnl = 0.525"
    )


async def a_position_that_does_not_match(writer: DatabaseWriter) -> str:
    await writer.sync(1, matched=2)
    return "UPDATE guardwire.positions SET is_open = false"


async def a_loop_that_was_ignored(writer: DatabaseWriter) -> str:
    await writer.sync(1, ticket=None)
    return "UPDATE guardwire.accounts SET total_syncs = 0, last_sync_at = NULL"


@pytest.mark.parametrize(
    "fault",
    [
        a_row_of_the_future, a_clock_that_stepped, an_offset_that_is_not_said, a_price_that_was_forgotten,
        a_level_of_zero, a_decorated_symbol, a_position_that_does_not_match, a_loop_that_was_ignored,
    ],
)  # fmt: skip
async def test_a_fault_is_found_and_mended(
    writer: DatabaseWriter, fault: Callable[[DatabaseWriter], Awaitable[str]]
) -> None:
    await writer.equity(10_000)
    damage = await fault(writer)
    right = await writer.state()
    assert await differences(writer.connection, writer.user_id) == []
    await writer.connection.execute(damage)
    assert await differences(writer.connection, writer.user_id) != []
    await rebuild(writer.connection, writer.user_id)
    assert await differences(writer.connection, writer.user_id) == []
    assert await writer.state() == right
