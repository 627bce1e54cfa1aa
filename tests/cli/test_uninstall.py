"""`guardwire uninstall` removes the triggers alone, or everything, from a database in use."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from typing import Any, Final
from uuid import UUID

import pytest

from queries.alert_calls import Beat, beat, put_endpoint, send_test, set_arming
from queries.capture import rebuild_all
from queries.migrations import run
from queries.migrations.run import migrate
from queries.migrations.uninstall import remove_everything, remove_triggers
from realtime.audit.capture import check_capture
from realtime.errors import MigrationError
from tests.cli.conftest import Guardwire
from tests.end_to_end.node import Node, node
from tests.inbox import wait_for_empty_inbox
from tests.queries.database_writer import DatabaseWriter, connected

TRIGGERS: Final = """
SELECT count(*) FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
WHERE t.tgname LIKE 'guardwire\\_%' AND c.relnamespace = 'public'::regnamespace AND NOT t.tgisinternal
"""
#: Each has a row in the test.
ALERT_TABLES: Final = (
    "alerts", "alert_log", "escalation", "endpoints", "deliveries", "arming", "attendants", "attendance",
    "attendance_clock",
)  # fmt: skip


async def read(server: Node, user_id: UUID) -> tuple[Any, bool]:
    """The account's positions over REST, and the ``stale`` flag of the answer."""
    headers = {"Authorization": f"Bearer {server.token(user_id)}"}
    response = await server.client.get("/api/v1/positions/open", headers=headers)
    return response.json(), response.headers.get("guardwire-stale") == "true"


async def wait_for(server: Node, user_id: UUID, *, positions: int, stale: bool) -> None:
    async with asyncio.timeout(20):
        while True:
            shown, is_stale = await read(server, user_id)
            if shown.get("total_positions") == positions and is_stale == stale:
                return
            await asyncio.sleep(0.05)


async def test_without_triggers_accounts_are_stale_until_a_migration_has_read_what_was_missed(
    guardwire: Guardwire, migrated_url: str
) -> None:
    async with connected(migrated_url) as connection, node(migrated_url) as server:
        writer = DatabaseWriter(connection, applies=False)
        newcomer = writer.of()
        await writer.sync(ticket=1)
        await wait_for(server, writer.user_id, positions=1, stale=False)
        done = await asyncio.to_thread(guardwire, "uninstall", "--triggers-only", DATABASE_URL=migrated_url)
        assert done.returncode == 0, done.stderr
        assert "removed: guardwire_copy ON public.reconciliation_logs" in done.stderr
        assert "every account is stale until `guardwire migrate`" in done.stderr
        assert await connection.fetchval(TRIGGERS) == 0
        await writer.sync(1, ticket=2)
        await newcomer.sync(1, ticket=3)
        assert await writer.inbox() == []
        await wait_for(server, writer.user_id, positions=1, stale=True)
        await wait_for(server, newcomer.user_id, positions=0, stale=True)

        again = await asyncio.to_thread(guardwire, "migrate", DATABASE_URL=migrated_url)
        assert again.returncode == 0, again.stderr
        await wait_for(server, writer.user_id, positions=2, stale=False)
        await wait_for(server, newcomer.user_id, positions=1, stale=False)
        assert await check_capture(connection) == []
        await writer.sync(2, ticket=4)
        await wait_for_empty_inbox(connection)
        await wait_for(server, writer.user_id, positions=3, stale=False)


