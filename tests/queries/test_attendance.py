"""The dead-man switch: an armed account that nobody attends raises an alarm, and an outage raises none."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest

from guardwire.patch import State
from queries.alert_calls import Beat, beat, leave, read_alert_log, read_arming, set_arming
from queries.capture import housekeep
from tests.queries.conftest import Connect
from tests.queries.database_writer import DatabaseWriter

ACCOUNTS = 1000
#: Ends half of the leases, and lets the other half be extended; waits for no row.
END_LEASES = """
UPDATE guardwire.attendants AS t SET lease_until = clock_timestamp()
FROM (SELECT o.ctid FROM guardwire.attendants AS o WHERE o.user_id::text < '8' FOR UPDATE SKIP LOCKED) AS o
WHERE t.ctid = o.ctid;
UPDATE guardwire.attendance AS t SET due_at = clock_timestamp()
FROM (SELECT o.ctid FROM guardwire.attendance AS o FOR UPDATE SKIP LOCKED) AS o WHERE t.ctid = o.ctid;
UPDATE guardwire.attendance_clock SET kept_at = clock_timestamp() - interval '10 seconds';
"""


async def age(writer: DatabaseWriter, seconds: float) -> None:
    """Let so much time pass while housekeeping runs."""
    by = timedelta(seconds=seconds)
    for table, columns in {
        "attendants": ("since", "last_beat_at", "lease_until"),
        "attendance": ("status_since", "last_seen_at", "grace_until", "due_at"),
        "arming": ("since", "until"),
    }.items():
        changes = ", ".join(f"{column} = {column} - $1::interval" for column in columns)
        await writer.connection.execute(f"UPDATE guardwire.{table} SET {changes}", by)
    await writer.connection.execute("UPDATE guardwire.attendance_clock SET kept_at = clock_timestamp()")


async def attendance(writer: DatabaseWriter) -> State:
    """Attendance as the state shows it."""
    shown: State = (await writer.state())["alerts"]["attendance"]
    return shown


async def kinds(writer: DatabaseWriter) -> list[str]:
    """Kinds of the account's alerts that are not resolved."""
    found = (await writer.state())["alerts"]["open"].values()
    return [each["kind"] for each in found if "resolved_at" not in each]


async def beats(writer: DatabaseWriter, *names: str, lease_seconds: float = 15) -> int:
    """One beat of each bot; how many accounts changed."""
    return len(await beat(writer.connection, [Beat(writer.user_id, name, lease_seconds) for name in names]))


async def arm(writer: DatabaseWriter) -> int:
    """Arm the account."""
    return await set_arming(writer.connection, writer.user_id, armed=True, by_name="ann")


async def test_only_a_change_of_what_is_shown_moves_the_revision(writer: DatabaseWriter) -> None:
    await arm(writer)
    assert (await attendance(writer))["status"] == "unattended"
    before = await writer.revision()
    assert await beats(writer, "one") == 1
    shown = await attendance(writer)
    assert (shown["armed"], shown["status"], list(shown["attendants"])) == (True, "attended", ["one"])
    assert "grace_until" not in shown
    after = await writer.revision()
    assert after > before
    lease = await writer.value("SELECT lease_until FROM guardwire.attendants")
    assert await beats(writer, "one") == 0
    assert (await writer.revision(), await attendance(writer)) == (after, shown)
    assert await writer.value("SELECT lease_until FROM guardwire.attendants") > lease


