"""History that was there before the triggers, and accounts that are rebuilt, while the platform goes on writing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from queries.capture import backfill, list_accounts, rebuild, rebuild_all
from queries.channels import LIVE_QUERIES
from queries.migrations.run import migrate
from tests.inbox import apply_inbox
from tests.queries import legacy
from tests.queries.conftest import Connect
from tests.queries.database_writer import DatabaseWriter, connected

#: Columns that history cannot know.
OWN = {
    "sync_due_at",
    "last_sync_arrived_at",
    "source",
    "state_revision",
    "state_ordinal",
    "revision",
    "base_revision",
    "ordinal",
    "recent_offsets",
    "equity_arrived_at",
    "equity_fresh_at",
    "equity_due_at",
    "peak",
}


async def derived(connection: Any) -> dict[str, list[dict[str, Any]]]:
    """All derived rows, without what history cannot know."""
    found = {}
    orders = {"accounts": "user_id", "positions": "user_id, ticket", "events": "user_id, event_id"}
    for table, order in orders.items():
        rows = await connection.fetch(f"SELECT * FROM guardwire.{table} ORDER BY {order}")
        found[table] = [{name: value for name, value in row.items() if name not in OWN} for row in rows]
    return found


async def write_history(writer: DatabaseWriter) -> None:
    for second, volume in enumerate(["0.1", "0.1", "0.2", "0.2"]):
        await writer.sync(second, updated_at=writer.at(second + 0.5), volume=volume)
    await writer.close(3, ticket=8)
    await writer.sync(1, ticket=9, status="failed", error_message="no")
    await writer.equity(10_000)
    await writer.equity(9_000, 1, cash_flow=-100)


# ---------------------------------------------------------------- what history comes to


async def test_history_comes_to_what_its_rows_came_to(writer: DatabaseWriter) -> None:
    await write_history(writer)
    applied = await derived(writer.connection)
    # Without arrivals it is history that nobody saw.
    await writer.connection.execute("TRUNCATE guardwire.arrivals")
    assert await rebuild(writer.connection, writer.user_id) == 6
    assert await derived(writer.connection) == applied


async def test_a_rebuilt_account_is_shown_as_before_at_a_later_revision(writer: DatabaseWriter) -> None:
    await write_history(writer)
    await writer.equity(7_000, 2)
    before = await writer.evaluation()
    await rebuild(writer.connection, writer.user_id)
    after = await writer.evaluation()
    assert after.state == before.state
    assert after.revision > before.revision


async def test_syncs_never_become_fewer(writer: DatabaseWriter) -> None:
    await write_history(writer)
    await writer.execute("DELETE FROM reconciliation_logs WHERE created_at <= $1", writer.at(1))
    await rebuild(writer.connection, writer.user_id)
    assert (await writer.account())["total_syncs"] == 5


async def test_history_uses_the_arrivals_that_were_recorded(writer: DatabaseWriter) -> None:
    """The close came first in time and last in arrival: by the times alone the position would be open."""
    await writer.sync(5)
    await writer.close(1)
    await rebuild(writer.connection, writer.user_id)
    assert not (await writer.position())["is_open"]
    await writer.connection.execute("TRUNCATE guardwire.arrivals")
    await rebuild(writer.connection, writer.user_id)
    assert (await writer.position())["is_open"]


async def test_a_row_that_was_changed_in_its_own_batch_counts_where_its_change_was_applied(
    writer: DatabaseWriter,
) -> None:
    """Both rows have one time and one revision, so only the ordinal of the change makes the first row the newest."""
    async with writer.connection.transaction():
        first = await writer.sync(current_price="1900")
        await writer.sync(current_price="1950")
        await writer.update(first, current_price="1910")
        earlier = await writer.equity(10_000)
        await writer.equity(9_000)
        await writer.execute("UPDATE equity_snapshots SET equity = 9500 WHERE id = $1", earlier)
    await rebuild(writer.connection, writer.user_id)
    assert (await writer.book())["1"]["current_price"] == 1910
    # A row of equity that is corrected keeps its place.
    assert (await writer.drawdown())["current_equity"] == 9000


async def test_rows_written_past_the_triggers_are_found_by_rebuilding_all(writer: DatabaseWriter) -> None:
    other = writer.of()
    await writer.sync()
    await writer.connection.execute("ALTER TABLE reconciliation_logs DISABLE TRIGGER USER")
    await writer.sync(1, ticket=2)
    await other.sync()
    await writer.connection.execute("ALTER TABLE reconciliation_logs ENABLE TRIGGER USER")
    assert set(await writer.book()) == {"1"}
    assert await rebuild_all(writer.connection, progress=lambda *_: None) == 2
    assert set(await writer.book()) == {"1", "2"}
    assert set(await other.book()) == {"1"}


async def test_all_odd_times_of_history_count_when_they_were_read(writer: DatabaseWriter) -> None:
    await writer.connection.execute("ALTER TABLE reconciliation_logs DISABLE TRIGGER USER")
    for ticket, moment in enumerate(("infinity", "100000-01-01", "4713-01-01 BC", None), 1):
        await writer.sync(ticket=ticket, created_at=moment)
    await rebuild(writer.connection, writer.user_id)
    assert len(await writer.book()) == 4


# ---------------------------------------------------------------- while rows wait


async def test_rows_of_an_account_wait_until_its_history_is_read(writer: DatabaseWriter) -> None:
    other = writer.of()
    await writer.sync()
    await writer.connection.execute("SELECT guardwire.unready($1)", writer.user_id)
    await writer.sync(1, ticket=2)
    await writer.equity(1000)
    await writer.set_limits(minimum_equity=5000)
    await other.sync()
    assert {row["account"] for row in await writer.inbox()} == {writer.user_id}
    assert set(await other.book()) == {"1"}
    assert (await writer.state())["status"]["status"] == "unknown"
    assert await backfill(writer.connection, progress=lambda _: None) == 1
    assert set(await writer.book()) == {"1", "2"}
    assert (await writer.drawdown())["alert_type"] == "critical"
    assert await writer.inbox() == []
    assert (await writer.account())["total_syncs"] == 2


async def test_history_leaves_out_rows_that_wait(writer: DatabaseWriter) -> None:
    """They are applied later; a row that counted twice would be two syncs, or a cash flow too many."""
    await writer.sync()
    await writer.equity(1_000)
    writer.applies = False
    await writer.connection.execute("SELECT guardwire.unready($1)", writer.user_id)
    await writer.sync(1)
    updated = await writer.sync(2, ticket=2)
    await writer.update(updated, matched=2)
    await writer.equity(1_500, 1, cash_flow=500)
    assert await rebuild(writer.connection, writer.user_id) == 1
    before = await writer.account()
    assert (before["total_syncs"], before["equity"], before["peak_equity"]) == (1, 1_000, 1_000)
    await writer.apply()
    after = await writer.account()
    assert (after["total_syncs"], after["equity"], after["peak_equity"]) == (3, 1_500, 1_500)
    assert (await writer.position(2))["matched"] == 2


async def test_history_is_read_although_a_row_that_waits_has_no_id(writer: DatabaseWriter) -> None:
    await writer.sync()
    await writer.equity(1_000)
    await writer.connection.execute("SELECT guardwire.unready($1)", writer.user_id)
    for source in ("l", "e"):
        await writer.connection.execute(
            "INSERT INTO guardwire.inbox (account, source, operation, new_row, xid, arrived_at)"
            " VALUES ($1, $2::text::\"char\", 'i', '{}', pg_current_xact_id(), now())",
            writer.user_id,
            source,
        )
    writer.applies = False
    assert await rebuild(writer.connection, writer.user_id) == 1
    assert set(await writer.book()) == {"1"}
    assert (await writer.account())["equity"] == 1_000


@pytest.mark.parametrize(
    "history",
    ["guardwire.history_of($1, now(), '{}', 0)", "guardwire.equity_history($1, '{}', 0)"],
    ids=["log", "equity"],
)
async def test_history_and_the_rows_that_wait_are_joined_and_not_compared_one_by_one(
    writer: DatabaseWriter, history: str
) -> None:
    """The rows of the one times the rows of the other would be hundreds of millions."""
    await writer.connection.execute(
        """INSERT INTO reconciliation_logs (user_id) SELECT $1::uuid FROM generate_series(1, 5000)""",
        writer.user_id,
    )
    await writer.connection.execute(
        """INSERT INTO equity_snapshots (user_id) SELECT $1::uuid FROM generate_series(1, 5000)""",
        writer.user_id,
    )
    await writer.connection.execute(
        "ANALYZE public.reconciliation_logs; ANALYZE public.equity_snapshots; ANALYZE guardwire.inbox"
    )
    plan = await writer.connection.fetch(f"EXPLAIN SELECT * FROM {history}", writer.user_id)
    assert "Anti Join" in "\n".join(row[0] for row in plan)


async def test_a_reader_of_history_is_in_no_writers_way_and_misses_no_row(
    writer: DatabaseWriter, connect: Connect
) -> None:
    """The reader has not committed the account's rows yet when the platform writes."""
    await writer.sync()
    reader = await connect()
    writer.applies = False
    await writer.connection.execute("SELECT guardwire.unready($1)", writer.user_id)
    async with reader.transaction():
        assert await reader.fetchval("SELECT guardwire.read_history($1)", writer.user_id) == 1
        async with asyncio.timeout(10):
            await writer.sync(1, ticket=2)
        assert await writer.apply() == 0
    assert await writer.apply() == 1
    assert set(await writer.book()) == {"1", "2"}