async def test_a_locked_table_keeps_no_statement_from_being_free_of_guardwire(
    migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(run, "ATTEMPTS", 2)
    progress: list[str] = []
    async with connected(migrated_url) as holder, connected(migrated_url) as other:
        writer = DatabaseWriter(other, applies=False)
        async with holder.transaction():
            await DatabaseWriter(holder, applies=False).sync()
            with pytest.raises(MigrationError, match="stayed locked by another transaction"):
                await remove_triggers(migrated_url, progress=progress.append)
            assert progress[0].startswith("no statement of the platform does any work for Guardwire any more")
            assert re.search(
                r"process \d+ \(unnamed, idle in transaction\) holds reconciliation_logs", progress[1]
            )
            begun = time.monotonic()
            await writer.sync()
            assert time.monotonic() - begun < 10, "a writer waited behind the attempt to drop the triggers"
            assert await writer.inbox() == []
        assert [row["reason"] for row in await writer.set_aside()] == [
            "the triggers were taken out by guardwire uninstall; guardwire migrate brings them back"
        ]
        await rebuild_all(other, progress=lambda *_: None)
        assert len(await writer.set_aside()) == 1, "a rebuild brings no trigger back, so accounts stay stale"
        await remove_triggers(migrated_url, progress=progress.append)
        assert await other.fetchval(TRIGGERS) == 0


async def test_only_yes_takes_everything_out_and_the_platforms_rows_stay(
    guardwire: Guardwire, migrated_url: str
) -> None:
    async with connected(migrated_url) as connection:
        writer = DatabaseWriter(connection)
        await writer.sync()
        await writer.equity(10_000)
        asked = guardwire("uninstall", DATABASE_URL=migrated_url)
        assert asked.returncode == 2
        assert "trigger guardwire_truncate ON public.instruments" in asked.stderr
        assert re.search(r"schema guardwire, \d+ tables, \d+ kB", asked.stderr)
        assert "Nothing was done" in asked.stderr
        assert await connection.fetchval(TRIGGERS) == 7

        done = guardwire("uninstall", "--yes", DATABASE_URL=migrated_url)
        assert done.returncode == 0, done.stderr
        assert await connection.fetchval("SELECT to_regnamespace('guardwire')") is None
        assert await connection.fetchval(TRIGGERS) == 0
        for table in ("reconciliation_logs", "equity_snapshots", "guard_limits", "instruments", "fx_rates"):
            assert await connection.fetchval(f"SELECT count(*) >= 0 FROM {table}")
        assert await connection.fetchval("SELECT count(*) FROM reconciliation_logs") == 1

        again = guardwire("uninstall", "--triggers-only", DATABASE_URL=migrated_url)
        assert (again.returncode, "not installed" in again.stderr) == (1, True)
        await migrate(migrated_url)
        assert set(await writer.book()) == {"1"}


async def test_alerts_attendance_and_webhooks_go_with_everything(migrated_url: str) -> None:
    async with connected(migrated_url) as connection:
        writer = DatabaseWriter(connection)
        endpoint = await put_endpoint(
            connection, writer.user_id, kind="webhook", url="https://hooks.example/"
        )
        assert endpoint is not None
        await send_test(connection, writer.user_id, endpoint)
        await writer.equity(10_000)
        await writer.equity(8_000, 1)
        await set_arming(connection, writer.user_id, armed=True, by_name="owner")
        await beat(connection, [Beat(writer.user_id, "closer-1", 15.0)])
        for table in ALERT_TABLES:
            assert await connection.fetchval(f"SELECT count(*) FROM guardwire.{table}") > 0, table
        await remove_everything(migrated_url, progress=lambda _: None)
        for table in ALERT_TABLES:
            assert await connection.fetchval("SELECT to_regclass($1)", f"guardwire.{table}") is None
        await migrate(migrated_url)
        # The guard is critical, so its alert is raised anew; what people set up is gone.
        (alert,) = (await writer.state())["alerts"]["open"].values()
        assert (alert["kind"], alert["generation"]) == ("drawdown", 1)
        for table in ("endpoints", "deliveries", "arming", "attendants", "attendance"):
            assert await connection.fetchval(f"SELECT count(*) FROM guardwire.{table}") == 0, table


def test_either_the_triggers_or_everything(guardwire: Guardwire, migrated_url: str) -> None:
    refused = guardwire("uninstall", "--triggers-only", "--yes", DATABASE_URL=migrated_url)
    assert refused.returncode == 2
    assert "Either the triggers alone" in refused.stderr


async def test_triggers_of_partitions_are_taken_out_too(migrated_url: str) -> None:
    async with connected(migrated_url) as connection:
        await connection.execute("""
            DROP TABLE public.equity_snapshots;
            CREATE TABLE public.equity_snapshots (
                id uuid DEFAULT gen_random_uuid(), user_id uuid, equity numeric, balance numeric, currency text,
                cash_flow numeric, created_at timestamptz, PRIMARY KEY (id, created_at)
            ) PARTITION BY RANGE (created_at);
            CREATE TABLE public.equity_all PARTITION OF public.equity_snapshots DEFAULT;
        """)
        await migrate(migrated_url)
        await remove_triggers(migrated_url, progress=lambda _: None)
        assert await connection.fetchval(TRIGGERS) == 0


async def test_a_view_of_somebody_else_is_not_dropped_without_a_word(migrated_url: str) -> None:
    async with connected(migrated_url) as connection:
        await connection.execute("CREATE VIEW public.money AS SELECT user_id, equity FROM guardwire.accounts")
        with pytest.raises(
            MigrationError, match=r"drop these first, which use schema guardwire: view public\.money"
        ):
            await remove_everything(migrated_url, progress=lambda _: None)
        assert await connection.fetchval(TRIGGERS) == 7
        await connection.execute("DROP VIEW public.money")
        await remove_everything(migrated_url, progress=lambda _: None)
        assert await connection.fetchval("SELECT to_regnamespace('guardwire')") is None


async def test_a_login_that_may_not_is_one_sentence(migrated_url: str) -> None:
    login = f"stranger_{secrets.token_hex(4)}"
    async with connected(migrated_url) as connection:
        await connection.execute(f"CREATE ROLE {login} LOGIN PASSWORD 'a'")
        try:
            with pytest.raises(
                MigrationError, match=r"this login may not take the triggers out: .*permission denied"
            ):
                await remove_triggers(
                    re.sub(r"//[^@]*@", f"//{login}:a@", migrated_url), progress=lambda _: None
                )
        finally:
            await connection.execute(f"DROP ROLE {login}")
