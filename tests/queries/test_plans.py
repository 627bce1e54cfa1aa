"""Reading costs what is shown, a commit what it brings: history and other accounts cost nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
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
from tests.queries.ledger import Ledger

ROWS = 50_000
OTHERS = 200
IDLE = 20_000
#: Tables that grow; a scan of one is what these tests are there to find.
LARGE = {"reconciliation_logs", "equity_snapshots", "accounts", "positions", "arrivals", "events", "breaches"}

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
    await connection.execute(read_sql("tables.sql"))
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
        """INSERT INTO equity_snapshots (user_id, equity, currency, created_at)
           SELECT $1, 1000, 'GBP', now() - ($2 - n) * interval '1 second'
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
    # Of a table of a few pages a scan is the right plan.
    await connection.execute(
        """INSERT INTO guardwire.accounts (user_id, revision)
           SELECT gen_random_uuid(), 1 FROM generate_series(1, $1::integer)""",
        IDLE,
    )
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


@pytest.fixture
def crowded_url(databases: Databases, crowded_template: str) -> Iterator[str]:
    url = databases.make(like=crowded_template)
    yield url
    databases.drop(url)


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
    watcher = await asyncpg.connect(crowded_url)
    row = await watcher.fetchval(
        "SELECT id FROM reconciliation_logs WHERE user_id = $1 OFFSET 30000 LIMIT 1", HEAVY
    )
    await watcher.close()
    engine = create_async_engine(driver_url(crowded_url))

    async def find(_connection: Any) -> None:
        assert await find_position(engine, user_id=HEAVY, position_id=row) is not None
        assert await find_position(engine, user_id=HEAVY, position_id=uuid4()) is None
        await engine.dispose()

    assert await scanned(crowded_url, find) == {}


COMMITS: dict[str, Callable[[Ledger], Awaitable[object]]] = {
    "a plain sync": lambda ledger: ledger.log(HEAVY, 3600, symbol="XAUUSD", volume=1, entry_price=100),
    "a new position": lambda ledger: ledger.log(HEAVY, 3600, mt5_position_id=uuid4().int % 10**9),
    "a close": lambda ledger: ledger.close(HEAVY, 3600),
    "a late row": lambda ledger: ledger.log(HEAVY, -30_000),
    "a divergence": lambda ledger: ledger.log(HEAVY, 3600, event_type="divergence"),
    "a guard trigger": lambda ledger: ledger.log(HEAVY, 3600, event_type="guard_trigger"),
    "equity": lambda ledger: ledger.equity(HEAVY, 900, 3600, currency="GBP"),
    "late equity": lambda ledger: ledger.equity(HEAVY, 900, -30_000, currency="GBP"),
    "equity with a flow": lambda ledger: ledger.equity(HEAVY, 900, 3600, cash_flow=-100, currency="GBP"),
    "limits": lambda ledger: ledger.connection.execute(
        "INSERT INTO guard_limits (user_id) VALUES ($1)"
        " ON CONFLICT (user_id) DO UPDATE SET minimum_equity = 1",
        HEAVY,
    ),
    "an instrument": lambda ledger: ledger.connection.execute(
        "UPDATE instruments SET pip_size = 1 WHERE symbol = 'XAUUSD'"
    ),
    "a rate": lambda ledger: ledger.connection.execute(
        "INSERT INTO fx_rates (base, quote, rate) VALUES ('GBP', 'USD', 1.2)"
    ),
    "a row for nobody": lambda ledger: ledger.log(None),
}


@pytest.mark.parametrize("commit", COMMITS.values(), ids=COMMITS)
async def test_a_commit_scans_nothing(
    crowded_url: str, commit: Callable[[Ledger], Awaitable[object]]
) -> None:
    async def write(connection: Any) -> None:
        await commit(Ledger(connection))

    assert await scanned(crowded_url, write) == {}


async def pages_of_a_commit(url: str) -> int:
    """Pages that a plain append and its capture touch, as the server counts them; the least of several."""
    connection = await asyncpg.connect(url)
    counted: list[int] = []
    for _ in range(12):
        await connection.execute("SELECT pg_stat_force_next_flush()")
        before = await connection.fetchval(_TOUCHED)
        await Ledger(connection).log(HEAVY, 3600, volume=1, entry_price=100)
        await connection.execute("SELECT pg_stat_force_next_flush()")
        counted.append(await connection.fetchval(_TOUCHED) - before)
    await connection.close()
    return min(counted)


_TOUCHED = """
SELECT sum(heap_blks_hit + heap_blks_read + coalesce(idx_blks_hit, 0) + coalesce(idx_blks_read, 0))::bigint
FROM pg_statio_user_tables
"""


async def test_an_append_touches_as_much_after_50000_rows_as_after_none(
    crowded_url: str, migrated_url: str
) -> None:
    few, many = await pages_of_a_commit(migrated_url), await pages_of_a_commit(crowded_url)
    assert few > 0
    assert many <= few + 15  # the indexes are a level or two deeper
