"""A whole node sends alerts, and knows whether it does its whole work."""

from __future__ import annotations

import asyncio
import uuid
from typing import Final

from queries.alert_calls import Beat, acknowledge, beat, list_alerts, put_endpoint, send_test, set_arming
from realtime.database import engine_for
from realtime.escalation.escalation import Escalation
from realtime.feed.connection import KeptConnection
from realtime.feed.trouble import Trouble
from realtime.metrics import METRICS
from realtime.settings import Settings
from tests.auth.issuer import SECRET
from tests.end_to_end.production_node import serving_with
from tests.escalation.receiver import Receiver
from tests.queries.database_writer import DatabaseWriter, connected
from tests.waiting import until

ACCOUNT: Final = uuid.uuid4()


async def test_a_node_in_production_sends_what_is_due(migrated_url: str) -> None:
    async with (
        connected(migrated_url) as driver,
        Receiver() as receiver,
        serving_with(migrated_url, "", jwt_secret=SECRET, webhook_allow_private=True),
    ):
        endpoint = await put_endpoint(driver, ACCOUNT, kind="webhook", url=receiver.url)
        assert endpoint is not None
        await send_test(driver, ACCOUNT, endpoint)
        await until(lambda: receiver.requests)


async def test_without_the_setting_a_node_calls_no_private_address(migrated_url: str) -> None:
    async with (
        connected(migrated_url) as driver,
        Receiver() as receiver,
        serving_with(migrated_url, "", jwt_secret=SECRET),
    ):
        endpoint = await put_endpoint(
            driver, ACCOUNT, kind="webhook", url=receiver.url.replace("http://", "https://")
        )
        assert endpoint is not None
        await send_test(driver, ACCOUNT, endpoint)
        async with asyncio.timeout(10):
            while not await driver.fetchval("SELECT attempts > 1 FROM guardwire.deliveries"):
                await asyncio.sleep(0.02)
        assert receiver.connections == 0


async def test_the_watchdog_hears_of_each_part_that_does_not_work(migrated_url: str) -> None:
    feed_problem: str | None = "starting"
    engine = engine_for(migrated_url, pool_size=1, pooled=False)
    subject = Escalation(
        settings=Settings(watchdog_url="https://checks.example/ping"),
        connection=KeptConnection(engine),
        node="one",
        trouble=Trouble(),
        problem=lambda: feed_problem,
    )
    assert [name for name, _ in subject.tasks()] == ["escalation", "watchdog"]
    assert subject.url_problem("webhook", "https://hooks.example/") is None
    assert subject.url_problem("webhook", "tgram://token/2") == "must begin with https://"
    assert subject.url_problem("person", "tgram://token/2") is None
    assert subject.url_problem("person", "https://hooks.example/") is not None
    assert subject.problem() == "the outbox has not been read lately"
    task = asyncio.create_task(subject.deliverer.run())
    await until(lambda: subject.problem() == "starting")
    feed_problem = None
    assert subject.problem() is None
    task.cancel()
    await asyncio.wait([task])
    async with connected(migrated_url) as driver:
        await driver.execute(
            "INSERT INTO guardwire.deliveries (alert_id, generation, level, endpoint_id, user_id, message_id, payload,"
            " due_at) VALUES ($1, 1, 1, $1, $1, 'late', '{}', clock_timestamp() - interval '1 minute')",
            ACCOUNT,
        )
    late = Escalation(
        settings=Settings(),
        connection=KeptConnection(engine),
        node="one",
        trouble=Trouble(),
        problem=lambda: None,
    )
    assert [name for name, _ in late.tasks()] == ["escalation"]
    task = asyncio.create_task(late.deliverer.run())
    await until(lambda: late.problem() == "alerts wait to be sent")
    assert METRICS.outbox_oldest.get() >= 60
    task.cancel()
    await asyncio.wait([task])
    for each in (subject, late):
        await each.close()
    await engine.dispose()


async def test_a_node_counts_alerts_and_armed_accounts_of_all_accounts(migrated_url: str) -> None:
    engine = engine_for(migrated_url, pool_size=1, pooled=False)
    subject = Escalation(
        settings=Settings(),
        connection=KeptConnection(engine),
        node="one",
        trouble=Trouble(),
        problem=lambda: None,
    )
    async with connected(migrated_url) as driver:
        late, acknowledged, attended = DatabaseWriter(driver), DatabaseWriter(driver), DatabaseWriter(driver)
        for writer in (late, acknowledged):
            await writer.equity(10_000)
            await writer.equity(8_000, 1)
        (alert,) = await list_alerts(driver, acknowledged.user_id)
        seen = METRICS.acknowledgement_seconds.get()
        for name in ("closer-1", "closer-2"):
            await acknowledge(driver, acknowledged.user_id, {uuid.UUID(alert): 1}, by_name=name)
        assert METRICS.acknowledgement_seconds.get() == seen + 1, "a second one is none"
        await driver.execute(
            "UPDATE guardwire.alerts SET deadline_at = now() - interval '1 s' WHERE user_id = $1",
            late.user_id,
        )
        for writer in (late, attended):
            await set_arming(driver, writer.user_id, armed=True, by_name="owner")
        await beat(driver, [Beat(attended.user_id, "closer-1", 30.0)])
    task = asyncio.create_task(subject.deliverer.run())
    await until(lambda: METRICS.alerts_open.get() == 2)
    assert METRICS.alerts_unacknowledged.get() == 1
    assert METRICS.alerts_overdue.get() == 1
    assert METRICS.armed_accounts.get() == 2
    assert METRICS.attended_accounts.get() == 1
    task.cancel()
    await asyncio.wait([task])
    await subject.close()
    await engine.dispose()
