"""Alerts: raised and resolved with their conditions, acknowledged by name, and proved by the book."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from guardwire.patch import State
from queries.alert_calls import Acknowledged, acknowledge, list_alerts, read_alert_log, snooze
from queries.capture import housekeep, rebuild
from tests.queries.conftest import Connect
from tests.queries.database_writer import DatabaseWriter

PEAK, LOW, HIGH = 10_000, 8_000, 8_001


async def alerts(writer: DatabaseWriter) -> State:
    """Channel `alerts` of the account."""
    channel: State = (await writer.state())["alerts"]
    return channel


async def only_alert(writer: DatabaseWriter) -> tuple[UUID, State]:
    """The one open alert of the account."""
    ((alert_id, alert),) = (await alerts(writer))["open"].items()
    return UUID(alert_id), alert


async def raised(writer: DatabaseWriter) -> UUID:
    """Raise the drawdown of an account; the alert."""
    await writer.equity(PEAK)
    await writer.equity(LOW, 1)
    return (await only_alert(writer))[0]


async def ack(
    writer: DatabaseWriter, alert: UUID, name: str = "closer-1", action: Any = "received"
) -> Acknowledged:
    """Acknowledge the first generation."""
    (done,) = await acknowledge(writer.connection, writer.user_id, {alert: 1}, by_name=name, action=action)
    return done


async def log(writer: DatabaseWriter, alert: UUID) -> list[str]:
    """The entries of an alert's log."""
    return [each.entry for each in await read_alert_log(writer.connection, writer.user_id, alert)]


async def make_due(writer: DatabaseWriter) -> None:
    """Let the time of every look at an alert have come."""
    await writer.connection.execute(
        "UPDATE guardwire.alerts SET next_at = clock_timestamp() WHERE next_at IS NOT NULL"
    )


async def test_an_account_without_alerts_has_an_empty_channel(writer: DatabaseWriter) -> None:
    await writer.equity(PEAK)
    assert await alerts(writer) == {
        "unacknowledged": 0,
        "open": {},
        "attendance": {"armed": False, "status": "disarmed", "attendants": {}},
    }


async def test_a_critical_drawdown_raises_one_alert_with_the_deadline_of_the_countdown(
    writer: DatabaseWriter,
) -> None:
    await raised(writer)
    state = await writer.state()
    ((_, alert),) = state["alerts"]["open"].items()
    drawdown = state["guards"]["drawdown"]
    assert alert == {
        "generation": 1,
        "kind": "drawdown",
        "severity": "critical",
        "subject": "",
        "first_raised_at": drawdown["last_checked_at"],
        "raised_at": drawdown["last_checked_at"],
        "deadline_at": drawdown["liquidation_at"],
        "occurrences": 1,
        "observed": 20.0,
        "limit": 20.0,
        "level": 0,
    }
    assert state["alerts"]["unacknowledged"] == 1


async def test_a_market_alert_names_its_symbol_and_is_one_for_each_condition(writer: DatabaseWriter) -> None:
    await writer.guard("gap", 100, 120)
    await writer.guard("gap", 100, 121, 1)
    await writer.guard("spread", 100, 120, 2)
    found = (await alerts(writer))["open"].values()
    assert {(each["subject"], each["observed"], each["limit"]) for each in found} == {
        ("XAUUSD price_gap", 20.0, 10.0),
        ("XAUUSD bid_ask_spread", 18.18, 1.0),
    }
    assert {each["generation"] for each in found} == {1}


async def test_an_alert_stays_until_it_is_resolved_and_acknowledged(writer: DatabaseWriter) -> None:
    alert = await raised(writer)
    await writer.equity(PEAK, 2)
    _, shown = await only_alert(writer)
    assert "resolved_at" in shown
    assert (await ack(writer, alert)).outcome == "acknowledged"
    assert await alerts(writer) | {"attendance": {}} == {"unacknowledged": 0, "open": {}, "attendance": {}}
    assert await log(writer, alert) == ["raised", "resolved", "acknowledged"]
    (listed,) = (await list_alerts(writer.connection, writer.user_id, is_open=False)).values()
    assert listed["acknowledged_by"] == "closer-1"