async def test_a_lease_that_is_over_is_shown_and_the_alarm_comes_a_grace_after_the_last_beat(
    writer: DatabaseWriter,
) -> None:
    await arm(writer)
    await beats(writer, "one")
    await age(writer, 14)
    await housekeep(writer.connection)
    assert (await attendance(writer))["status"] == "attended"
    await age(writer, 2)
    before = await writer.revision()
    await housekeep(writer.connection)
    shown = await attendance(writer)
    assert (shown["status"], shown["attendants"]) == ("unattended", {})
    assert await writer.revision() > before
    row = (await writer.rows("attendance"))[0]
    assert row["grace_until"] - row["last_seen_at"] == timedelta(seconds=60)
    assert timedelta(seconds=15) < datetime.now(UTC) - row["last_seen_at"] < timedelta(seconds=30)
    await age(writer, 40)
    await housekeep(writer.connection)
    assert await kinds(writer) == []
    await age(writer, 10)
    await housekeep(writer.connection)
    assert await kinds(writer) == ["unattended"]
    revision = await writer.revision()
    await housekeep(writer.connection)
    assert await writer.revision() == revision


async def test_the_alarm_comes_only_when_the_second_bot_is_gone_too(writer: DatabaseWriter) -> None:
    await arm(writer)
    await beats(writer, "one", "two")
    for _ in range(8):
        await age(writer, 10)
        await beats(writer, "two")
        await housekeep(writer.connection)
    assert list((await attendance(writer))["attendants"]) == ["two"]
    assert await kinds(writer) == []
    for _ in range(2):
        await age(writer, 61)
        await housekeep(writer.connection)
    assert await kinds(writer) == ["unattended"]
    await beats(writer, "three")
    assert await kinds(writer) == []


async def test_a_goodbye_is_shown_at_once_and_begins_the_grace(writer: DatabaseWriter) -> None:
    await arm(writer)
    await beats(writer, "one")
    before = await writer.revision()
    assert await leave(writer.connection, writer.user_id, "nobody") == before
    assert await leave(writer.connection, writer.user_id, "one", reason="an update") > before
    assert (await attendance(writer))["status"] == "unattended"
    await age(writer, 61)
    await housekeep(writer.connection)
    assert await kinds(writer) == ["unattended"]
    alert = await writer.value("SELECT alert_id FROM guardwire.alerts")
    log = await read_alert_log(writer.connection, writer.user_id, alert)
    assert [(each.entry, each.who) for each in log] == [("armed", "ann"), ("left", "one"), ("raised", None)]


async def test_disarming_takes_an_end_and_a_reason_and_ends_by_itself(writer: DatabaseWriter) -> None:
    await arm(writer)
    now = datetime.now(UTC)
    for until, reason in (
        (None, "x"), (now + timedelta(hours=25), "x"), (now, "x"), (now + timedelta(hours=1), " "),
    ):  # fmt: skip
        with pytest.raises(asyncpg.InvalidParameterValueError):
            await set_arming(
                writer.connection, writer.user_id, armed=False, until=until, reason=reason, by_name="ann"
            )
    until = now + timedelta(hours=1)
    await set_arming(
        writer.connection, writer.user_id, armed=False, until=until, reason="a test", by_name="ann"
    )
    assert (await attendance(writer))["status"] == "disarmed"
    assert (await read_arming(writer.connection, writer.user_id)).until == until
    await age(writer, 3601)
    await housekeep(writer.connection)
    assert (await read_arming(writer.connection, writer.user_id)).armed
    assert (await attendance(writer))["status"] == "unattended"
    assert await kinds(writer) == []


async def test_disarming_ends_the_alarm_and_an_account_that_was_never_armed_has_none(
    writer: DatabaseWriter,
) -> None:
    await beats(writer, "one")
    await age(writer, 200)
    await housekeep(writer.connection)
    assert await kinds(writer) == []
    await arm(writer)
    await age(writer, 61)
    await housekeep(writer.connection)
    assert await kinds(writer) == ["unattended"]
    until = datetime.now(UTC) + timedelta(hours=1)
    await set_arming(
        writer.connection, writer.user_id, armed=False, until=until, reason="a test", by_name="ann"
    )
    assert await kinds(writer) == []


