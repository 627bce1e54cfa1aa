"""From a row of the platform to the webhook: a whole node escalates an alert that nobody acknowledges, and no other."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, Final
from uuid import UUID

from standardwebhooks import Webhook

from queries.alert_calls import (
    EVERY_ACCOUNT,
    acknowledge,
    list_alerts,
    list_endpoints,
    put_endpoint,
    put_escalation,
)
from tests.auth.issuer import SECRET
from tests.end_to_end.production_node import serving_with
from tests.escalation.receiver import Receiver, saying
from tests.machine import slowness
from tests.queries.database_writer import DatabaseWriter, connected
from tests.waiting import until

WEBHOOK_AFTER_SECONDS: Final = 2
#: Level 1 is sent within a second of its time.
SENT_WITHIN_SECONDS: Final = WEBHOOK_AFTER_SECONDS + 1.0


async def raise_drawdown(writer: DatabaseWriter) -> None:
    """Write equity of a critical drawdown, and leave applying it to the node."""
    await writer.equity(10_000)
    await writer.equity(8_000, 1)


async def only_alert(driver: Any, writer: DatabaseWriter) -> tuple[str, dict[str, Any]]:
    """The account's alert, once the node has raised it."""
    async with asyncio.timeout(20):
        while not (found := await list_alerts(driver, writer.user_id)):
            await asyncio.sleep(0.02)
    ((alert_id, alert),) = found.items()
    return alert_id, alert


async def test_an_alert_that_nobody_acknowledges_reaches_the_webhook_in_time(migrated_url: str) -> None:
    async with (
        connected(migrated_url) as driver,
        Receiver() as receiver,
        serving_with(migrated_url, "", jwt_secret=SECRET, webhook_allow_private=True),
    ):
        writer = DatabaseWriter(driver, applies=False)
        await put_escalation(driver, EVERY_ACCOUNT, {"webhook_after_seconds": WEBHOOK_AFTER_SECONDS})
        await put_endpoint(driver, EVERY_ACCOUNT, kind="webhook", url=receiver.url)
        await raise_drawdown(writer)
        alert_id, alert = await only_alert(driver, writer)
        raised = time.monotonic()
        await until(lambda: receiver.requests, seconds=SENT_WITHIN_SECONDS * slowness())
        assert time.monotonic() - raised > WEBHOOK_AFTER_SECONDS - 1
        (endpoint,) = await list_endpoints(driver, EVERY_ACCOUNT)
    request = receiver.requests[0]
    event = Webhook(endpoint.secrets[0]).verify(request.body, request.headers)
    assert request.headers["webhook-id"] == f"{alert_id}.1.1"
    assert event["data"]["account"] == str(writer.user_id)
    assert event["data"]["deadline_at"] == alert["deadline_at"]


async def test_an_alert_that_is_acknowledged_between_two_attempts_is_not_sent_again(
    migrated_url: str,
) -> None:
    async with (
        connected(migrated_url) as driver,
        Receiver() as receiver,
        serving_with(migrated_url, "", jwt_secret=SECRET, webhook_allow_private=True),
    ):
        receiver.answer = saying(500)
        writer = DatabaseWriter(driver, applies=False)
        policy = {"webhook_after_seconds": 0, "people_after_seconds": 3600}
        await put_escalation(driver, writer.user_id, policy)
        await put_endpoint(driver, writer.user_id, kind="webhook", url=receiver.url)
        await raise_drawdown(writer)
        alert_id, _ = await only_alert(driver, writer)
        await until(lambda: receiver.requests, seconds=SENT_WITHIN_SECONDS * slowness())
        (done,) = await acknowledge(driver, writer.user_id, {UUID(alert_id): 1}, by_name="closer-1")
        assert done.outcome == "acknowledged"
        async with asyncio.timeout(20):
            while await driver.fetchval("SELECT outcome FROM guardwire.deliveries") != "superseded":
                await asyncio.sleep(0.05)
        # One attempt may have been under way when the acknowledgement was committed.
        assert len(receiver.requests) <= 3
        assert {json.loads(each.body)["data"]["alert_id"] for each in receiver.requests} == {alert_id}