async def test_flapping_is_one_alert_whose_deadline_does_not_move(writer: DatabaseWriter) -> None:
    """Equity that alternates every 10 seconds was 180 breaches an hour, and a countdown that never ended."""
    writer.begun = datetime.now(UTC) - timedelta(minutes=55)
    await writer.equity(PEAK)
    writer.applies = False
    for n in range(150):
        await writer.equity(LOW if n % 2 == 0 else HIGH, 10 + n * 10)
        if n == 0:
            await writer.apply()
            first = await only_alert(writer)
    writer.applies = True
    alert, shown = await only_alert(writer)
    assert alert == first[0]
    assert (shown["generation"], shown["occurrences"]) == (1, 75)
    assert shown["deadline_at"] == first[1]["deadline_at"]
    assert shown["first_raised_at"] == first[1]["first_raised_at"] < shown["raised_at"]
    assert (await log(writer, alert)).count("repeated") == 74


async def test_flapping_does_not_put_escalation_off(writer: DatabaseWriter) -> None:
    await raised(writer)
    due = await writer.value("SELECT next_at FROM guardwire.alerts")
    await writer.equity(HIGH, 2)
    assert await writer.value("SELECT next_at FROM guardwire.alerts") is None
    await writer.equity(LOW, 3)
    assert await writer.value("SELECT next_at FROM guardwire.alerts") == due


async def test_a_condition_that_comes_back_later_is_another_generation(writer: DatabaseWriter) -> None:
    writer.begun = datetime.now(UTC) - timedelta(minutes=5)
    alert = await raised(writer)
    await writer.equity(HIGH, 2)
    await ack(writer, alert)
    await writer.equity(LOW, 63)
    again, shown = await only_alert(writer)
    assert (again, shown["generation"], shown["occurrences"]) == (alert, 2, 1)
    assert "acknowledged_by" not in shown
    (stale,) = await acknowledge(writer.connection, writer.user_id, {alert: 1}, by_name="late")
    assert stale.outcome == "stale_generation"


async def test_an_unknown_alert_is_answered_like_one_of_another_account(writer: DatabaseWriter) -> None:
    alert, other = await raised(writer), writer.of()
    await other.equity(PEAK)
    before = await other.revision()
    strangers = {alert: 1, uuid4(): 1}
    done = await acknowledge(writer.connection, other.user_id, strangers, by_name="thief")
    assert {(each.outcome, each.revision) for each in done} == {("unknown_alert", before)}
    assert (await acknowledge(writer.connection, uuid4(), strangers, by_name="x"))[0].revision == 0
    assert (await alerts(writer))["unacknowledged"] == 1


async def test_bots_that_acknowledge_at_once_get_one_name_and_two_answers(
    writer: DatabaseWriter, connect: Connect
) -> None:
    alert = await raised(writer)
    nodes = [await connect() for _ in range(6)]
    done = await asyncio.gather(
        *(
            acknowledge(node, writer.user_id, {alert: 1}, by_name=f"closer-{n}", action="acting")
            for n, node in enumerate(nodes)
        )
    )
    assert sorted(each.outcome for (each,) in done) == ["acknowledged"] + ["already"] * 5
    assert await log(writer, alert) == ["raised", "acknowledged"]
    _, shown = await only_alert(writer)
    (winner,) = [n for n, (each,) in enumerate(done) if each.outcome == "acknowledged"]
    assert shown["acknowledged_by"] == f"closer-{winner}"
    assert {each.revision for (each,) in done} == {await writer.revision()}