async def test_a_rebuild_that_is_cut_short_leaves_the_account_waiting_until_somebody_finishes_it(
    writer: DatabaseWriter, connect: Connect
) -> None:
    await write_history(writer)
    before = await writer.state()
    reader = await connect()
    await reader.execute("SELECT guardwire.unready($1)", writer.user_id)
    transaction = reader.transaction()
    await transaction.start()
    await reader.execute("SELECT guardwire.read_history($1)", writer.user_id)
    await writer.connection.execute("SELECT pg_terminate_backend($1)", reader.get_server_pid())
    async with asyncio.timeout(10):
        while await writer.value(
            "SELECT count(*) FROM pg_stat_activity WHERE pid = $1", reader.get_server_pid()
        ):
            await asyncio.sleep(0.01)
    assert not (await writer.account())["ready"]
    waiting = await writer.connection.fetch(
        "SELECT * FROM guardwire.waiting_accounts(ARRAY[$1::uuid], pg_current_snapshot())", writer.user_id
    )
    assert [tuple(row) for row in waiting] == [(writer.user_id, True)]
    assert await writer.connection.fetchval("SELECT guardwire.backfill_next()") == writer.user_id
    assert await writer.connection.fetchval("SELECT guardwire.backfill_next()") is None
    assert await writer.state() == before


