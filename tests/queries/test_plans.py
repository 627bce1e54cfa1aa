"""Reading costs what is shown and applying what arrived: history, other accounts and dead rows cost nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from queries.capture import housekeep
from queries.channels import LIVE_QUERIES
from queries.migrations.run import driver_url, migrate
from queries.migrations.script import read_sql
from queries.position_by_id import find_position
from realtime.feed.sweep import sweep
from tests.databases import Databases
from tests.queries.conftest import Connect
from tests.queries.database_writer import DatabaseWriter, connected
from tests.queries.test_lease import renew

ROWS = 10_000
OTHERS = 200
IDLE = 10_000
#: Tables that grow; a scan of one is what these tests are there to find.
LARGE = {
    "reconciliation_logs",
    "equity_snapshots",
    "accounts",
    "positions",
    "arrivals",
    "events",
    "breaches",
    "inbox",
    "limits",
}

HEAVY = UUID("99999999-9999-4999-8999-999999999999")


@pytest.fixture(scope="module")
def crowded_template(databases: Databases) -> Iterator[str]:
    """A database with much history of one account and some of 200 others, read by the migration."""
    url = databases.make()
    databases.run(fill(url))
    yield url
    databases.drop(url)


async def fill(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(read_sql("tables", "0001a_tables.sql"))
    await connection.execute("DROP SCHEMA guardwire CASCADE")
    await connection.execute(
        """INSERT INTO reconciliation_logs (user_id, mt5_position_id, event_type, matched, symbol, direction,
                                            volume, entry_price, current_price, created_at)
           SELECT $1, n % 2000 + 1, CASE WHEN n > $2 - 2000 AND n % 2000 >= 10 THEN 'close' ELSE 'sync' END,
                  1, 'XAUUSD', 'buy', 1, 100, 100, now() - ($2 - n) * interval '1 second'
           FROM generate_series(1, $2::integer) AS n""",
        HEAVY,
        ROWS,
    )
    await connection.execute(
        """INSERT INTO equity_snapshots (user_id, equity, balance, currency, created_at)
           SELECT $1, 1000, 1000, 'GBP', now() - ($2 - n) * interval '1 second'
           FROM generate_series(1, $2::integer) AS n""",
        HEAVY,
        ROWS,
    )
    await connection.execute(
        """INSERT INTO reconciliation_logs (user_id, mt5_position_id, event_type, matched, symbol)
           SELECT ('00000000-0000-4000-8000-' || lpad(u::text, 12, '0'))::uuid, t, 'sync', 1, 'EURUSD'
           FROM generate_series(1, $1::integer) AS u, generate_series(1, 10) AS t""",
        OTHERS,
    )
    await migrate(url, notify=False)
    # For a table of a few pages the planner rightly scans.
    await connection.execute(
        """INSERT INTO guardwire.accounts (user_id, revision)
           SELECT gen_random_uuid(), 1 FROM generate_series(1, $1::integer)""",
        IDLE,
    )
    await connection.execute(
        "INSERT INTO guardwire.limits (user_id) SELECT user_id FROM guardwire.accounts WHERE user_id <> $1",
        HEAVY,
    )
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


@pytest.fixture
def crowded_url(databases: Databases, crowded_template: str) -> Iterator[str]:
    url = databases.make(like=crowded_template)
    yield url
    databases.drop(url)


# ---------------------------------------------------------------- no scan


async def scans(connection: Any) -> dict[str, int]:
    """Rows that sequential scans have read, by table; of this connection's statements too."""
    await connection.execute("SELECT pg_stat_force_next_flush()")
    rows = await connection.fetch(
        "SELECT relname, seq_tup_read FROM pg_stat_user_tables WHERE relname = ANY ($1)", list(LARGE)
    )
    return dict(rows)


async def scanned(url: str, act: Callable[[Any], Awaitable[object]]) -> dict[str, int]:
    """Rows of large tables that ``act`` reads by scanning, in several runs on one connection."""
    watcher = await asyncpg.connect(url)
    connection = await asyncpg.connect(url)
    before = await scans(watcher)
    for _ in range(7):  # the sixth execution may be planned for any parameters
        await act(connection)
    await connection.execute("SELECT pg_stat_force_next_flush()")
    await connection.close()
    while await watcher.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'"
    ):
        await asyncio.sleep(0.005)
    after = await scans(watcher)
    await watcher.close()
    return {table: after[table] - before[table] for table in after if after[table] != before[table]}


async def test_a_scan_would_be_seen(crowded_url: str) -> None:
    async def count(connection: Any) -> None:
        await connection.fetchval("SELECT count(*) FROM reconciliation_logs WHERE volume > 5")

    assert await scanned(crowded_url, count) == {"reconciliation_logs": 7 * (ROWS + OTHERS * 10)}


