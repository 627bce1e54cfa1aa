"""Equity is sometimes read from the platform's table, which is ahead of the rows that are applied."""

from __future__ import annotations

import asyncio

import pytest

from queries.capture import rebuild
from tests.inbox import apply_batch, apply_inbox
from tests.queries.conftest import Connect
from tests.queries.database_writer import DatabaseWriter

#: Reading the rows that wait takes until nobody holds advisory lock 1 any more.
SLOW = """
ALTER FUNCTION guardwire.waiting_rows(uuid, "char", guardwire.inbox[], bigint) RENAME TO read_waiting_rows;
CREATE FUNCTION guardwire.waiting_rows(of_account uuid, of_source "char", batch guardwire.inbox[], after_nth bigint)
RETURNS TABLE (id uuid, old_row jsonb) LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY SELECT * FROM guardwire.read_waiting_rows(of_account, of_source, batch, after_nth);
    PERFORM pg_advisory_xact_lock(1);
END
$$;
"""


@pytest.fixture
async def writer(writer: DatabaseWriter) -> DatabaseWriter:
    """Writes to an account whose equity was 10,000 at second 10; rows wait from then on."""
    await writer.equity(10_000, 10)
    writer.applies = False
    return writer


@pytest.mark.parametrize("cause", ["a correction", "a peak reset"])
async def test_a_row_that_is_committed_while_equity_is_read_counts_once(
    writer: DatabaseWriter, connect: Connect, cause: str
) -> None:
    await writer.connection.execute(SLOW)
    if cause == "a correction":
        await writer.execute("UPDATE equity_snapshots SET equity = 9900")
    else:
        await writer.set_limits(peak_since=writer.at(8))
    applying = await connect()
    await writer.connection.execute("SELECT pg_advisory_lock(1)")
    applier = asyncio.create_task(apply_inbox(applying))
    async with asyncio.timeout(10):
        while not await writer.connection.fetchval(
            "SELECT pg_blocking_pids($1) <> '{}'", applying.get_server_pid()
        ):
            await asyncio.sleep(0.005)
    await writer.equity(5_000, 20, cash_flow=-5_000)
    await writer.connection.execute("SELECT pg_advisory_unlock(1)")
    await applier
    await writer.apply()
    account = await writer.account()
    assert (account["equity"], account["peak_equity"]) == (5_000, 5_000)


async def test_a_row_whose_change_waits_counts_as_it_was_applied(writer: DatabaseWriter) -> None:
    """The row stands corrected in the table before its correction is applied."""
    latest = await writer.equity(7_000, 20)
    await writer.apply()
    assert (await writer.account())["drawdown_level"] == "critical"
    await writer.equity(9_000, 5, cash_flow=100)
    await writer.execute("UPDATE equity_snapshots SET equity = 7100 WHERE id = $1", latest)
    assert (await apply_batch(writer.connection, batch_rows=1))["applied"] == 1
    assert (await writer.account())["equity"] == 7_000
    await writer.apply()
    account = await writer.account()
    assert (account["equity"], account["drawdown_level"]) == (7_100, "critical")
    assert [breach["cleared_at"] for breach in await writer.rows("breaches")] == [None]


@pytest.mark.parametrize("flow", [0, -50])
async def test_a_flow_whose_change_waits_counts_as_it_was_applied(writer: DatabaseWriter, flow: int) -> None:
    latest = await writer.equity(12_000, 20, cash_flow=2_000)
    await writer.apply()
    await writer.equity(11_500, 5)
    await writer.execute("UPDATE equity_snapshots SET cash_flow = $2 WHERE id = $1", latest, flow)
    assert (await apply_batch(writer.connection, batch_rows=1))["applied"] == 1
    assert (await writer.account())["peak_equity"] == 13_800  # 11,500 x 12,000 / 10,000
    await writer.apply()
    assert (await writer.account())["peak_equity"] == 12_000


async def test_equity_of_the_batch_that_empties_the_limits_counts(writer: DatabaseWriter) -> None:
    await writer.set_limits(peak_since=writer.at(5))
    await writer.apply()
    await writer.equity(12_000, 20)
    await writer.execute("TRUNCATE guard_limits")
    await writer.equity(11_000, 30)
    await writer.apply()
    account = await writer.account()
    assert (account["equity"], account["peak_equity"]) == (11_000, 12_000)


async def test_a_rebuild_reads_rows_whose_change_waits_as_they_were_applied(writer: DatabaseWriter) -> None:
    row = await writer.sync()
    equity = await writer.equity(9_900, 20)
    await writer.apply()
    before = await writer.state()
    await writer.update(row, current_price=1)
    await writer.execute("UPDATE equity_snapshots SET equity = 9800 WHERE id = $1", equity)
    await rebuild(writer.connection, writer.user_id)
    after = await writer.state()
    assert after["positions"] == before["positions"]
    assert after["guards"]["drawdown"] == before["guards"]["drawdown"]
    await writer.apply()
    assert (await writer.book())["1"]["current_price"] == 1
    assert (await writer.account())["equity"] == 9_800