async def test_a_batch_and_a_rebuild_that_begins_meanwhile_do_not_mix(
    writer: DatabaseWriter, connect: Connect
) -> None:
    """The batch took the account for ready; it is tried again, and the account's rows wait then."""
    await writer.sync()
    writer.applies = False
    await writer.sync(1, ticket=2)
    other, applier = await connect(), DatabaseWriter(await connect())
    async with other.transaction():
        await other.execute("SELECT guardwire.unready($1)", writer.user_id)
        applying = asyncio.create_task(applier.apply(), name="applying")
        async with asyncio.timeout(10):
            while not await writer.connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            ):
                await asyncio.sleep(0.01)
    with pytest.raises(Exception, match="a rebuild of an account of the batch began meanwhile"):
        await applying
    assert len(await writer.inbox()) == 1
    assert await writer.apply() == 0
    await rebuild(writer.connection, writer.user_id)
    await writer.apply()
    assert set(await writer.book()) == {"1", "2"}


# ---------------------------------------------------------------- a platform from before


@pytest.fixture
async def older_platform(database_url: str) -> AsyncIterator[Any]:
    """A connection to a database with an older platform's log, migrated, and its history still to be read."""
    async with connected(database_url) as connection:
        await legacy.make(connection, rows_per_user=50)
        await migrate(database_url, read_history=False)
        yield connection