async def test_a_live_query_scans_nothing(crowded_url: str) -> None:
    async def evaluate(connection: Any) -> None:
        (evaluation,) = await LIVE_QUERIES.evaluate(connection, [HEAVY])
        assert evaluation.state["positions"]["total_positions"] == 10

    assert await scanned(crowded_url, evaluate) == {}


async def test_a_sweep_scans_nothing(crowded_url: str) -> None:
    async def look(connection: Any) -> None:
        swept = await sweep(connection, [HEAVY], [1], timeout_seconds=5)
        assert [user for user, _, _ in swept.changed] == [HEAVY]

    assert await scanned(crowded_url, look) == {}


async def test_housekeeping_scans_nothing(crowded_url: str) -> None:
    async def keep(connection: Any) -> None:
        await connection.execute(
            "UPDATE guardwire.accounts"
            " SET sync_due_at = now(), last_sync_arrived_at = now() - interval '1 day', source = 'live'"
            " WHERE user_id = $1",
            HEAVY,
        )
        assert (await housekeep(connection)).fell_silent >= 1

    assert await scanned(crowded_url, keep) == {}


async def test_housekeeping_with_nothing_due_scans_nothing(crowded_url: str) -> None:
    async def keep(connection: Any) -> None:
        await housekeep(connection)

    assert await scanned(crowded_url, keep) == {}


async def test_reading_a_position_by_an_id_scans_nothing(crowded_url: str) -> None:
    async with connected(crowded_url) as connection:
        row = await connection.fetchval(
            "SELECT id FROM reconciliation_logs WHERE user_id = $1 OFFSET 5000 LIMIT 1", HEAVY
        )
    engine = create_async_engine(driver_url(crowded_url))

    async def find(_connection: Any) -> None:
        assert await find_position(engine, user_id=HEAVY, position_id=row) is not None
        assert await find_position(engine, user_id=HEAVY, position_id=uuid4()) is None
        await engine.dispose()

    assert await scanned(crowded_url, find) == {}


PLAIN = {"symbol": "XAUUSD", "volume": 1, "entry_price": 100}

