"""The applier on a real database: it wakes, it applies, it is replaced, and there are never two."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from queries.search_path import connect
from realtime.database import engine_for
from realtime.feed.applier import Applier, ApplierTiming
from realtime.feed.changes import Changes
from realtime.metrics import METRICS
from tests.feed.node import sync
from tests.inbox import wait_for_empty_inbox
from tests.queries.database_writer import connected
from tests.waiting import until

QUICK = ApplierTiming(
    lease=1.0, renew=0.2, look=0.2, poll_busy=0.005, poll_idle=0.02, retry=0.05, statement=0.5
)


class RunningApplier:
    """A running applier, and the changes that it published."""

    def __init__(self, database_url: str, name: str, *, is_woken: bool, timing: ApplierTiming) -> None:
        self.changes: list[Changes] = []
        self.applier = Applier(
            database_url=database_url,
            name=name,
            on_changes=self.changes.append,
            is_woken=lambda: is_woken,
            timing=timing,
        )
        self.task = asyncio.create_task(self.applier.run(), name=name)

    async def leads(self) -> int:
        """The term, as soon as this applier holds the lease."""
        async with asyncio.timeout(20):
            while self.applier.term is None:
                await asyncio.sleep(0.01)
        return self.applier.term

    async def stop(self) -> None:
        """Stop as a node does on SIGTERM."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@contextlib.asynccontextmanager
async def running(
    database_url: str, name: str, *, is_woken: bool = False, timing: ApplierTiming = QUICK
) -> AsyncIterator[RunningApplier]:
    applier = RunningApplier(database_url, name, is_woken=is_woken, timing=timing)
    try:
        yield applier
    finally:
        await applier.stop()


async def test_rows_are_applied_and_published(
    migrated_url: str, connection: asyncpg.Connection[Any], user: UUID
) -> None:
    async with running(migrated_url, "one") as applier:
        await applier.leads()
        await sync(connection, user, is_applied=False)
        await wait_for_empty_inbox(connection)
        await sync(connection, user, price=1960, is_applied=False)
        await wait_for_empty_inbox(connection)
        async with asyncio.timeout(10):
            while not any(changes.deltas for changes in applier.changes):
                await asyncio.sleep(0.01)
    assert [account for account, _ in applier.changes[0].notices] == [user]
    assert str(user) in applier.changes[-1].deltas[0]


async def test_one_of_two_leads_and_the_other_follows_at_once_when_it_stops(
    migrated_url: str, connection: asyncpg.Connection[Any], user: UUID
) -> None:
    async with running(migrated_url, "one") as one:
        first = await one.leads()
        async with running(migrated_url, "two") as two:
            await sync(connection, user, is_applied=False)
            await wait_for_empty_inbox(connection)
            assert two.applier.term is None
            await one.stop()
            assert await connection.fetchval("SELECT holder FROM guardwire.applier") in (None, "two")
            assert await two.leads() > first
            await sync(connection, user, price=1961, is_applied=False)
            await wait_for_empty_inbox(connection)


async def test_a_holder_that_is_stuck_in_a_transaction_is_replaced_and_its_term_is_over(
    migrated_url: str, connection: asyncpg.Connection[Any], user: UUID
) -> None:
    await sync(connection, user, is_applied=False)
    stuck = await asyncpg.connect(migrated_url, server_settings={"application_name": "guardwire applier"})
    term = await stuck.fetchval("SELECT guardwire.take_lease('stuck', 0.5)")
    await stuck.execute("BEGIN")
    assert (await stuck.fetchrow("SELECT (guardwire.apply($1, 100)).applied", term))["applied"] == 1
    async with running(migrated_url, "two") as two:
        assert await two.leads() > term
        await wait_for_empty_inbox(connection)
        assert await connection.fetchval("SELECT count(*) FROM guardwire.arrivals") == 1
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await stuck.execute("COMMIT")
    stuck.terminate()
    with pytest.raises(asyncpg.PostgresError) as refused:
        await connection.fetchval("SELECT guardwire.apply($1, 100)", term)
    assert refused.value.sqlstate == "GW001"


