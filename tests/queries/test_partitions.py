"""A platform whose log and equity are partitioned tables."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from queries.capture import rebuild
from queries.migrations.run import migrate
from tests.queries.database_writer import DatabaseWriter, connected

#: Rows before second 0 are in one partition, the others in another one.
TABLES = """
CREATE TABLE public.reconciliation_logs (
    id uuid NOT NULL DEFAULT gen_random_uuid(), user_id uuid, mt5_position_id bigint, symbol text, direction text,
    volume numeric, entry_price numeric, current_price numeric, take_profit numeric, stop_loss numeric,
    matched integer, divergence_reason text, close_reason text, closed_price numeric, pnl_gbp numeric,
    event_type text, status text, error_message text, created_at timestamptz NOT NULL, updated_at timestamptz
) PARTITION BY RANGE (created_at);
CREATE INDEX ON public.reconciliation_logs (id);
CREATE INDEX ON public.reconciliation_logs (user_id);
CREATE TABLE public.log_old PARTITION OF public.reconciliation_logs FOR VALUES FROM (MINVALUE) TO ('{begun}');
CREATE TABLE public.log_new PARTITION OF public.reconciliation_logs FOR VALUES FROM ('{begun}') TO ('{ended}');
CREATE TABLE public.equity_snapshots (
    id uuid NOT NULL DEFAULT gen_random_uuid(), user_id uuid, equity numeric, balance numeric, currency text,
    cash_flow numeric DEFAULT 0, created_at timestamptz NOT NULL
) PARTITION BY RANGE (created_at);
CREATE INDEX ON public.equity_snapshots (id);
CREATE TABLE public.equity_old PARTITION OF public.equity_snapshots FOR VALUES FROM (MINVALUE) TO ('{begun}');
CREATE TABLE public.equity_new PARTITION OF public.equity_snapshots FOR VALUES FROM ('{begun}') TO ('{ended}');
"""


@pytest.fixture
async def writer(database_url: str) -> AsyncIterator[DatabaseWriter]:
    """Writes to partitioned tables, whose partitions end at second 1,000."""
    async with connected(database_url) as connection:
        writer = DatabaseWriter(connection)
        await connection.execute(TABLES.format(begun=writer.begun, ended=writer.at(1000)))
        await migrate(database_url)
        yield writer


@pytest.fixture(params=["origin", "replica"])
async def role(request: pytest.FixtureRequest, writer: DatabaseWriter) -> str:
    """How triggers fire: for a platform's statements, and for what logical replication applies."""
    await writer.connection.execute(f"SET session_replication_role = {request.param}")
    return str(request.param)


@pytest.mark.usefixtures("role")
async def test_rows_are_copied_once_through_the_table_and_through_a_partition(writer: DatabaseWriter) -> None:
    await writer.sync(-5, ticket=1)
    await writer.sync(5, ticket=2)
    for second, (partition, ticket) in zip((-4, 4), (("log_old", 3), ("log_new", 4)), strict=True):
        await writer.execute(
            f"INSERT INTO public.{partition} (user_id, mt5_position_id, event_type, matched, created_at)"
            " VALUES ($1, $2, 'sync', 1, $3)",
            writer.user_id,
            ticket,
            writer.at(second),
        )
    await writer.execute("UPDATE public.log_new SET current_price = 7 WHERE mt5_position_id = 4")
    await writer.equity(500, -1)
    await writer.execute("INSERT INTO public.equity_new SELECT gen_random_uuid(), user_id, 600, 600, 'USD', 0, $1"
                         " FROM public.equity_old", writer.at(1))  # fmt: skip
    assert set(await writer.book()) == {"1", "2", "3", "4"}
    account = await writer.account()
    assert (account["total_syncs"], account["equity"]) == (4, 600)
    assert (await writer.position(4))["current_price"] == 7


@pytest.mark.usefixtures("role")
async def test_a_row_that_moves_to_another_partition_was_updated_and_is_no_new_row(
    writer: DatabaseWriter,
) -> None:
    row_id = await writer.sync(5)
    await writer.equity(1_000, 1)
    equity = await writer.equity(1_500, 5, cash_flow=500)
    await writer.update(row_id, created_at=writer.at(-5), current_price=8)
    await writer.execute("UPDATE equity_snapshots SET created_at = $1 WHERE id = $2", writer.at(-5), equity)
    account = await writer.account()
    assert (account["total_syncs"], account["equity"]) == (1, 1_000)
    assert len(await writer.rows("equity_flows")) == 1
    arrivals = await writer.rows("arrivals", "revision")
    assert [row["inserted"] for row in arrivals] == [True, True, True, False, False]
    position = await writer.position()
    assert (position["position_id"], position["entry_time"]) == (row_id, writer.at(-5))


@pytest.mark.usefixtures("role")
async def test_a_row_whose_corrected_time_alone_moves_it_is_read_again_and_is_no_arrival(
    writer: DatabaseWriter,
) -> None:
    row_id = await writer.sync(5, current_price=5)
    await writer.sync(2, current_price=2)
    await writer.update(row_id, created_at=writer.at(-5))
    assert [row["inserted"] for row in await writer.rows("arrivals")] == [True, True]
    position = await writer.position()
    assert (position["current_price"], position["state_at"]) == (2, writer.at(2))
    assert (position["position_id"], position["entry_time"]) == (row_id, writer.at(-5))