CHANGES: dict[str, Callable[[DatabaseWriter], Awaitable[object]]] = {
    "a plain sync": lambda writer: writer.sync(3600, **PLAIN),
    "plain equity": lambda writer: writer.equity(1001, 3600, currency="GBP"),
    "a new position": lambda writer: writer.sync(3600, ticket=uuid4().int % 10**9),
    "a close": lambda writer: writer.close(3600),
    "a late row": lambda writer: writer.sync(-30_000),
    "a divergence": lambda writer: writer.sync(3600, event_type="divergence"),
    "a guard trigger": lambda writer: writer.guard("gap", 100, 120, 3600),
    "equity of another level": lambda writer: writer.equity(800, 3600, currency="GBP"),
    "late equity": lambda writer: writer.equity(900, -30_000, currency="GBP"),
    "equity with a flow": lambda writer: writer.equity(900, 3600, cash_flow=-100, currency="GBP"),
    "limits": lambda writer: writer.set_limits(minimum_equity=1),
    "limits that are gone": lambda writer: writer.execute("DELETE FROM guard_limits"),
    "an instrument": lambda writer: writer.execute(
        "UPDATE public.instruments SET pip_size = 1 WHERE symbol = 'XAUUSD'"
    ),
    "a rate": lambda writer: writer.rate("GBP", "USD", 1.2),
    "a row for nobody": lambda writer: writer.sync(user_id=None),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_a_change_scans_nothing(
    crowded_url: str, change: Callable[[DatabaseWriter], Awaitable[object]]
) -> None:
    async def write(connection: Any) -> None:
        await change(DatabaseWriter(connection, HEAVY))

    assert await scanned(crowded_url, write) == {}


async def test_a_backlog_is_applied_without_a_scan(crowded_url: str) -> None:
    """The planner has no statistics of a table that is empty most of the time."""

    async def write(connection: Any) -> None:
        writer = DatabaseWriter(connection, HEAVY, applies=False)
        await writer.execute(
            """INSERT INTO reconciliation_logs (user_id, mt5_position_id, event_type, matched)
               SELECT CASE WHEN n % 2 = 0 THEN $1::uuid ELSE md5((n % 100)::text)::uuid END, n % 10, 'sync', 1
               FROM generate_series(1, 500) AS n""",
            HEAVY,
        )
        await writer.apply(batch_rows=100)

    assert await scanned(crowded_url, write) == {}


# ---------------------------------------------------------------- pages


async def pages(connection: Any, statement: str, *arguments: Any) -> int:
    """Pages that a statement touches, with everything that its functions do."""
    explained = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", *arguments)
    plan = json.loads(explained)[0]
    nodes = (plan["Plan"], plan.get("Planning", {}))
    return sum(int(node.get(f"Shared {kind} Blocks", 0)) for node in nodes for kind in ("Hit", "Read"))


async def pages_of_an_append(url: str) -> tuple[int, int]:
    """Pages that a plain append and its application touch; the least of several."""
    async with connected(url) as connection:
        writer = DatabaseWriter(connection, HEAVY, applies=False)
        counted = []
        for second in range(12):
            written = await pages(
                connection,
                "INSERT INTO reconciliation_logs (user_id, mt5_position_id, event_type, matched, symbol, volume,"
                " entry_price, current_price, direction, created_at)"
                " VALUES ($1, 1, 'sync', 1, 'XAUUSD', 1, 100, 101, 'buy', $2)",
                HEAVY,
                writer.at(3600 + second),
            )
            counted.append((written, await pages(connection, "SELECT guardwire.apply(0, 1000)")))
        assert await writer.inbox() == []
    return min(written for written, _ in counted), min(applied for _, applied in counted)


async def test_an_append_touches_as_much_after_10000_rows_as_after_none(
    crowded_url: str, migrated_url: str
) -> None:
    few, many = await pages_of_an_append(migrated_url), await pages_of_an_append(crowded_url)
    assert 0 < many[0] <= few[0] + 8  # the indexes are a level or two deeper
    assert 0 < many[1] <= few[1] + 20


async def test_equity_is_appended_and_comes_late_without_a_look_at_the_history(crowded_url: str) -> None:
    read = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'equity_snapshots'"
    async with connected(crowded_url) as connection:
        writer = DatabaseWriter(connection, HEAVY)
        await writer.equity(1000, 4000, cash_flow=5, currency="GBP")
        await connection.execute("SELECT pg_stat_force_next_flush()")
        before = await connection.fetchval(read)
        for number in range(10):
            await writer.equity(1001, 5000 + number, currency="GBP")
            await writer.equity(1001, 100 + number, currency="GBP")
        await connection.execute("SELECT pg_stat_force_next_flush()")
        # Each reads itself and, when it is late, the one row with a cash flow.
        assert await connection.fetchval(read) - before < 100


# ---------------------------------------------------------------- dead rows


@pytest.fixture(params=["a reader", "a writer elsewhere"])
async def long_transaction(request: pytest.FixtureRequest, connect: Connect) -> AsyncIterator[None]:
    """A transaction that began long ago, and for which the server keeps every row that was deleted since."""
    connection = await connect()
    async with connection.transaction(isolation="repeatable_read"):
        await connection.fetchval("SELECT count(*) FROM guardwire.inbox")
        if request.param == "a writer elsewhere":
            await connection.execute("CREATE TABLE public.elsewhere ()")
        yield


@pytest.mark.usefixtures("long_transaction")
async def test_rows_that_were_applied_and_cannot_be_removed_yet_are_not_walked_over(
    writer: DatabaseWriter,
) -> None:
    """Otherwise each batch would cost all rows of the last hour."""
    statements: dict[str, tuple[str, tuple[Any, ...]]] = {
        "apply": ("SELECT guardwire.apply(0, 1000)", ()),
        "waiting": (
            "SELECT * FROM guardwire.waiting_accounts($1::uuid[], pg_current_snapshot())",
            ([writer.user_id],),
        ),
        "status": ("SELECT * FROM guardwire.inbox_status()", ()),
        "housekeeping": ("SELECT * FROM guardwire.housekeep()", ()),
        "renewal": ("SELECT guardwire.renew_lease(0, 60)", ()),
        "late equity": ("SELECT guardwire.waiting_rows($1, 'e', '{}', 0)", (writer.user_id,)),
        "backfill": ("SELECT guardwire.backfill_next()", ()),
    }

    async def measure() -> dict[str, int]:
        writer.applies = True
        await writer.sync()
        await writer.execute(
            "UPDATE guardwire.accounts"
            " SET sync_due_at = now(), last_sync_arrived_at = now() - interval '1 day', source = 'live'"
        )
        writer.applies = False
        await renew(writer.connection)
        found = {}
        for name in ("housekeeping", *statements):
            await writer.sync(1)
            statement, arguments = statements[name]
            found[name] = await pages(writer.connection, statement, *arguments)
            await writer.apply()
        return found

    before = await measure()
    writer.applies = False
    for _ in range(10):
        await writer.execute(
            """INSERT INTO reconciliation_logs (user_id, mt5_position_id, event_type, matched)
               SELECT $1, 1 + n % 10, 'sync', 1 FROM generate_series(1, 1000) AS n""",
            writer.user_id,
        )
        await writer.apply()
    await writer.connection.execute("VACUUM guardwire.inbox")
    dead = await writer.value(
        "SELECT pg_table_size('guardwire.inbox') / current_setting('block_size')::integer"
    )
    assert dead > 500
    after = await measure()
    for name, touched in after.items():
        # Rows of accounts and positions, which keep dead versions too, are found by their own indexes.
        assert touched < before[name] + 150, (name, before, after)
