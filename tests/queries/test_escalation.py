"""Escalation and the outbox: committed before sent, claimed by one node, never after somebody acknowledged."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from queries.alert_calls import (
    EVERY_ACCOUNT,
    Claim,
    acknowledge,
    claim_deliveries,
    delete_endpoint,
    delivers,
    finish_delivery,
    list_deliveries,
    list_endpoints,
    put_endpoint,
    put_escalation,
    read_alert_log,
    read_escalation,
    redeliver,
    release_deliveries,
    rotate_secret,
    send_test,
)
from queries.capture import housekeep, prune
from tests.queries.conftest import Connect
from tests.queries.database_writer import DatabaseWriter
from tests.queries.test_alerts import ack, alerts, log, make_due, only_alert, raised


async def webhook(writer: DatabaseWriter, user_id: UUID | None = None, kind: str = "webhook") -> UUID:
    """Add an endpoint."""
    url = "https://example.com/hook"
    added = await put_endpoint(writer.connection, user_id or writer.user_id, kind=kind, url=url)
    assert added is not None
    return added


async def claim(driver: Any, node: str = "one", most: int = 32, under_way: Iterable[int] = ()) -> list[Claim]:
    """Claim for ten seconds."""
    return await claim_deliveries(driver, node=node, most=most, lease_seconds=10, under_way=under_way)


async def escalate(writer: DatabaseWriter) -> int:
    """Let the next level of every alert be due, and look."""
    await make_due(writer)
    return (await housekeep(writer.connection)).alerts_escalated


async def test_the_levels_are_webhooks_then_people_then_both(writer: DatabaseWriter) -> None:
    endpoints = {await webhook(writer): "own", await webhook(writer, kind="person"): "person"}
    endpoints[await webhook(writer, EVERY_ACCOUNT)] = "operator"
    await webhook(writer, uuid4())
    alert = await raised(writer)
    told = []
    for _ in range(3):
        assert await escalate(writer) == 1
        told.append(sorted(endpoints[each.endpoint_id] for each in await claim(writer.connection)))
    assert told == [["operator", "own"], ["person"], ["operator", "own", "person"]]
    assert await log(writer, alert) == ["raised", *["escalated"] * 3]
    assert (await only_alert(writer))[1]["level"] == 3


async def test_a_message_says_what_the_state_says(writer: DatabaseWriter) -> None:
    await webhook(writer)
    alert = await raised(writer)
    shown = (await only_alert(writer))[1]
    await escalate(writer)
    (claimed,) = await claim(writer.connection)
    message = json.loads(claimed.payload)
    assert claimed.message_id == f"{alert}.1.1"
    assert message["type"] == "alert.raised"
    assert message["data"] == {
        **shown,
        "alert_id": str(alert),
        "account": str(writer.user_id),
        "level": 1,
    }
    assert claimed.secrets[0].startswith("whsec_")
    assert (claimed.attempts, claimed.kind) == (1, "webhook")


async def test_levels_are_due_by_the_policy_of_the_time_of_the_raise(writer: DatabaseWriter) -> None:
    await put_escalation(writer.connection, writer.user_id, {"webhook_after_seconds": 3, "repeat_seconds": 7})
    await raised(writer)
    await put_escalation(
        writer.connection, writer.user_id, {"webhook_after_seconds": 100, "repeat_seconds": 100}
    )
    due = "SELECT extract(epoch FROM next_at - counted_from)::float8 FROM guardwire.alerts"
    assert await writer.value(due) == pytest.approx(3)
    await escalate(writer)
    assert await writer.value(due) == pytest.approx(20)
    await escalate(writer)
    from_now = "SELECT extract(epoch FROM next_at - clock_timestamp())::float8 FROM guardwire.alerts"
    assert await writer.value(from_now) == pytest.approx(7, abs=5)
    await writer.connection.execute("UPDATE guardwire.alerts SET deadline_at = clock_timestamp()")
    await escalate(writer)
    assert await writer.value(from_now) == pytest.approx(300, abs=60)
    await writer.connection.execute(
        "UPDATE guardwire.alerts SET counted_from = clock_timestamp() - interval '25 hours'"
    )
    assert await escalate(writer) == 0
    assert await writer.value("SELECT next_at FROM guardwire.alerts") is None


async def test_an_acknowledgement_at_the_deadline_is_before_or_after_the_level_and_never_both(
    writer: DatabaseWriter, connect: Connect
) -> None:
    """Three nodes escalate while one acknowledges."""
    nodes = [await connect() for _ in range(4)]
    for _ in range(12):
        each = writer.of()
        await webhook(each)
        alert = await raised(each)
        await make_due(each)
        done: list[Any] = await asyncio.gather(
            *map(housekeep, nodes[:3]), acknowledge(nodes[3], each.user_id, {alert: 1}, by_name="closer")
        )
        assert [outcome.outcome for outcome in done.pop()] == ["acknowledged"]
        escalated = sum(turn.alerts_escalated for turn in done)
        entries = await log(each, alert)
        assert entries == ["raised", *["escalated"] * escalated, "acknowledged"]
        assert len(await each.rows("deliveries")) == escalated <= 1
        # A message that was in the outbox before is not sent afterwards.
        assert await claim(writer.connection) == []


async def test_nodes_that_claim_at_once_get_each_message_once(
    writer: DatabaseWriter, connect: Connect
) -> None:
    for _ in range(20):
        await webhook(writer, EVERY_ACCOUNT)
    await raised(writer)
    await escalate(writer)
    nodes = [await connect() for _ in range(4)]
    claimed = await asyncio.gather(*(claim(node, str(n), 8) for n, node in enumerate(nodes)))
    ids = [each.delivery_id for some in claimed for each in some]
    assert len(ids) == len(set(ids)) == 20
    assert await claim(writer.connection) == []


async def test_a_message_whose_node_died_is_claimed_again_under_its_id(writer: DatabaseWriter) -> None:
    await webhook(writer)
    await raised(writer)
    await escalate(writer)
    (first,) = await claim(writer.connection)
    await writer.connection.execute("UPDATE guardwire.deliveries SET due_at = clock_timestamp()")
    assert (await housekeep(writer.connection)).deliveries_due
    (again,) = await claim(writer.connection, "two")
    assert (again.message_id, again.attempts) == (first.message_id, 2)
    # The first node was only slow. Its failure is no news, its success is.
    await finish_delivery(writer.connection, first.delivery_id, node="one", outcome="failed")
    assert (await writer.rows("deliveries"))[0]["claimed_by"] == "two"
    await finish_delivery(
        writer.connection, first.delivery_id, node="one", outcome="delivered", http_status=204
    )
    (row,) = await writer.rows("deliveries")
    assert (row["outcome"], row["last_status"]) == ("delivered", 204)


async def test_failures_are_tried_again_within_the_countdown_and_then_ever_more_seldom(
    writer: DatabaseWriter,
) -> None:
    await webhook(writer)
    await raised(writer)
    await escalate(writer)
    await writer.connection.execute(
        "UPDATE guardwire.deliveries SET deadline_at = clock_timestamp() + interval '1 hour'"
    )
    waits = []
    for n in range(11):
        (claimed,) = await claim(writer.connection)
        if n == 8:
            await writer.connection.execute("UPDATE guardwire.deliveries SET deadline_at = clock_timestamp()")
        await finish_delivery(
            writer.connection, claimed.delivery_id, node="one", outcome="failed", http_status=500
        )
        due = await writer.value(
            "SELECT extract(epoch FROM due_at - clock_timestamp())::float8 FROM guardwire.deliveries"
        )
        waits.append(round(due + 0.4))
        await writer.connection.execute("UPDATE guardwire.deliveries SET due_at = clock_timestamp()")
    assert waits == [1, 1, 2, 4, 7, 15, 30, 30, 1200, 2400, 3600]
    await writer.connection.execute(
        "UPDATE guardwire.deliveries SET created_at = created_at - interval '1 day'"
    )
    (claimed,) = await claim(writer.connection)
    await finish_delivery(writer.connection, claimed.delivery_id, node="one", outcome="failed")
    assert (await writer.rows("deliveries"))[0]["outcome"] == "failed"


async def test_retry_after_is_honoured_within_an_hour(writer: DatabaseWriter) -> None:
    await webhook(writer)
    await raised(writer)
    await escalate(writer)
    for asked, waited in ((60, 60), (100_000, 3600)):
        (claimed,) = await claim(writer.connection)
        await finish_delivery(
            writer.connection,
            claimed.delivery_id,
            node="one",
            outcome="failed",
            http_status=429,
            retry_after_seconds=asked,
        )
        due = await writer.value("SELECT due_at FROM guardwire.deliveries")
        assert due - datetime.now(UTC) == pytest.approx(timedelta(seconds=waited), abs=timedelta(seconds=20))
        await writer.connection.execute("UPDATE guardwire.deliveries SET due_at = clock_timestamp()")


async def test_an_endpoint_that_is_gone_is_disabled_and_that_is_an_alert(writer: DatabaseWriter) -> None:
    endpoint = await webhook(writer)
    await raised(writer)
    await escalate(writer)
    (claimed,) = await claim(writer.connection)
    before = await writer.revision()
    await finish_delivery(writer.connection, claimed.delivery_id, node="one", outcome="gone", http_status=410)
    assert await writer.revision() > before
    (found,) = await list_endpoints(writer.connection, writer.user_id)
    assert found.disabled_at is not None
    shown = {each["kind"]: each for each in (await alerts(writer))["open"].values()}
    assert (shown["delivery"]["severity"], shown["delivery"]["subject"]) == ("warning", str(endpoint))
    await put_endpoint(writer.connection, writer.user_id, endpoint=endpoint, enabled=True)
    shown = {each["kind"]: each for each in (await alerts(writer))["open"].values()}
    assert "resolved_at" in shown["delivery"]


async def test_an_operators_test_message_that_is_refused_disables_the_endpoint_and_alarms_no_account(
    writer: DatabaseWriter,
) -> None:
    endpoint = await webhook(writer, EVERY_ACCOUNT)
    assert await send_test(writer.connection, EVERY_ACCOUNT, endpoint) is not None
    (claimed,) = await claim(writer.connection)
    await finish_delivery(writer.connection, claimed.delivery_id, node="one", outcome="gone", http_status=410)
    (found,) = await list_endpoints(writer.connection, EVERY_ACCOUNT)
    assert found.disabled_at is not None
    assert await writer.connection.fetchval("SELECT count(*) FROM guardwire.alerts") == 0


async def test_a_resolved_alert_is_not_sent(writer: DatabaseWriter) -> None:
    await webhook(writer)
    alert = await raised(writer)
    await escalate(writer)
    await writer.equity(10_000, 2)
    assert await claim(writer.connection) == []
    assert [row["outcome"] for row in await writer.rows("deliveries")] == ["superseded"]
    assert (await read_alert_log(writer.connection, writer.user_id, alert))[-1].entry == "resolved"


async def test_another_server_sends_nothing_before_an_operator_releases_it(writer: DatabaseWriter) -> None:
    await webhook(writer)
    await raised(writer)
    await escalate(writer)
    assert await delivers(writer.connection)
    await writer.connection.execute("UPDATE guardwire.configuration SET deliveries_on = '1.1'")
    assert not (await housekeep(writer.connection)).deliveries_due
    assert await claim(writer.connection) == []
    assert await release_deliveries(writer.connection) == 1
    assert len(await claim(writer.connection)) == 1
    assert await release_deliveries(writer.connection, discard=True) == 1
    assert [row["outcome"] for row in await writer.rows("deliveries")] == ["superseded"]


async def test_a_test_and_a_redelivery_are_messages_to_an_endpoint_of_the_account(
    writer: DatabaseWriter,
) -> None:
    endpoint, other = await webhook(writer), writer.of()
    assert await send_test(writer.connection, other.user_id, endpoint) is None
    delivery = await send_test(writer.connection, writer.user_id, endpoint)
    assert delivery is not None
    (claimed,) = await claim(writer.connection)
    assert json.loads(claimed.payload)["type"] == "alert.test"
    assert not await redeliver(writer.connection, writer.user_id, endpoint, delivery)
    await finish_delivery(writer.connection, delivery, node="one", outcome="delivered", http_status=200)
    assert not await redeliver(writer.connection, other.user_id, endpoint, delivery)
    assert await redeliver(writer.connection, writer.user_id, endpoint, delivery)
    (again,) = await claim(writer.connection)
    assert (again.message_id, again.attempts) == (claimed.message_id, 1)
    (listed,) = await list_deliveries(writer.connection, writer.user_id, endpoint)
    assert listed.delivery_id == delivery
    assert await list_deliveries(writer.connection, other.user_id, endpoint) == []


async def test_two_secrets_sign_while_one_rotates_and_a_deleted_endpoint_gets_nothing(
    writer: DatabaseWriter,
) -> None:
    endpoint = await webhook(writer)
    ((first,),) = [each.secrets for each in await list_endpoints(writer.connection, writer.user_id)]
    second = await rotate_secret(writer.connection, writer.user_id, endpoint)
    third = await rotate_secret(writer.connection, writer.user_id, endpoint)
    (found,) = await list_endpoints(writer.connection, writer.user_id)
    assert found.secrets == [third, second]
    assert len({first, second, third}) == 3
    assert await rotate_secret(writer.connection, uuid4(), endpoint) is None
    await send_test(writer.connection, writer.user_id, endpoint)
    assert not await delete_endpoint(writer.connection, uuid4(), endpoint)
    assert await delete_endpoint(writer.connection, writer.user_id, endpoint)
    assert await claim(writer.connection) == []


async def test_a_policy_has_defaults_and_refuses_other_names_and_values(writer: DatabaseWriter) -> None:
    defaults = await read_escalation(writer.connection, writer.user_id)
    assert (defaults["webhook_after_seconds"], defaults["people_after_seconds"]) == (10, 20)
    changed = await put_escalation(writer.connection, writer.user_id, {"hold_seconds": 30})
    assert changed == {**defaults, "hold_seconds": 30}
    assert await read_escalation(writer.connection, writer.user_id) == changed
    assert await read_escalation(writer.connection, uuid4()) == defaults
    with pytest.raises(asyncpg.InvalidParameterValueError, match="holdseconds"):
        await put_escalation(writer.connection, writer.user_id, {"holdseconds": 30})
    with pytest.raises(asyncpg.CheckViolationError):
        await put_escalation(writer.connection, writer.user_id, {"hold_seconds": -1})


async def test_old_messages_and_log_entries_are_deleted_and_those_of_open_alerts_stay(
    writer: DatabaseWriter,
) -> None:
    others = [writer, writer.of()]
    for each in others:
        await webhook(each)
        alert = await raised(each)
        await escalate(each)
    await others[1].equity(10_000, 2)
    await ack(others[1], alert)
    await claim(writer.connection)
    await writer.connection.execute(
        "UPDATE guardwire.alert_log SET at = at - interval '31 days';"
        "UPDATE guardwire.deliveries SET finished_at = finished_at - interval '49 hours'"
    )
    await prune(writer.connection)
    assert [len(await each.rows("alert_log")) for each in others] == [3, 0]
    assert [len(await each.rows("deliveries")) for each in others] == [1, 0]
    assert len(await others[1].rows("alerts")) == 1


async def test_a_node_attempts_a_share_of_its_places_for_one_account_and_half_of_them_for_the_operator(
    writer: DatabaseWriter,
) -> None:
    other = DatabaseWriter(writer.connection)
    owners = {
        await webhook(writer): writer.user_id,
        await webhook(writer): writer.user_id,
        await webhook(writer, EVERY_ACCOUNT): EVERY_ACCOUNT,
        await webhook(other): other.user_id,
    }
    for endpoint in owners:
        await writer.connection.execute(
            "INSERT INTO guardwire.deliveries (alert_id, generation, level, endpoint_id, user_id, message_id, payload)"
            ' SELECT gen_random_uuid(), 1, 1, $1, $2, n, \'{"type": "alert.test"}\' FROM generate_series(1, 300) AS n',
            endpoint,
            writer.user_id,
        )
    first: list[Claim] = []
    while some := await claim(
        writer.connection, most=32 - len(first), under_way=[each.delivery_id for each in first]
    ):
        first += some
    places = Counter(owners[each.endpoint_id] for each in first)
    assert places == {writer.user_id: 4, EVERY_ACCOUNT: 16, other.user_id: 4}
    done, *rest = first
    await finish_delivery(
        writer.connection, done.delivery_id, node="one", outcome="delivered", http_status=200
    )
    (next_one,) = await claim(writer.connection, under_way=[each.delivery_id for each in rest])
    assert owners[next_one.endpoint_id] == owners[done.endpoint_id]
    # Each node has places of its own.
    assert len(await claim(writer.connection, "two")) > 0