async def test_a_corrected_time_of_a_row_that_says_nothing_is_a_change_like_any_other(
    writer: DatabaseWriter,
) -> None:
    row_id = await writer.sync(5, event_type="heartbeat")
    for second in (4, -4):
        await writer.update(row_id, created_at=writer.at(second))
    assert [row["inserted"] for row in await writer.rows("arrivals", "revision")] == [True, False, False]


async def test_a_row_that_moves_among_others_of_one_transaction_counts_once(writer: DatabaseWriter) -> None:
    async with writer.connection.transaction():
        rows = [await writer.sync(5 + ticket, ticket=ticket) for ticket in range(1, 6)]
        for row_id in rows[:3]:
            await writer.update(row_id, created_at=writer.at(-5))
        await writer.connection.execute("DELETE FROM reconciliation_logs WHERE id = $1", rows[4])
    assert (await writer.account())["total_syncs"] == 5
    assert len(await writer.book()) == 5


async def test_a_row_that_moves_counts_once_also_in_a_batch_that_fails(writer: DatabaseWriter) -> None:
    """The rows of a batch that fails are applied one by one."""
    await writer.connection.execute(
        "ALTER TABLE guardwire.positions ADD CONSTRAINT broken CHECK (symbol <> 'BROKEN')"
    )
    row_id = await writer.sync(5)
    await writer.equity(1_000, 1)
    equity = await writer.equity(1_500, 5, cash_flow=500)
    async with writer.connection.transaction():
        await writer.sync(6, ticket=2, symbol="BROKEN")
        await writer.update(row_id, created_at=writer.at(-5))
        await writer.execute(
            "UPDATE equity_snapshots SET created_at = $1 WHERE id = $2", writer.at(-5), equity
        )
    account = await writer.account()
    assert (account["total_syncs"], account["equity"]) == (1, 1_000)
    assert len(await writer.rows("equity_flows")) == 1
    assert len(await writer.set_aside()) == 1


async def test_deleting_and_dropping_change_nothing_shown(writer: DatabaseWriter) -> None:
    await writer.sync(-5, ticket=1)
    await writer.sync(5, ticket=2)
    await writer.equity(1_000, -5)
    before = await writer.evaluation()
    await writer.execute("DELETE FROM reconciliation_logs WHERE mt5_position_id = 2")
    await writer.execute("TRUNCATE reconciliation_logs")
    await writer.execute("ALTER TABLE public.equity_snapshots DETACH PARTITION public.equity_old")
    await writer.execute("DROP TABLE public.log_old, public.equity_old")
    after = await writer.evaluation()
    assert (after.revision, after.state) == (before.revision, before.state)
    assert await writer.inbox() == []


@pytest.mark.usefixtures("role")
async def test_rows_of_a_partition_that_is_made_later_are_copied(writer: DatabaseWriter) -> None:
    await writer.connection.execute(
        f"CREATE TABLE public.log_newest PARTITION OF public.reconciliation_logs"
        f" FOR VALUES FROM ('{writer.at(1000)}') TO (MAXVALUE)"
    )
    row_id = await writer.sync(2000)
    await writer.update(row_id, created_at=writer.at(-1), current_price=8)
    assert (await writer.account())["total_syncs"] == 1
    assert (await writer.position())["entry_time"] == writer.at(-1)


async def test_rows_that_a_partition_brings_along_are_found_by_a_rebuild(writer: DatabaseWriter) -> None:
    """No trigger fires for ATTACH PARTITION; rows that are written there later are copied."""
    await writer.sync(1)
    await writer.connection.execute(
        "CREATE TABLE public.log_newest (LIKE public.reconciliation_logs INCLUDING DEFAULTS)"
    )
    insert = (
        "INSERT INTO public.log_newest (user_id, mt5_position_id, event_type, matched, created_at)"
        " VALUES ($1, $2, 'sync', 1, $3)"
    )
    await writer.execute(insert, writer.user_id, 2, writer.at(2000))
    await writer.connection.execute(
        f"ALTER TABLE public.reconciliation_logs ATTACH PARTITION public.log_newest"
        f" FOR VALUES FROM ('{writer.at(1000)}') TO (MAXVALUE)"
    )
    await writer.execute(insert, writer.user_id, 3, writer.at(2000))
    assert set(await writer.book()) == {"1", "3"}
    await rebuild(writer.connection, writer.user_id)
    assert set(await writer.book()) == {"1", "2", "3"}


async def test_a_log_that_becomes_partitioned_is_copied_again_after_a_migration(
    migrated_url: str,
) -> None:
    """Until then the triggers are missing, which keeps nodes from being ready."""
    async with connected(migrated_url) as connection:
        writer = DatabaseWriter(connection)
        await connection.execute("DROP TABLE public.reconciliation_logs, public.equity_snapshots")
        await connection.execute(TABLES.format(begun=writer.begun, ended=writer.at(1000)))
        await writer.sync()
        assert await writer.book() == {}
        said: list[str] = []
        await migrate(migrated_url, progress=said.append)
        assert len([each for each in said if "was missing" in each]) == 4
        assert set(await writer.book()) == {"1"}
        row_id = await writer.sync(1, ticket=2)
        await writer.update(row_id, created_at=writer.at(-1))
        assert (await writer.account())["total_syncs"] == 2
