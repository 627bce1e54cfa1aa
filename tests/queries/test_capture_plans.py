"""What a commit costs does not grow with the log: the capture finds everything by an index."""

from __future__ import annotations

import json
from typing import Any

import pytest

from queries.capture import housekeep
from tests.queries import legacy
from tests.queries.platform import Platform, at

HISTORY = """
INSERT INTO reconciliation_logs
    (user_id, mt5_position_id, symbol, event_type, volume, entry_price, direction, created_at)
SELECT md5((n % 200)::text)::uuid, 1 + n % 3, 'EURUSD', 'sync', 0.1, 1.1, 'buy',
       $1::timestamptz + n * interval '1 second'
FROM generate_series(1, 6000) AS n
"""

#: Small by design: one row, or as many as there are pairs of currencies.
SMALL = {"configuration", "backfill", "epoch", "reference", "fx_current", "pending", "instruments"}


async def _scans(platform: Platform) -> dict[str, int]:
    await platform.connection.execute("SELECT pg_stat_force_next_flush()")
    rows = await platform.connection.fetch("SELECT relname, seq_scan FROM pg_stat_user_tables")
    return {row["relname"]: row["seq_scan"] for row in rows if row["relname"] not in SMALL}


async def test_commits_of_every_kind_scan_no_table(platform: Platform) -> None:
    await platform.connection.execute(HISTORY, at(0))
    await platform.equity(1000)
    await platform.connection.execute("ANALYZE")
    before = await _scans(platform)
    await platform.sync(created_at=at(1))
    await platform.sync(created_at=at(2))
    row_id = await platform.sync(created_at=at(3), volume="0.2")
    await platform.update(row_id, close_reason="tp")
    async with platform.connection.transaction():
        await platform.sync(8)
        await platform.sync(9)
    await platform.guard("gap", 100, 120)
    await platform.equity(900, 5)
    await platform.equity(950, 3)
    await platform.insert("fx_rates", base="EUR", quote="USD", rate=1)
    await housekeep(platform.connection)
    scanned = {name for name, scans in (await _scans(platform)).items() if scans > before.get(name, 0)}
    assert scanned == set()
    assert await platform.notes() == []


def _nodes(plan: dict[str, Any]) -> list[tuple[str, str]]:
    found = [(plan["Node Type"], plan.get("Relation Name", ""))]
    return found + [node for child in plan.get("Plans", ()) for node in _nodes(child)]


async def _plan(connection: Any, statement: str) -> list[tuple[str, str]]:
    (row,) = await connection.fetch(f"EXPLAIN (FORMAT JSON) {statement}")
    return _nodes(json.loads(row[0])[0]["Plan"])


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM guardwire.log_rows() WHERE id = 'a0000000-0000-4000-8000-000000000000'",
        "SELECT * FROM guardwire.log_rows() WHERE user_id = 'a0000000-0000-4000-8000-000000000000'",
        "SELECT l.* FROM unnest('{}'::uuid[]) AS k (id) JOIN guardwire.log_rows() AS l ON l.id = k.id",
        "SELECT * FROM guardwire.equity_rows() WHERE id = 'a0000000-0000-4000-8000-000000000000'",
        "SELECT * FROM guardwire.fx_rows() WHERE id = 'a0000000-0000-4000-8000-000000000000'",
    ],
)
async def test_readings_are_inlined_so_that_a_condition_on_them_uses_the_index(
    platform: Platform, statement: str
) -> None:
    await platform.connection.execute(HISTORY, at(0))
    await platform.connection.execute("SET enable_seqscan = off")
    plan = await _plan(platform.connection, statement)
    assert {node for node, relation in plan if relation} <= {"Index Scan", "Bitmap Heap Scan"}
    assert [relation for _, relation in plan if relation]


async def test_a_legacy_log_is_read_by_its_index_on_the_written_user(database_url: str) -> None:
    from queries.migrations.run import migrate
    from tests.queries.platform import connected

    async with connected(database_url) as connection:
        await legacy.make(connection, rows_per_user=200)
        await migrate(database_url, read_history=False)
        await connection.execute("ANALYZE; SELECT pg_stat_force_next_flush()")
        scans = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'reconciliation_logs'"
        before = await connection.fetchval(scans)
        assert await connection.fetchval("SELECT guardwire.read_history(md5('1')::uuid)") == 200
        await connection.execute("SELECT pg_stat_force_next_flush()")
        assert await connection.fetchval(scans) == before