async def test_a_row_that_cannot_be_applied_is_set_aside_and_the_others_are_applied(
    migrated_url: str, connection: asyncpg.Connection[Any], user: UUID, caplog: pytest.LogCaptureFixture
) -> None:
    other = uuid4()
    await connection.execute(
        f"ALTER TABLE guardwire.positions ADD CONSTRAINT no_seven CHECK (ticket <> 7 OR user_id <> '{user}')"
    )
    for ticket in (6, 7, 8):
        await sync(connection, user, ticket=ticket, is_applied=False)
    await sync(connection, other, is_applied=False)
    async with running(migrated_url, "one"):
        await wait_for_empty_inbox(connection)
        # The rows are gone before the applier has the answer of their batch.
        await until(lambda: "guardwire.set_aside" in caplog.text)
    tickets = await connection.fetch(
        "SELECT ticket FROM guardwire.positions WHERE user_id = $1 ORDER BY 1", user
    )
    assert [ticket for (ticket,) in tickets] == [6, 8]
    assert (
        await connection.fetchval("SELECT count(*) FROM guardwire.positions WHERE user_id = $1", other) == 1
    )
    aside = await connection.fetchrow("SELECT account, sqlstate, reason FROM guardwire.set_aside")
    assert (aside["account"], aside["sqlstate"]) == (user, "23514")


async def test_a_flood_of_notifications_costs_no_more_than_polling(
    migrated_url: str, connection: asyncpg.Connection[Any], user: UUID
) -> None:
    """Every login of the database may notify the applier."""
    await connection.execute(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET track_functions = pl', current_database()); END $$"
    )
    calls = "SELECT coalesce(sum(calls), 0) FROM pg_stat_user_functions WHERE funcname = 'apply'"
    timing = dataclasses.replace(QUICK, poll_busy=0.05, poll_idle=0.05)
    async with running(migrated_url, "one", is_woken=True, timing=timing) as one:
        await one.leads()
        began = time.monotonic()
        for _ in range(400):
            one.applier.wake()
            await asyncio.sleep(0.005)
        spent = time.monotonic() - began
    async with asyncio.timeout(20):
        while not (found := await connection.fetchval(calls)):
            await asyncio.sleep(0.05)
    assert 20 < found <= 20 + spent / 0.05 + 5


