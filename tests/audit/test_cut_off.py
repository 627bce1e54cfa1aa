"""Where only the newest rows of a log are read, the effects of older rows are no difference."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import pytest

from queries.capture import housekeep, rebuild
from tests.audit.auditing import audited, differences
from tests.queries.database_writer import DatabaseWriter

#: Rows of the log that an audit reads here, fewer than are written after those that it must not need.
MOST_ROWS: Final = 8
#: Histories of the tickets before the rows that are read.
BEFORE: Final[dict[str, Mapping[str, object]]] = {
    "matched": {},
    "diverging": {"event_type": "divergence", "matched": 2},
    "with an error": {"error_message": "no answer"},
    "failed": {"status": "failed", "error_message": "no answer"},
}


async def look(writer: DatabaseWriter) -> None:
    """Housekeeping, when the account is due to be looked at."""
    await writer.connection.execute("UPDATE guardwire.accounts SET sync_due_at = clock_timestamp()")
    await housekeep(writer.connection)


async def fall_silent(writer: DatabaseWriter, **columns: object) -> None:
    """Write five tickets, then only rows of two others, more than an audit reads."""
    await writer.set_limits(sync_overdue_seconds=20)
    for ticket in range(1, 6):
        await writer.sync(0, ticket=ticket, **columns)
    for _ in range(8):
        for ticket in (6, 7):
            await writer.sync(ticket=ticket, created_at=datetime.now(UTC))
    await look(writer)


async def fall_still(writer: DatabaseWriter) -> None:
    """Let the account be silent, as if its syncs had come minutes ago."""
    for statement in (
        "UPDATE reconciliation_logs SET created_at = created_at - interval '5 min'",
        "UPDATE guardwire.arrivals SET revision = revision - 300000000, arrived_at = arrived_at - interval '5 min'",
        "DELETE FROM guardwire.inbox",
    ):
        await writer.connection.execute(statement)
    for table, columns in (
        ("accounts", ("last_sync_at", "last_sync_arrived_at", "last_position_at")),
        ("events", ("created_at",)),
        ("positions", ("state_at", "updated_at", "entry_time")),
    ):
        moved = ", ".join(f"{name} = {name} - interval '5 min'" for name in columns)
        await writer.connection.execute(f"UPDATE guardwire.{table} SET {moved}")
    await look(writer)
    assert (await writer.state())["status"]["source"] == "silent"


async def agree(writer: DatabaseWriter) -> None:
    """Fail where an audit of any number of rows finds a difference, before or after a rebuild."""
    for _ in range(2):
        for most_rows in (1, 2, 3, MOST_ROWS, 16, 17, 19, 10_000):
            found = await differences(writer.connection, writer.user_id, most_rows=most_rows)
            assert found == [], f"with {most_rows} rows"
        await rebuild(writer.connection, writer.user_id)


@pytest.mark.parametrize("before", BEFORE)
async def test_tickets_whose_rows_are_not_read_are_no_difference(writer: DatabaseWriter, before: str) -> None:
    await fall_silent(writer, **BEFORE[before])
    status = (await writer.state())["status"]
    assert (status["status"] == "warning") is (before != "failed")
    await agree(writer)


async def test_the_warning_of_tickets_that_are_no_longer_mentioned_is_no_difference(
    writer: DatabaseWriter,
) -> None:
    await fall_silent(writer)
    status = (await writer.state())["status"]
    assert status["error_message"].startswith("5 positions are no longer mentioned by the platform")
    found = await audited(writer.connection, writer.user_id, most_rows=MOST_ROWS)
    assert found.partial
    assert found.differences == []


async def test_the_warning_of_tickets_whose_rows_were_deleted_is_no_difference(
    writer: DatabaseWriter,
) -> None:
    """Nothing shows any more that they were there, but that more syncs were counted than are on record."""
    await fall_silent(writer, matched=2)
    await writer.connection.execute("DELETE FROM reconciliation_logs WHERE mt5_position_id < 6")
    await writer.connection.execute("DELETE FROM guardwire.arrivals AS a WHERE NOT EXISTS"
                                    " (SELECT FROM reconciliation_logs AS l WHERE l.id = a.log_id)")  # fmt: skip
    assert await differences(writer.connection, writer.user_id) == []


@pytest.mark.parametrize(
    "alteration", ["error_message = 'no'", "error_message = '1 position diverges from the broker: XAUUSD #1'"]
)
async def test_an_altered_message_is_found_beside_tickets_whose_rows_are_not_read(
    writer: DatabaseWriter, alteration: str
) -> None:
    await fall_silent(writer)
    await writer.connection.execute(f"UPDATE guardwire.accounts SET {alteration}")
    found = await differences(writer.connection, writer.user_id, most_rows=MOST_ROWS)
    assert [each.partition(":")[0] for each in found] == ["status/error_message"]


async def test_a_mark_by_limits_that_held_before_is_no_difference(writer: DatabaseWriter) -> None:
    await fall_silent(writer)
    await writer.set_limits(sync_overdue_seconds=600)
    await agree(writer)


async def test_a_mark_that_is_missing_is_found_where_no_limits_were_set(writer: DatabaseWriter) -> None:
    await writer.sync(-60, ticket=1)
    await writer.sync(ticket=2, created_at=datetime.now(UTC))
    await fall_still(writer)
    assert "unconfirmed_since" in (await writer.book())["1"]
    assert await differences(writer.connection, writer.user_id) == []
    await writer.connection.execute("UPDATE guardwire.positions SET unconfirmed_since = NULL")
    found = await differences(writer.connection, writer.user_id)
    assert [each.partition(":")[0] for each in found] == [
        "positions/open/1/unconfirmed_since",
        "status/status",
    ]


async def test_a_mark_that_later_limits_would_have_set_is_no_difference(writer: DatabaseWriter) -> None:
    await writer.set_limits(sync_overdue_seconds=200)
    await writer.sync(0, ticket=1)
    await writer.sync(ticket=2, created_at=datetime.now(UTC))
    await fall_still(writer)
    await writer.set_limits(sync_overdue_seconds=20)
    await housekeep(writer.connection)
    assert await differences(writer.connection, writer.user_id) == []


async def test_silence_beside_equity_of_an_account_with_a_ticket_that_is_not_read_is_no_difference(
    writer: DatabaseWriter,
) -> None:
    """Equity is no sign of life while a position is open, and the open one has no row that is read."""
    await writer.sync(ticket=1)
    for _ in range(MOST_ROWS):
        await writer.sync(ticket=2, created_at=datetime.now(UTC))
    await writer.close(ticket=2, created_at=datetime.now(UTC))
    await fall_still(writer)
    await writer.equity(10_000, created_at=datetime.now(UTC))
    assert (await writer.state())["status"]["source"] == "silent"
    for most_rows in (3, MOST_ROWS):
        assert await differences(writer.connection, writer.user_id, most_rows=most_rows) == []


async def test_a_zero_beside_a_ticket_that_is_not_read_is_no_difference(writer: DatabaseWriter) -> None:
    """While priced positions are synced, equity of 0 comes from a terminal without its broker, for any later rows."""
    await writer.sync(0, ticket=1)
    for second in range(10, 20):
        await writer.sync(second, ticket=None)
    await writer.equity(10_000, 20)
    for second in (21, 22):
        await writer.equity(0, second, balance=10_000)
    assert (await writer.drawdown())["current_equity"] == 10_000
    await agree(writer)


async def test_a_zero_of_an_account_that_was_silent_is_no_difference(writer: DatabaseWriter) -> None:
    await writer.sync(ticket=1)
    await fall_still(writer)
    await writer.equity(10_000, 20)
    for second in (21, 22):
        await writer.equity(0, second, balance=10_000)
    assert (await writer.drawdown())["current_equity"] == 0
    assert await differences(writer.connection, writer.user_id) == []


async def test_a_zero_that_other_equity_followed_hides_no_alteration(writer: DatabaseWriter) -> None:
    await writer.sync()
    for _ in range(MOST_ROWS):
        await writer.sync(ticket=None, created_at=datetime.now(UTC))
    for second, equity in enumerate((10_000, 0, 9_000, 9_100, 9_050)):
        await writer.equity(equity, second)
    await agree(writer)
    await writer.connection.execute("UPDATE guardwire.accounts SET equity = 9049")
    found = await differences(writer.connection, writer.user_id, most_rows=MOST_ROWS)
    assert "guards/drawdown/current_equity: should be 9050.0 and is 9049.0" in found


async def test_equity_that_a_clock_which_is_behind_explains_is_no_difference(writer: DatabaseWriter) -> None:
    """The syncs that show the clock are not read."""
    for second in range(5):
        await writer.sync(second - 600)
    await writer.equity(10_000, -600)
    for second in range(MOST_ROWS):
        await writer.sync(second - 590, event_type="divergence", matched=2)
    assert "doubt" not in await writer.drawdown()
    for most_rows in (3, MOST_ROWS):
        assert await differences(writer.connection, writer.user_id, most_rows=most_rows) == []
