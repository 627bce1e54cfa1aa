"""Frames about alerts, performed on a real database."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from guardwire.messages import Ack, AckOk, Attend, Error, Leave, Snooze, SnoozeOk
from queries.alert_calls import list_alerts, read_alert_log, set_arming
from realtime.database import engine_for
from realtime.delivery.alerts import BURST, Alerts
from realtime.delivery.attendance import MOST_NAMES
from tests.queries.database_writer import DatabaseWriter


@pytest.fixture
async def writer(migrated_url: str) -> AsyncIterator[DatabaseWriter]:
    connection = await asyncpg.connect(migrated_url)
    yield DatabaseWriter(connection)
    await connection.close()


@pytest.fixture
async def alerts(migrated_url: str) -> AsyncIterator[Alerts]:
    engine = engine_for(migrated_url, pool_size=2, pooled=False)
    yield Alerts(engine=engine)
    await engine.dispose()


async def raised(writer: DatabaseWriter) -> str:
    """The alert of a drawdown of the account."""
    await writer.equity(10_000)
    await writer.equity(8_000, 1)
    (alert_id,) = await list_alerts(writer.connection, writer.user_id)
    return alert_id


def ack(*alerts: str, generation: int = 1, by: str = "closer-1", action: Any = "received") -> Ack:
    return Ack(alerts=dict.fromkeys(alerts, generation), by=by, action=action)


async def test_an_acknowledgement_is_committed_and_answered_the_same_each_time(
    writer: DatabaseWriter, alerts: Alerts
) -> None:
    alert = await raised(writer)
    (first,) = await alerts.perform(writer.user_id, ack(alert, action="acting"))
    assert isinstance(first, AckOk)
    assert first.alerts == {alert: 1}
    state = (await list_alerts(writer.connection, writer.user_id))[alert]
    assert (state["acknowledged_by"], state["action"]) == ("closer-1", "acting")
    assert list(await alerts.perform(writer.user_id, ack(alert, by="closer-2"))) == [first]
    log = await read_alert_log(writer.connection, writer.user_id, UUID(alert))
    assert [(each.entry, each.who) for each in log] == [("raised", None), ("acknowledged", "closer-1")]


async def test_each_alert_is_answered_once_and_a_foreign_one_like_an_unknown_one(
    writer: DatabaseWriter, alerts: Alerts
) -> None:
    mine, foreign = await raised(writer), await raised(writer.of())
    unknown = str(uuid4())
    ids = (mine, foreign, unknown, mine.upper(), "nonsense")
    done, *refused = await alerts.perform(writer.user_id, ack(*ids))
    assert isinstance(done, AckOk)
    assert done.alerts == {mine: 1}
    assert [each.alert for each in refused if isinstance(each, Error)] == list(ids[1:])
    assert {(each.code, each.message, each.retry) for each in refused if isinstance(each, Error)} == {
        ("unknown_alert", "the account has no such alert", False)
    }
    (only,) = await alerts.perform(writer.user_id, Snooze(foreign, 1, 60, "ana", "by hand"))
    assert isinstance(only, Error)
    assert (only.code, only.alert) == ("unknown_alert", foreign)


async def test_another_generation_is_stale_and_changes_nothing(
    writer: DatabaseWriter, alerts: Alerts
) -> None:
    alert = await raised(writer)
    for frame in (ack(alert, generation=2), Snooze(alert, 2, 60, "ana", "by hand")):
        (error,) = await alerts.perform(writer.user_id, frame)
        assert isinstance(error, Error)
        assert (error.code, error.retry, error.alert) == ("stale_generation", False, alert)
    log = await read_alert_log(writer.connection, writer.user_id, UUID(alert))
    assert [each.entry for each in log] == ["raised"]


async def test_a_snooze_is_committed(writer: DatabaseWriter, alerts: Alerts) -> None:
    alert = await raised(writer)
    (done,) = await alerts.perform(writer.user_id, Snooze(alert, 1, 60, "ana", "by hand"))
    assert isinstance(done, SnoozeOk)
    assert (done.alert, done.generation) == (alert, 1)
    assert "snoozed_until" in (await list_alerts(writer.connection, writer.user_id))[alert]


async def attendants(writer: DatabaseWriter) -> list[tuple[str, bool]]:
    rows = await writer.connection.fetch(
        "SELECT name, left_at IS NULL FROM guardwire.attendants WHERE user_id = $1 ORDER BY name",
        writer.user_id,
    )
    return [tuple(row) for row in rows]


async def test_a_beat_is_written_and_a_leave_at_once(writer: DatabaseWriter, alerts: Alerts) -> None:
    await writer.equity(10_000)
    await set_arming(writer.connection, writer.user_id, armed=True, by_name="ana")
    assert list(await alerts.perform(writer.user_id, Attend("a", 15))) == []
    assert await attendants(writer) == []
    await alerts.attendance.write_due(time.monotonic())
    assert await attendants(writer) == [("a", True)]
    # A beat that was not written yet must not come after the goodbye.
    await alerts.perform(writer.user_id, Attend("a", 30))
    assert list(await alerts.perform(writer.user_id, Leave("a", "restart"))) == []
    await alerts.attendance.write_due(time.monotonic())
    assert await attendants(writer) == [("a", False)]


async def test_a_beat_that_was_on_its_way_at_another_node_does_not_undo_a_leave(
    migrated_url: str, writer: DatabaseWriter, alerts: Alerts
) -> None:
    await writer.equity(10_000)
    engine = engine_for(migrated_url, pool_size=1, pooled=False)
    elsewhere = Alerts(engine=engine)
    try:
        await alerts.perform(writer.user_id, Attend("a", 15))
        await alerts.attendance.write_due(time.monotonic())
        elsewhere.attendance.beat(writer.user_id, "a", 15, time.monotonic() - 2)
        await alerts.perform(writer.user_id, Leave("a"))
        await elsewhere.attendance.write_due(time.monotonic())
        assert await attendants(writer) == [("a", False)]
        await elsewhere.perform(writer.user_id, Attend("a", 30))
        await elsewhere.attendance.write_due(time.monotonic())
        assert await attendants(writer) == [("a", True)]
    finally:
        await engine.dispose()


async def test_the_time_of_the_last_beat_is_exact(writer: DatabaseWriter, alerts: Alerts) -> None:
    await writer.equity(10_000)
    now = time.monotonic()
    alerts.attendance.beat(writer.user_id, "a", 15, now - 4)
    await alerts.attendance.write_due(now)
    age, lease = await writer.connection.fetchrow(
        "SELECT extract(epoch FROM clock_timestamp() - last_beat_at)::float8,"
        " extract(epoch FROM lease_until - last_beat_at)::float8 FROM guardwire.attendants"
    )
    assert 4 <= age < 6
    assert lease == 15


async def test_too_many_names_and_too_many_frames_are_refused_for_a_time(alerts: Alerts) -> None:
    user = uuid4()
    for number in range(MOST_NAMES):
        assert list(await alerts.perform(user, Attend(str(number), 5))) == []
    (refused,) = await alerts.perform(user, Attend("more", 5))
    assert isinstance(refused, Error)
    assert (refused.code, refused.retry) == ("rate_limited", True)
    codes = []
    for _ in range(BURST + 1):
        (answer,) = await alerts.perform(user, ack("nonsense"))
        assert isinstance(answer, Error)
        codes.append(answer.code)
    assert codes[:BURST] == ["unknown_alert"] * BURST
    assert codes[-1] == "rate_limited"


async def test_without_a_database_each_alert_is_refused_with_a_hint() -> None:
    engine = engine_for("postgresql://nobody@127.0.0.1:1/nothing", pool_size=1, pooled=False)
    try:
        replies = await Alerts(engine=engine).perform(uuid4(), ack(str(uuid4()), str(uuid4())))
        assert len(replies) == 2
        for error in replies:
            assert isinstance(error, Error)
            assert (error.code, error.retry) == ("unavailable", True)
            assert error.retry_after_ms is not None
    finally:
        await engine.dispose()