async def test_rows_that_take_long_one_by_one_come_in_smaller_batches(
    migrated_url: str, connection: asyncpg.Connection[Any], user: UUID, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise the same rows would be tried again for ever, and no other row would be applied."""
    await connection.execute(
        """CREATE FUNCTION guardwire.dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               PERFORM pg_sleep(0.03);
               RETURN NEW;
           END $$;
           CREATE TRIGGER dawdle BEFORE INSERT ON guardwire.positions FOR EACH ROW EXECUTE FUNCTION guardwire.dawdle();
           ALTER TABLE guardwire.positions ADD CONSTRAINT no_zero CHECK (ticket <> 1000)"""
    )
    first = uuid4()
    await sync(connection, first, ticket=1000, is_applied=False)
    for ticket in range(1, 41):
        await sync(connection, user, ticket=ticket, is_applied=False)
    async with running(migrated_url, "one"):
        await wait_for_empty_inbox(connection)
    assert "a batch took longer" in caplog.text
    aside = await connection.fetch("SELECT account FROM guardwire.set_aside")
    assert [account for (account,) in aside] == [first]
    assert await connection.fetchval("SELECT count(*) FROM guardwire.positions") == 40


async def test_the_log_line_of_a_batch_that_fails_quotes_no_row(
    migrated_url: str, connection: asyncpg.Connection[Any], user: UUID, caplog: pytest.LogCaptureFixture
) -> None:
    await connection.execute(
        "ALTER TABLE guardwire.positions ADD CONSTRAINT odd CHECK (ticket <> 7 OR symbol::integer > 0)"
    )
    await sync(connection, user, ticket=7, is_applied=False)
    async with running(migrated_url, "one"):
        await wait_for_empty_inbox(connection)
    aside = await connection.fetchrow("SELECT sqlstate, reason FROM guardwire.set_aside")
    assert tuple(aside) == ("22P02", 'invalid input syntax for type integer: "XAUUSD"')
    assert "a batch failed, and its rows are applied one by one: " in caplog.text
    assert "SQLSTATE 22P02" in caplog.text
    assert "XAUUSD" not in caplog.text


async def test_a_setting_of_the_database_changes_no_connection_of_a_node(
    migrated_url: str, connection: asyncpg.Connection[Any]
) -> None:
    """Under another isolation level batches would fail whenever rows are written at the same time."""
    name = await connection.fetchval("SELECT quote_ident(current_database())")
    await connection.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = serializable")
    await connection.execute(f"ALTER DATABASE {name} SET search_path = public, pg_catalog")
    engine = engine_for(migrated_url, pool_size=1, pooled=False)
    pooled = await engine.raw_connection()
    driver: Any
    try:
        async with connected(migrated_url) as usual:
            assert await usual.fetchval("SHOW transaction_isolation") == "serializable"
        ours = await connect(migrated_url)
        for driver in (ours, pooled.driver_connection):
            assert await driver.fetchval("SHOW transaction_isolation") == "read committed"
            assert await driver.fetchval("SHOW search_path") == "pg_catalog"
        await ours.close()
    finally:
        pooled.close()
        await engine.dispose()


async def test_a_lock_that_somebody_holds_sets_nothing_aside(
    migrated_url: str, connection: asyncpg.Connection[Any], user: UUID, caplog: pytest.LogCaptureFixture
) -> None:
    await sync(connection, user)
    holder = await asyncpg.connect(migrated_url)
    async with running(migrated_url, "one") as one:
        await one.leads()
        async with holder.transaction():
            await holder.execute("SELECT FROM guardwire.accounts WHERE user_id = $1 FOR UPDATE", user)
            await sync(connection, user, price=1960, is_applied=False)
            async with asyncio.timeout(20):
                while "a batch took longer" not in caplog.text:
                    await asyncio.sleep(0.01)
        await wait_for_empty_inbox(connection)
    await holder.close()
    assert await connection.fetchval("SELECT count(*) FROM guardwire.set_aside") == 0
    assert await connection.fetchval("SELECT current_price FROM guardwire.positions") == 1960


async def test_a_backlog_of_several_accounts_is_applied_without_a_pause(
    migrated_url: str, connection: asyncpg.Connection[Any]
) -> None:
    """Equal shares of three accounts are 999 rows, so a batch may be smaller than the largest one while rows wait."""
    await connection.execute("""
        DO $$ BEGIN
            FOR n IN 0..1499 LOOP
                INSERT INTO reconciliation_logs (user_id, mt5_position_id, event_type, matched)
                VALUES (md5((n % 3)::text)::uuid, n, 'sync', 1);
                COMMIT;
            END LOOP;
        END $$""")
    # Nothing notifies while the applier works, and it would look again only after 30 s.
    timing = dataclasses.replace(QUICK, lease=60.0, renew=30.0, statement=5.0)
    async with running(migrated_url, "one", is_woken=True, timing=timing) as applier:
        await wait_for_empty_inbox(connection, timeout_seconds=15)
        await until(lambda: len(applier.changes) > 1)


async def test_old_rows_are_reported_once_as_a_backlog(
    migrated_url: str, connection: asyncpg.Connection[Any], user: UUID, caplog: pytest.LogCaptureFixture
) -> None:
    for price in range(1951, 1955):
        await sync(connection, user, price=price, is_applied=False)
    await connection.execute("UPDATE guardwire.inbox SET arrived_at = arrived_at - interval '2 hours'")
    async with running(migrated_url, "one"):
        await wait_for_empty_inbox(connection)
        async with asyncio.timeout(10):
            while "backlog" not in caplog.text:
                await asyncio.sleep(0.01)
    assert caplog.text.count("backlog") == 1
    assert "4 rows" in caplog.text


async def test_rows_that_do_not_notify_are_found_by_polling_though_notifications_are_heard(
    migrated_url: str, connection: asyncpg.Connection[Any], user: UUID
) -> None:
    await connection.execute("UPDATE guardwire.configuration SET notify = false")
    seldom = dataclasses.replace(QUICK, lease=120, renew=60, status=60)
    async with running(migrated_url, "one", is_woken=True, timing=seldom) as one:
        await one.leads()
        for price in range(1960, 1963):
            # The applier has then found nothing, and waits.
            await asyncio.sleep(0.2)
            await sync(connection, user, price=price, is_applied=False)
            await wait_for_empty_inbox(connection)


async def test_a_countdown_that_began_while_no_node_ran_ends_later_than_now(
    migrated_url: str, connection: asyncpg.Connection[Any], user: UUID
) -> None:
    for equity in (10_000, 7_000):
        await connection.execute(
            "INSERT INTO equity_snapshots (user_id, equity, balance, currency) VALUES ($1, $2, $2, 'USD')",
            user,
            equity,
        )
    await connection.execute("UPDATE guardwire.inbox SET arrived_at = arrived_at - interval '2 hours'")
    async with running(migrated_url, "one"):
        await wait_for_empty_inbox(connection)
    raised_at, liquidation_at, now = await connection.fetchrow(
        "SELECT b.raised_at, a.liquidation_at, now() FROM guardwire.accounts AS a JOIN guardwire.breaches AS b"
        " USING (user_id) WHERE user_id = $1",
        user,
    )
    assert now - raised_at > timedelta(hours=1), "the breach keeps its true time"
    assert liquidation_at > now


async def test_a_holder_whose_batch_takes_longer_than_its_lease_is_left_alone(
    migrated_url: str, connection: asyncpg.Connection[Any], user: UUID
) -> None:
    await sync(connection, user)
    patient = dataclasses.replace(QUICK, lease=0.3, renew=0.1, statement=60)
    locking = await asyncpg.connect(migrated_url)
    async with running(migrated_url, "one", timing=patient) as one:
        term, pid = await one.leads(), one.applier.backend_pid
        async with running(migrated_url, "two", timing=patient):
            await locking.execute("BEGIN")
            await locking.execute("SELECT FROM guardwire.accounts WHERE user_id = $1 FOR UPDATE", user)
            await sync(connection, user, price=1960, is_applied=False)
            await asyncio.sleep(10 * patient.lease)
            assert (one.applier.term, one.applier.backend_pid) == (term, pid)
            await locking.execute("ROLLBACK")
            await wait_for_empty_inbox(connection)
    await locking.close()
    assert await connection.fetchval("SELECT count(*) FROM guardwire.arrivals") == 2


async def test_a_process_that_does_not_lead_sees_the_lease_and_measures_the_inbox(migrated_url: str) -> None:
    """`guardwire apply` is not scraped, so the nodes' metrics must show that rows are applied."""
    async with connected(migrated_url) as holder:
        await holder.fetchval("SELECT guardwire.take_lease('somebody', 60)")
        async with running(migrated_url, "node"):
            async with asyncio.timeout(20):
                while METRICS.applier_held.get() != 1:
                    await asyncio.sleep(0.01)
            assert METRICS.applier_term.get() == 0
            await holder.execute("UPDATE guardwire.applier SET holder = NULL, held_until = '-infinity'")
            async with asyncio.timeout(20):
                while METRICS.applier_term.get() == 0:
                    await asyncio.sleep(0.01)
    assert METRICS.applier_held.get() == 0


async def test_a_node_whose_clock_is_ahead_reports_no_backlog(
    migrated_url: str,
    connection: asyncpg.Connection[Any],
    user: UUID,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)
    async with running(migrated_url, "one") as one:
        await one.leads()
        for price in range(1960, 1963):
            await sync(connection, user, price=price, is_applied=False)
            await wait_for_empty_inbox(connection)
            # When the applier finds no further row, the backlog has ended.
            await asyncio.sleep(0.2)
    assert "backlog" not in caplog.text