async def test_an_account_is_unknown_until_its_history_is_read(
    older_platform: Any, database_url: str
) -> None:
    async def statuses() -> set[str]:
        found = await LIVE_QUERIES.evaluate(older_platform, await legacy.users(older_platform))
        return {each.state["status"]["status"] for each in found}

    assert await statuses() == {"unknown"}
    await migrate(database_url)
    assert await statuses() == {"healthy"}


async def test_nothing_is_applied_until_the_accounts_with_history_are_listed(
    database_url: str,
) -> None:
    """A migration that ended in between leaves rows waiting, and no applier that fails again and again."""
    async with connected(database_url) as connection:
        await legacy.make(connection, rows_per_user=50)
        await migrate(database_url, read_history=False)
        await connection.execute("UPDATE guardwire.backfill SET listed = false; TRUNCATE guardwire.accounts")
        await connection.execute(legacy.SYNC, 1, 99, 1.3)
        assert await apply_inbox(connection) == 0
        await backfill(connection, progress=lambda _: None)
        assert await apply_inbox(connection) == 1
        syncs = await connection.fetchval(
            "SELECT total_syncs FROM guardwire.accounts WHERE user_id = md5('1')::uuid"
        )
        assert syncs == 50


async def test_an_account_that_appears_after_the_listing_is_ready_at_once(older_platform: Any) -> None:
    assert await list_accounts(older_platform) == 0
    await older_platform.execute(legacy.SYNC, legacy.USERS + 1, 1, 1.3)
    await apply_inbox(older_platform)
    newcomers = await older_platform.fetch("SELECT total_syncs FROM guardwire.accounts WHERE ready")
    assert [row["total_syncs"] for row in newcomers] == [1]


async def test_two_that_read_history_share_it_and_either_may_be_interrupted(
    older_platform: Any, database_url: str
) -> None:
    async with connected(database_url) as other:
        for _ in range(5):
            await older_platform.fetchval("SELECT guardwire.backfill_next()")
        read = await asyncio.gather(
            backfill(older_platform, progress=lambda _: None), backfill(other, progress=lambda _: None)
        )
    assert sum(read) == legacy.USERS - 5
    syncs = await older_platform.fetchval("SELECT sum(total_syncs) FROM guardwire.accounts WHERE ready")
    assert syncs == legacy.USERS * 49
    assert await older_platform.fetchval("SELECT done FROM guardwire.backfill") is True


async def test_reading_history_may_be_interrupted_and_taken_up_again(
    older_platform: Any, database_url: str
) -> None:
    class Interrupted(Exception):
        pass

    read = 0

    def interrupt(_message: str) -> None:
        nonlocal read
        read += 1
        if read == 5:
            raise Interrupted

    unread = "SELECT count(*) FROM guardwire.accounts WHERE NOT ready"
    with pytest.raises(Interrupted):
        await backfill(older_platform, progress=interrupt)
    assert await older_platform.fetchval(unread) == legacy.USERS - 5
    await migrate(database_url)
    assert await older_platform.fetchval(unread) == 0


async def test_the_history_of_accounts_whose_rows_wait_is_read_first(older_platform: Any) -> None:
    """Until then every batch walks over these rows."""
    await older_platform.execute(legacy.SYNC, 7, 1, 1.3)
    await older_platform.execute(legacy.SYNC, 13, 1, 1.3)
    read = [await older_platform.fetchval("SELECT guardwire.backfill_next()") for _ in range(3)]
    waiting = [await older_platform.fetchval(f"SELECT md5('{number}')::uuid") for number in (7, 13)]
    assert read[:2] == waiting
    assert UUID(str(read[2])) not in waiting


async def test_a_users_rows_are_found_however_the_user_is_written(
    older_platform: Any, database_url: str
) -> None:
    """And by the index on the column, although its values have several spellings."""
    await older_platform.execute("ANALYZE; SELECT pg_stat_force_next_flush()")
    scans = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'reconciliation_logs'"
    before = await older_platform.fetchval(scans)
    assert await older_platform.fetchval("SELECT guardwire.read_history(md5('1')::uuid)") == 50
    await older_platform.execute("SELECT pg_stat_force_next_flush()")
    assert await older_platform.fetchval(scans) == before