async def test_an_outage_of_ten_minutes_raises_no_false_alarm_of_a_thousand_accounts(
    writer: DatabaseWriter,
) -> None:
    """Bots could not beat while the database was away; one of them died meanwhile."""
    users = [uuid4() for _ in range(ACCOUNTS)]
    for user_id in users:
        await set_arming(writer.connection, user_id, armed=True, by_name="ann")
    living = [Beat(user_id, "bot", 15) for user_id in users]
    assert len(await beat(writer.connection, living)) == ACCOUNTS
    await housekeep(writer.connection)
    revisions = await writer.revisions()
    await age(writer, 600)
    await writer.connection.execute(
        "UPDATE guardwire.attendance_clock SET kept_at = kept_at - interval '10 minutes'"
    )
    await housekeep(writer.connection)
    # Not one lease was over.
    assert await writer.revisions() == revisions
    dead = living.pop()
    for _ in range(2):
        await age(writer, 14)
        await beat(writer.connection, living)
        await housekeep(writer.connection)
    assert await writer.value("SELECT count(*) FROM guardwire.attendance WHERE status <> 'attended'") == 1
    await age(writer, 14)
    await beat(writer.connection, living)
    await age(writer, 14)
    await beat(writer.connection, living)
    await age(writer, 6)
    await housekeep(writer.connection)
    raised = await writer.connection.fetch("SELECT user_id FROM guardwire.alerts")
    assert [row["user_id"] for row in raised] == [dead.account]


async def test_a_grace_that_began_before_an_outage_is_extended_too(writer: DatabaseWriter) -> None:
    await arm(writer)
    await beats(writer, "one")
    await age(writer, 20)
    await housekeep(writer.connection)
    assert (await attendance(writer))["status"] == "unattended"
    grace = (await attendance(writer))["grace_until"]
    await age(writer, 600)
    await writer.connection.execute(
        "UPDATE guardwire.attendance_clock SET kept_at = kept_at - interval '10 minutes'"
    )
    before = await writer.revision()
    await housekeep(writer.connection)
    assert await kinds(writer) == []
    assert await writer.revision() > before
    assert (await attendance(writer))["grace_until"] >= grace


async def test_one_node_at_a_time_judges_attendance(writer: DatabaseWriter, connect: Connect) -> None:
    """A node that sees no extended leases yet would raise false alarms."""
    await arm(writer)
    await age(writer, 61)
    holder = await connect()
    async with holder.transaction():
        await holder.execute("SELECT FROM guardwire.attendance_clock FOR UPDATE")
        await housekeep(writer.connection)
        assert await kinds(writer) == []
    await housekeep(writer.connection)
    assert await kinds(writer) == ["unattended"]


async def test_beats_on_several_nodes_while_housekeeping_runs_end_in_no_deadlock(
    writer: DatabaseWriter, connect: Connect
) -> None:
    users = [uuid4() for _ in range(20)]
    for user_id in users:
        await set_arming(writer.connection, user_id, armed=True, by_name="ann")
    nodes = [await connect() for _ in range(4)]

    async def work(number: int) -> None:
        for turn in range(15):
            some = users if turn % 2 else list(reversed(users))
            if number == 0:
                await writer.connection.execute(END_LEASES)
                await housekeep(nodes[0])
            else:
                await beat(nodes[number], [Beat(user_id, f"bot-{turn % 3}", 5) for user_id in some])

    await asyncio.gather(*map(work, range(4)))
    shown = await writer.value(
        "SELECT count(*) FROM guardwire.attendance AS t WHERE (t.status = 'attended') <> EXISTS"
        " (SELECT FROM guardwire.attendants AS b WHERE b.user_id = t.user_id AND b.left_at IS NULL)"
    )
    assert shown == 0


async def test_a_lease_of_another_length_is_refused(writer: DatabaseWriter) -> None:
    for seconds in (4, 61):
        with pytest.raises(asyncpg.InvalidParameterValueError):
            await beats(writer, "one", lease_seconds=seconds)
    assert await beat(writer.connection, []) == {}
