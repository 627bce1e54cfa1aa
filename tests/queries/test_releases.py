"""Upgrades: a dump of each released version becomes a database of this release, while writers write.

``releases/NAME.sql`` is `pg_dump --inserts` of a database that the release NAME made, with accounts in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import pytest

from guardwire.patch import State
from queries.capture import backfill, rebuild
from queries.channels import LIVE_QUERIES
from queries.migrations.run import migrate
from realtime.audit.capture import check_capture
from tests.audit.auditing import differences
from tests.inbox import apply_inbox

RELEASES: Final = sorted(Path(__file__).with_name("releases").glob("*.sql"))
#: Accounts of the dumps: one with a book, one in a breach with limits of its own, one whose row waits as a note.
BOOK, BREACH, WAITING = (
    UUID(f"{digit * 8}-{digit * 4}-4{digit * 3}-8{digit * 3}-{digit * 12}") for digit in "123"
)

# The sweep of 0.1.0, which its nodes go on sending until they are drained.
_SWEEP_OF_0_1_0: Final = "SELECT count(*) FROM (SELECT told_channel FROM guardwire.configuration) AS canary"
_TOTAL_SYNCS: Final = (
    "SELECT coalesce(sum(total_syncs), 0)::integer FROM guardwire.accounts WHERE user_id = $1"
)
_SYNC: Final = """
INSERT INTO reconciliation_logs
    (user_id, mt5_position_id, symbol, direction, volume, entry_price, current_price, matched, event_type)
VALUES ($1, 1, 'XAUUSD', 'buy', 0.1, 1950.5, $2, 1, 'sync')
"""
_SHAPE: Final = """
SELECT c.relname || '.' || a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS required,
       pg_get_expr(d.adbin, d.adrelid) AS value, col_description(c.oid, a.attnum) AS meaning
