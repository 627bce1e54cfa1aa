"""A row that waits in the inbox has not arrived yet, and housekeeping has not seen it either."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from queries.capture import housekeep, rebuild
from tests.audit.auditing import audited, differences
from tests.queries.database_writer import DatabaseWriter

Write = Callable[[DatabaseWriter], Awaitable[object]]

WRITES: dict[str, Write] = {
    "a price": lambda w: w.sync(30, current_price=1900),
    "an opening": lambda w: w.sync(30, ticket=9),
    "a close": lambda w: w.close(30),
    "equity": lambda w: w.equity(9_000, 30),
    "a cash flow that is late": lambda w: w.equity(9_000, -30, cash_flow=-1_000),
    "a guard": lambda w: w.guard("spread", 100, 110, 30),
    "limits": lambda w: w.set_limits(
        drawdown_critical_pct=90, sync_overdue_seconds=1, alert_window_seconds=5
    ),
    "a peak reset": lambda w: w.set_limits(peak_since=w.at(15)),
    "a rate": lambda w: w.rate("USD", "JPY", 99, 30),
    "an instrument": lambda w: w.execute("UPDATE instruments SET contract_size = 1"),
    "no instruments": lambda w: w.execute("TRUNCATE instruments"),
    "no limits": lambda w: w.execute("TRUNCATE guard_limits"),
    "every row of the log": lambda w: w.execute(
        "UPDATE reconciliation_logs SET current_price = 7, matched = 1, created_at = created_at - interval '1 minute'"
    ),
    "every row of the log closed": lambda w: w.execute("UPDATE reconciliation_logs SET close_reason = 'tp'"),
    "every row of equity": lambda w: w.execute("UPDATE equity_snapshots SET equity = 5000, currency = 'GBP'"),
    "two changes of each row": lambda w: w.execute(
        "WITH once AS (UPDATE reconciliation_logs SET symbol = 'GBPJPY' RETURNING id)"
        " UPDATE equity_snapshots SET equity = 4000 WHERE (SELECT count(*) FROM once) > 0"
    ),
    "deletions": lambda w: w.execute("DELETE FROM reconciliation_logs WHERE mt5_position_id = 2"),
}


async def trade(writer: DatabaseWriter) -> None:
    """Write an account with something on every channel; a divergence is no sync and is not counted."""
    await writer.set_limits(drawdown_critical_pct=30)
    await writer.sync(0)
    await writer.sync(1, ticket=2, event_type="divergence", matched=2)
    await writer.sync(2, ticket=3, symbol="USDJPY")
    await writer.close(3, ticket=4)
    await writer.rate("USD", "JPY", 150, 4)
    await writer.equity(10_000, 10)
    await writer.equity(7_500, 20)
    await writer.guard("gap", 100, 115, 20)
    assert await differences(writer.connection, writer.user_id) == []


@pytest.mark.parametrize("most_rows", [2, 10_000])
@pytest.mark.parametrize("write", WRITES)
async def test_a_change_that_waits_is_no_difference(
    writer: DatabaseWriter, write: str, most_rows: int
) -> None:
    await trade(writer)
    writer.applies = False
    await WRITES[write](writer)
    assert await differences(writer.connection, writer.user_id, most_rows=most_rows) == []
    if write not in ("no instruments", "no limits"):
        # These fire a trigger for the statement, and nothing is left that could wait for a rebuild.
        await rebuild(writer.connection, writer.user_id)
        assert await differences(writer.connection, writer.user_id, most_rows=most_rows) == []
    await writer.apply()
    await housekeep(writer.connection)
    assert await differences(writer.connection, writer.user_id, most_rows=most_rows) == []


@pytest.mark.parametrize("write", ["a price", "every row of the log", "a rate"])
async def test_an_alteration_is_found_while_rows_wait(writer: DatabaseWriter, write: str) -> None:
    await trade(writer)
    writer.applies = False
    await WRITES[write](writer)
    await writer.execute("UPDATE guardwire.positions SET volume = 9 WHERE ticket = 1")
    found = await differences(writer.connection, writer.user_id)
    assert any("positions/open/1/volume" in line for line in found), found


async def apply_minutes_late(writer: DatabaseWriter, minutes: float) -> None:
    """Apply the rows that wait as if their transactions had committed so long ago."""
    await writer.execute(
        "UPDATE guardwire.inbox SET arrived_at = arrived_at - make_interval(secs => 60 * $1)", minutes
    )
    await writer.apply()


async def age_arrivals(writer: DatabaseWriter) -> None:
    """Change the record as if every row had been applied when it arrived."""
    await writer.execute(
        "UPDATE guardwire.arrivals SET revision = extract(epoch FROM arrived_at) * 1000000 + ordinal"
    )


async def test_silence_is_not_overdue_before_housekeeping_saw_the_rows(writer: DatabaseWriter) -> None:
    """No applier ran for five minutes: the account is live until housekeeping looks at it again."""
    writer.applies = False
    await writer.sync(-300)
    await apply_minutes_late(writer, 5)
    assert (await writer.state())["status"]["source"] == "live"
    assert await differences(writer.connection, writer.user_id) == []
    await age_arrivals(writer)
    assert ["status/source" in line for line in await differences(writer.connection, writer.user_id)] == [
        True
    ]
    await writer.sync(0, ticket=2)
    assert await differences(writer.connection, writer.user_id) == []


async def test_an_alert_is_not_overdue_before_housekeeping_saw_the_rows(writer: DatabaseWriter) -> None:
    writer.applies = False
    await writer.guard("gap", 100, 115, -4_000)
    await apply_minutes_late(writer, 60)
    assert list((await writer.state())["guards"]["alerts"]) == ["XAUUSD:price_gap"]
    assert await differences(writer.connection, writer.user_id) == []
    await age_arrivals(writer)
    found = await differences(writer.connection, writer.user_id)
    assert any("guards/alerts/XAUUSD:price_gap: should be nothing" in line for line in found), found
    await writer.sync(0)
    assert await differences(writer.connection, writer.user_id) == []


async def test_a_late_commit_that_is_gone_may_have_been_the_state(
    writer: DatabaseWriter,
) -> None:
    """A row that arrived early and was applied last, and that the platform has removed since."""
    now = datetime.now(UTC)
    writer.applies = False
    late = await writer.sync(0, created_at=now, current_price=1)
    early = await writer.inbox()
    await writer.execute("DELETE FROM guardwire.inbox")
    await writer.sync(1, created_at=now - timedelta(seconds=1), current_price=2)
    await writer.apply()
    await writer.execute(
        "INSERT INTO guardwire.inbox (account, source, operation, new_row, xid, arrived_at)"
        " VALUES ($1, 'l', 'i', $2, pg_current_xact_id(), $3)",
        writer.user_id,
        early[0]["new_row"],
        early[0]["arrived_at"],
    )
    await writer.apply()
    assert (await writer.book())["1"]["current_price"] == 1
    assert await differences(writer.connection, writer.user_id) == []
    await writer.execute("DELETE FROM reconciliation_logs WHERE id = $1", late)
    verdict = await audited(writer.connection, writer.user_id)
    assert verdict.differences == []
    assert "positions/open/1/current_price" in [each.path for each in verdict.doubts]