async def test_an_action_only_advances_and_only_for_its_own_name(writer: DatabaseWriter) -> None:
    alert = await raised(writer)
    assert (await ack(writer, alert, action="acting")).outcome == "acknowledged"
    _, acting = await only_alert(writer)
    assert (await ack(writer, alert, action="received")).outcome == "already"
    assert (await ack(writer, alert, name="closer-2", action="done")).outcome == "already"
    assert (await ack(writer, alert, action="done")).outcome == "acknowledged"
    _, done = await only_alert(writer)
    assert (done["action"], done["acknowledged_at"]) == ("done", acting["acknowledged_at"])
    assert done["hold_until"] < acting["hold_until"]
    with pytest.raises(asyncpg.InvalidParameterValueError, match="perhaps"):
        await ack(writer, alert, action="perhaps")


async def test_an_acknowledgement_without_an_act_is_over_at_the_end_of_its_hold(
    writer: DatabaseWriter,
) -> None:
    await writer.sync()
    alert = await raised(writer)
    await ack(writer, alert, action="acting")
    assert (await housekeep(writer.connection)).alerts_escalated == 0
    await make_due(writer)
    before = await writer.revision()
    assert (await housekeep(writer.connection)).alerts_escalated == 1
    _, shown = await only_alert(writer)
    assert (shown["level"], "acknowledged_by" in shown) == (1, False)
    assert await writer.revision() > before
    assert await log(writer, alert) == ["raised", "acknowledged", "escalated"]
    entry = (await read_alert_log(writer.connection, writer.user_id, alert))[-1]
    assert entry.detail == {"level": 1, "reason": "positions are open at the end of the hold of closer-1"}


async def test_an_acknowledged_alert_is_resolved_when_its_positions_are_closed(
    writer: DatabaseWriter,
) -> None:
    await writer.sync()
    alert = await raised(writer)
    await ack(writer, alert, action="acting")
    await writer.close(2)
    assert (await alerts(writer))["open"] == {}
    assert await log(writer, alert) == ["raised", "acknowledged", "resolved"]
    # The breach of old clients goes on: the equity is still low.
    assert all("cleared_at" not in each for each in (await writer.state())["guards"]["breaches"].values())


async def test_an_acknowledged_alert_of_a_flat_account_is_resolved_at_the_end_of_the_hold(
    writer: DatabaseWriter,
) -> None:
    alert = await raised(writer)
    await ack(writer, alert)
    await make_due(writer)
    assert (await housekeep(writer.connection)).alerts_escalated == 0
    assert (await alerts(writer))["open"] == {}


async def test_a_partial_close_is_no_proof(writer: DatabaseWriter) -> None:
    await writer.sync()
    await writer.sync(ticket=2)
    await ack(writer, await raised(writer), action="acting")
    await writer.close(2)
    _, shown = await only_alert(writer)
    assert "resolved_at" not in shown
    await make_due(writer)
    assert (await housekeep(writer.connection)).alerts_escalated == 1


async def test_only_positions_of_its_symbol_concern_a_market_alert(writer: DatabaseWriter) -> None:
    await writer.sync(symbol="xauusd")
    await writer.sync(ticket=2, symbol="EURUSD")
    await writer.guard("gap", 100, 120)
    alert, _ = await only_alert(writer)
    await ack(writer, alert)
    await writer.close(2, ticket=2, symbol="EURUSD")
    assert len((await alerts(writer))["open"]) == 1
    await writer.close(2, symbol="xauusd")
    assert (await alerts(writer))["open"] == {}


async def test_positions_that_are_opened_again_while_the_breach_stands_raise_the_alert_again(
    writer: DatabaseWriter,
) -> None:
    await writer.sync()
    alert = await raised(writer)
    await ack(writer, alert, action="done")
    await writer.close(2)
    assert (await alerts(writer))["open"] == {}
    await writer.sync(3, ticket=2)
    again, shown = await only_alert(writer)
    assert (again, shown["generation"], shown["occurrences"]) == (alert, 1, 2)
    await writer.connection.execute(
        "UPDATE guardwire.alerts SET hold_until = clock_timestamp() - interval '1 second'"
    )
    await make_due(writer)
    assert (await housekeep(writer.connection)).alerts_escalated == 1