FROM pg_class AS c
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = 'guardwire'::regnamespace AND c.relkind IN ('r', 'i')
UNION ALL
SELECT p.oid::regprocedure::text, pg_get_functiondef(p.oid), p.prosecdef, NULL, NULL
FROM pg_proc AS p WHERE p.pronamespace = 'guardwire'::regnamespace
UNION ALL
SELECT t.tgrelid::regclass || '.' || t.tgname, pg_get_triggerdef(t.oid), t.tgenabled = 'A', NULL, NULL
FROM pg_trigger AS t WHERE NOT t.tgisinternal
UNION ALL
SELECT c.conrelid::regclass || '.' || c.conname, pg_get_constraintdef(c.oid), true, NULL, NULL
FROM pg_constraint AS c WHERE c.connamespace = 'guardwire'::regnamespace
"""


@pytest.fixture(params=RELEASES, ids=lambda path: path.stem)
async def released(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[tuple[str, Any]]:
    """The URL of a database as the release left it, and a connection to it."""
    loading = await asyncpg.connect(database_url)
    await loading.execute(request.param.read_text())
    await loading.close()
    connection = await asyncpg.connect(database_url)
    yield database_url, connection
    await connection.close()


async def _state(connection: Any, user_id: UUID) -> State:
    (evaluation,) = await LIVE_QUERIES.evaluate(connection, [user_id])
    return evaluation.state


async def _shape(connection: Any) -> set[tuple[Any, ...]]:
    return {tuple(row) for row in await connection.fetch(_SHAPE)}


async def test_an_upgraded_database_has_the_shape_of_a_new_one(
    released: tuple[str, Any], migrated_url: str
) -> None:
    url, connection = released
    await migrate(url)
    fresh = await asyncpg.connect(migrated_url)
    try:
        expected, found = await _shape(fresh), await _shape(connection)
    finally:
        await fresh.close()
    assert found - expected == set()
    assert expected - found == set()
    assert await check_capture(connection) == []


async def test_accounts_are_right_after_the_upgrade_without_a_manual_step(released: tuple[str, Any]) -> None:
    url, connection = released
    await migrate(url)
    await apply_inbox(connection)
    book = await _state(connection, BOOK)
    assert set(book["positions"]["open"]) == {"1", "2"}
    assert book["status"]["divergences_detected"] == 1
    assert book["guards"]["drawdown"]["current_equity"] == 9400.0
    breach = await _state(connection, BREACH)
    assert breach["guards"]["drawdown"]["alert_type"] == "critical"
    assert breach["guards"]["drawdown"]["critical_pct"] == 10.0
    assert len(breach["guards"]["breaches"]) == 1
    waited = await _state(connection, WAITING)
    assert set(waited["positions"]["open"]) == {"9"}


_EQUITY = """
INSERT INTO equity_snapshots (id, user_id, equity, balance, currency, cash_flow, created_at)
VALUES (gen_random_uuid(), $1, $2, $2, 'USD', $3, now() - make_interval(secs => $4))
"""


@pytest.mark.parametrize("gone", [[10_000], [10_000, 8_600], []])
async def test_a_peak_whose_row_was_removed_is_scaled_by_the_flows_on_record(
    released: tuple[str, Any], gone: list[int]
) -> None:
    """10,000 fell to 8,600, which is 14 %, and 3,000 were withdrawn."""
    url, connection = released
    user_id = uuid4()
    for equity, flow, ago in ((10_000, 0, 30), (8_600, 0, 20), (5_600, -3_000, 10)):
        await connection.execute(_EQUITY, user_id, equity, flow, ago)
    await connection.execute(
        "DELETE FROM equity_snapshots WHERE user_id = $1 AND equity = ANY ($2)", user_id, gone
    )
    said: list[str] = []
    await migrate(url, progress=said.append)
    drawdown = (await _state(connection, user_id))["guards"]["drawdown"]
    assert (drawdown["peak_equity"], drawdown["current_drawdown_pct"]) == (6511.63, 14.0)
    assert not [line for line in said if str(user_id) in line]


async def test_an_account_whose_peak_and_flows_were_removed_is_named(released: tuple[str, Any]) -> None:
    url, connection = released
    user_id = uuid4()
    for equity, flow, ago in ((10_000, 0, 30), (8_600, 0, 20), (5_600, -3_000, 10), (5_500, 0, 5)):
        await connection.execute(_EQUITY, user_id, equity, flow, ago)
    await connection.execute(
        "CREATE TABLE removed AS SELECT * FROM equity_snapshots WHERE user_id = '"
        + str(user_id)
        + "' AND equity > 5500"
    )
    await connection.execute("DELETE FROM equity_snapshots WHERE id IN (SELECT id FROM removed)")
    said: list[str] = []
    await migrate(url, progress=said.append)
    assert [line for line in said if f"rebuild --user {user_id}" in line]
    assert (await _state(connection, user_id))["guards"]["drawdown"]["peak_equity"] == 5500.0
    await connection.execute("ALTER TABLE equity_snapshots DISABLE TRIGGER USER")
    await connection.execute("INSERT INTO equity_snapshots SELECT * FROM removed")
    await rebuild(connection, user_id)
    assert (await _state(connection, user_id))["guards"]["drawdown"]["peak_equity"] == 6511.63
    said.clear()
    await migrate(url, progress=said.append)
    assert not [line for line in said if str(user_id) in line]


async def test_an_account_whose_peak_is_reset_after_the_upgrade_is_not_named_again(
    released: tuple[str, Any],
) -> None:
    url, connection = released
    user_id = uuid4()
    for equity, flow, ago in ((10_000, 0, 30), (5_600, -3_000, 10), (5_500, 0, 5)):
        await connection.execute(_EQUITY, user_id, equity, flow, ago)
    await connection.execute("DELETE FROM equity_snapshots WHERE user_id = $1 AND equity > 5500", user_id)
    said: list[str] = []
    await migrate(url, progress=said.append)
    await connection.execute("INSERT INTO guard_limits (user_id, peak_since) VALUES ($1, now())", user_id)
    await apply_inbox(connection)
    await migrate(url, progress=said.append)
    assert len([line for line in said if f"peak reset --user {user_id}" in line]) == 1


async def test_writers_go_on_during_the_upgrade_and_no_row_is_missed(released: tuple[str, Any]) -> None:
    url, connection = released
    stopped = asyncio.Event()

    async def write() -> int:
        written = 0
        writer = await asyncpg.connect(url)
        try:
            while not stopped.is_set():
                await writer.execute(_SYNC, WAITING, 1951 + written % 7)
                written += 1
        finally:
            await writer.close()
        return written

    before = await connection.fetchval(_TOTAL_SYNCS, WAITING)
    writers = [asyncio.create_task(write()) for _ in range(3)]
    try:
        await migrate(url)
    finally:
        stopped.set()
        written = sum(await asyncio.gather(*writers))
    await backfill(connection, progress=lambda _: None)
    await apply_inbox(connection)
    # The row that waited as a note counts as well.
    assert (await _state(connection, WAITING))["status"]["total_syncs"] == before + written + 1


async def test_nodes_of_the_release_before_can_call_nothing_fresh_any_more(released: tuple[str, Any]) -> None:
    url, connection = released
    assert await connection.fetchval(_SWEEP_OF_0_1_0) == 1
    await migrate(url)
    with pytest.raises(asyncpg.UndefinedColumnError):
        await connection.fetchval(_SWEEP_OF_0_1_0)


async def test_the_way_back_is_to_remove_everything_and_to_read_the_history_anew(
    released: tuple[str, Any],
) -> None:
    url, connection = released
    await migrate(url)
    await connection.execute("DROP SCHEMA guardwire CASCADE")
    await connection.execute(_SYNC, BOOK, 1999)
    assert not await connection.fetchval(
        "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'guardwire%' AND NOT tgisinternal"
    )
    await migrate(url)
    assert set((await _state(connection, BOOK))["positions"]["open"]) == {"1", "2"}


async def test_an_audit_finds_a_breach_of_a_released_version_that_has_no_alert(
    released: tuple[str, Any],
) -> None:
    url, connection = released
    await migrate(url)
    assert await differences(connection, BREACH) == []
    standing = await connection.fetch(
        "SELECT kind, symbol, condition_type FROM guardwire.breaches WHERE user_id = $1 AND cleared_at IS NULL",
        BREACH,
    )
    assert standing
    await connection.execute("DELETE FROM guardwire.alerts")
    found = await differences(connection, BREACH)
    assert len(found) == len(standing)
    assert all("alerts/open of " in line and "should be 'open' and is nothing" in line for line in found), (
        found
    )
    await rebuild(connection, BREACH)
    assert await differences(connection, BREACH) == []
