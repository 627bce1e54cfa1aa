"""Housekeeping commits the changes that time brings about, but never ahead of rows that wait in the inbox."""

from __future__ import annotations

import asyncio

from queries.capture import Housekeeping, housekeep, prune
from tests.queries.conftest import Connect
from tests.queries.database_writer import DatabaseWriter

#: Makes every account due, whose last sync arrived an hour ago.
FALL_SILENT = """
UPDATE guardwire.accounts
SET sync_due_at = clock_timestamp(), last_sync_arrived_at = clock_timestamp() - interval '1 hour'
"""


async def test_the_end_of_an_alert_is_a_commit_and_clears_its_breach(writer: DatabaseWriter) -> None:
    await writer.set_limits(alert_window_seconds=3600)
    await writer.guard("gap", 100, 120)
    before = await writer.revision()
    assert (await housekeep(writer.connection)).alerts_ended == 0
    assert await writer.revision() == before
    # Its time is a minute ago: with a shorter window it is over, but that is for the clock to say.
    await writer.set_limits(alert_window_seconds=1)
    before, guards = await writer.revision(), (await writer.state())["guards"]
    assert guards["any_positions_should_close"] is True
    assert (await housekeep(writer.connection)).alerts_ended == 1
    assert await writer.revision() > before
    guards = (await writer.state())["guards"]
    assert (guards["alerts"], guards["any_positions_should_close"]) == ({}, False)
    assert all("cleared_at" in breach for breach in guards["breaches"].values())
    after = await writer.revision()
    assert (await housekeep(writer.connection)).alerts_ended == 0
    assert await writer.revision() == after


async def test_a_platform_that_falls_silent_is_shown_as_silent_by_a_commit(writer: DatabaseWriter) -> None:
    await writer.sync()
    assert (await writer.state())["status"]["source"] == "live"
    await writer.connection.execute(FALL_SILENT)
    before = await writer.revision()
    assert (await housekeep(writer.connection)).fell_silent == 1
    assert await writer.revision() > before
    assert (await writer.state())["status"]["source"] == "silent"
    assert (await housekeep(writer.connection)).fell_silent == 0
    await writer.sync(1)
    assert (await writer.state())["status"]["source"] == "live"


async def test_a_platform_that_goes_on_is_looked_at_later_without_a_commit(writer: DatabaseWriter) -> None:
    await writer.sync()
    before = await writer.revision()
    for _ in range(3):
        assert (await housekeep(writer.connection)).fell_silent == 0
    assert await writer.revision() == before


async def test_an_account_with_rows_that_wait_is_left_alone(writer: DatabaseWriter) -> None:
    """They may be the sync whose absence would be noted, or extend the window that would end."""
    other = writer.of()
    for each in (writer, other):
        await each.sync()
        await each.guard("gap", 100, 120)
    await writer.connection.execute(FALL_SILENT)
    await writer.connection.execute("UPDATE guardwire.market_alerts SET expires_at = clock_timestamp()")
    writer.applies = False
    await writer.sync(1)
    await writer.guard("gap", 100, 120, 30)
    first, second = [(await housekeep(writer.connection))._replace(next_in_seconds=None) for _ in range(2)]
    assert first == Housekeeping(alerts_ended=1, fell_silent=1)
    assert second == Housekeeping(alerts_ended=0, fell_silent=0)
    assert (await other.state())["status"]["source"] == "silent"
    await writer.apply()
    third = (await housekeep(writer.connection))._replace(next_in_seconds=None)
    assert third == Housekeeping(alerts_ended=0, fell_silent=0)
    state = await writer.state()
    assert state["status"]["source"] == "live"
    assert len(state["guards"]["alerts"]) == 1


async def test_a_clock_that_was_ahead_does_not_put_silence_off(writer: DatabaseWriter) -> None:
    await writer.sync()
    await writer.connection.execute(
        "UPDATE guardwire.accounts"
        " SET last_sync_arrived_at = now() + interval '1 day', sync_due_at = now() + interval '1 day'"
    )
    await housekeep(writer.connection)
    account = await writer.account()
    assert account["last_sync_arrived_at"] < writer.at(3600)


async def test_housekeeping_does_not_wait_for_whoever_has_locked_an_account(
    writer: DatabaseWriter, connect: Connect
) -> None:
    other = writer.of()
    for each in (writer, other):
        await each.sync()
    await writer.connection.execute(FALL_SILENT)
    holder = await connect()
    async with holder.transaction():
        await holder.execute("SELECT FROM guardwire.accounts WHERE user_id = $1 FOR UPDATE", other.user_id)
        assert (await housekeep(writer.connection)).fell_silent == 1
    assert (await housekeep(writer.connection)).fell_silent == 1


async def test_two_nodes_note_a_silence_once(writer: DatabaseWriter, connect: Connect) -> None:
    others = [writer.of() for _ in range(50)]
    for each in others:
        await each.sync()
    await writer.connection.execute(FALL_SILENT)
    nodes = [await connect() for _ in range(3)]
    done = await asyncio.gather(*map(housekeep, nodes))
    done.append(await housekeep(writer.connection))
    assert sum(each.fell_silent for each in done) == 50


async def test_arrivals_and_ignored_rows_that_are_old_are_deleted(writer: DatabaseWriter) -> None:
    await writer.sync()
    await writer.sync(ticket=-7)
    await writer.equity(1000)
    await writer.equity(1001, created_at=None)
    await writer.connection.execute(
        "UPDATE guardwire.arrivals SET revision = revision - 49 * 3600 * 1000000::bigint;"
        "UPDATE guardwire.ignored_rows SET noted_at = noted_at - interval '49 hours'"
    )
    await writer.sync(ticket=8)
    assert await prune(writer.connection, at_once=1) == 4
    # Equity without a time counts at its arrival for ever.
    assert len(await writer.rows("arrivals")) == 2
    assert await writer.value("SELECT count(*) FROM guardwire.ignored_rows") == 0