async def test_a_snooze_puts_escalation_off_and_drops_nothing(writer: DatabaseWriter) -> None:
    alert = await raised(writer)

    async def put_off(seconds: int, reason: str = "lunch", generation: int = 1) -> str:
        arguments = {"seconds": seconds, "by_name": "ann", "reason": reason}
        return (await snooze(writer.connection, writer.user_id, alert, generation, **arguments)).outcome  # type: ignore[arg-type]

    assert await put_off(60) == "snoozed"
    assert await put_off(60, generation=2) == "stale_generation"
    for seconds, reason in ((3601, "x"), (0, "x"), (60, " ")):
        with pytest.raises(asyncpg.InvalidParameterValueError):
            await put_off(seconds, reason)
    _, shown = await only_alert(writer)
    assert "snoozed_until" in shown
    looks = await writer.connection.fetchrow("SELECT next_at, snoozed_until FROM guardwire.alerts")
    assert looks["next_at"] == looks["snoozed_until"]
    assert (await alerts(writer))["unacknowledged"] == 1


async def test_an_alert_that_nobody_acknowledged_survives_201_newer_ones(writer: DatabaseWriter) -> None:
    alert = await raised(writer)
    writer.applies = False
    for n in range(201):
        await writer.guard("gap", 100, 120, 2 + n * 0.1, symbol=f"S{n}")
    writer.applies = True
    assert len((await alerts(writer))["open"]) == 202
    assert len(await writer.rows("breaches")) == 200
    await writer.equity(PEAK, 30)
    shown = (await alerts(writer))["open"][str(alert)]
    assert "resolved_at" in shown


async def test_a_rebuild_changes_no_alert(writer: DatabaseWriter) -> None:
    await writer.sync()
    alert = await raised(writer)
    await writer.guard("gap", 100, 120)
    await ack(writer, alert, action="acting")
    before, rows = (await alerts(writer)), await writer.rows("alert_log", "log_id")
    await rebuild(writer.connection, writer.user_id)
    assert await alerts(writer) == before
    assert await writer.rows("alert_log", "log_id") == rows


async def test_the_end_of_a_rebuild_settles_what_the_tables_no_longer_say(writer: DatabaseWriter) -> None:
    alert = await raised(writer)
    await writer.guard("gap", 100, 120)
    await writer.connection.execute("DELETE FROM guardwire.alerts WHERE kind = 'market'")
    await writer.connection.execute("DELETE FROM equity_snapshots WHERE equity = $1", LOW)
    await rebuild(writer.connection, writer.user_id)
    found = (await alerts(writer))["open"]
    assert "resolved_at" in found.pop(str(alert))
    ((_, market),) = found.items()
    assert (market["kind"], "resolved_at" in market) == ("market", False)


async def test_a_backlog_that_ends_the_alert_does_not_escalate_it(writer: DatabaseWriter) -> None:
    """Rows of hours are applied at once: their alert's time counts from the clock."""
    writer.begun = datetime.now(UTC) - timedelta(hours=2)
    await raised(writer)
    assert (await housekeep(writer.connection)).alerts_escalated == 0
    await make_due(writer)
    writer.applies = False
    await writer.equity(PEAK, 2)
    # The row waits.
    assert (await housekeep(writer.connection)).alerts_escalated == 0
    await writer.apply()
    assert (await housekeep(writer.connection)).alerts_escalated == 0


async def test_a_row_that_waited_gets_its_whole_countdown(writer: DatabaseWriter) -> None:
    writer.begun = datetime.now(UTC) - timedelta(hours=2)
    await writer.equity(PEAK)
    writer.applies = False
    await writer.equity(LOW, 1)
    await writer.connection.execute(
        "UPDATE guardwire.inbox SET arrived_at = arrived_at - interval '2 minutes'"
    )
    await writer.apply()
    deadline = await writer.value("SELECT deadline_at FROM guardwire.alerts")
    assert deadline > datetime.now(UTC) + timedelta(seconds=50)
    assert deadline == (await writer.account())["liquidation_at"]
