"""Alerts in a real database are sent by real nodes' deliverers over real HTTP."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from standardwebhooks import Webhook

from queries.alert_calls import (
    EVERY_ACCOUNT,
    claim_deliveries,
    list_deliveries,
    list_endpoints,
    put_endpoint,
    redeliver,
    rotate_secret,
    send_test,
)
from realtime.database import engine_for
from realtime.escalation.deliverer import Deliverer, Send
from realtime.escalation.outbound import OutboundRequests
from realtime.escalation.outbox import DatabaseOutbox
from realtime.escalation.webhook import WebhookSender
from realtime.feed.connection import KeptConnection
from realtime.feed.trouble import Trouble
from tests.escalation.receiver import Receiver, hanging, saying
from tests.machine import slowness
from tests.queries.database_writer import connected
from tests.waiting import until

ACCOUNT: Final = uuid.uuid4()

#: Put so many messages to an endpoint into the outbox, as a storm of alarms does.
_STORM: Final = """
INSERT INTO guardwire.deliveries (alert_id, generation, level, endpoint_id, user_id, message_id, payload)
SELECT gen_random_uuid(), 1, 1, $1, $2, 'storm-' || n || '.1.1', jsonb_build_object('type', 'alert.test', 'n', n)
FROM generate_series(1, $3::integer) AS n
"""


@asynccontextmanager
async def node(
    database_url: str, name: str, *, lease_seconds: float = 20.0, send: Send | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    """A node's deliverer, while the context lasts."""
    engine = engine_for(database_url, pool_size=2, pooled=False)
    connection = KeptConnection(engine)
    webhook = WebhookSender(OutboundRequests(allow_private=True)).send
    deliverer = Deliverer(
        outbox=DatabaseOutbox(connection=connection, node=name, lease_seconds=lease_seconds),
        senders={"webhook": send or webhook},
        trouble=Trouble(),
        poll_seconds=0.05,
    )
    task = asyncio.create_task(deliverer.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
        await connection.close()
        await engine.dispose()


async def webhook_of(driver: Any, receiver: Receiver, account: uuid.UUID = ACCOUNT) -> uuid.UUID:
    """A new webhook that leads to ``receiver``."""
    endpoint = await put_endpoint(driver, account, kind="webhook", url=receiver.url)
    assert endpoint is not None
    return endpoint


async def finished(driver: Any, count: int) -> None:
    """Wait until so many deliveries are finished."""
    async with asyncio.timeout(30):
        while (
            await driver.fetchval("SELECT count(*) FROM guardwire.deliveries WHERE finished_at IS NOT NULL")
            < count
        ):
            await asyncio.sleep(0.02)


def ids(receiver: Receiver) -> Counter[str]:
    """How often each message came."""
    return Counter(request.headers["webhook-id"] for request in receiver.requests)


async def test_a_test_message_arrives_signed_and_is_on_record(migrated_url: str) -> None:
    async with connected(migrated_url) as driver, Receiver() as receiver, node(migrated_url, "one"):
        endpoint = await webhook_of(driver, receiver)
        assert await send_test(driver, ACCOUNT, endpoint) is not None
        await finished(driver, 1)
        (kept,) = await list_endpoints(driver, ACCOUNT)
        (record,) = await list_deliveries(driver, ACCOUNT, endpoint)
    (request,) = receiver.requests
    event = Webhook(kept.secrets[0]).verify(request.body, request.headers)
    assert event["type"] == "alert.test"
    assert request.headers["webhook-id"] == record.message_id
    assert (record.outcome, record.last_status, record.attempts) == ("delivered", 200, 1)


async def test_a_secret_rotates_without_a_webhook_that_the_receiver_refuses(migrated_url: str) -> None:
    async with connected(migrated_url) as driver, Receiver() as receiver, node(migrated_url, "one"):
        endpoint = await webhook_of(driver, receiver)
        ((old,),) = [each.secrets for each in await list_endpoints(driver, ACCOUNT)]
        new = await rotate_secret(driver, ACCOUNT, endpoint)
        assert new is not None
        await send_test(driver, ACCOUNT, endpoint)
        await finished(driver, 1)
    (request,) = receiver.requests
    for secret in (old, new):
        Webhook(secret).verify(request.body, request.headers)


async def test_a_webhook_that_is_gone_is_disabled_and_an_alert_says_so(migrated_url: str) -> None:
    async with connected(migrated_url) as driver, Receiver() as receiver, node(migrated_url, "one"):
        receiver.answer = saying(410)
        endpoint = await webhook_of(driver, receiver)
        await send_test(driver, ACCOUNT, endpoint)
        await finished(driver, 1)
        (kept,) = await list_endpoints(driver, ACCOUNT)
        assert kept.disabled_at is not None
        kinds = await driver.fetch("SELECT kind, subject FROM guardwire.alerts WHERE user_id = $1", ACCOUNT)
        assert [tuple(row) for row in kinds] == [("delivery", str(endpoint))]
        assert await send_test(driver, ACCOUNT, endpoint) is None
    assert len(receiver.requests) == 1


async def test_a_failed_message_is_tried_again_soon_and_not_before_the_time_that_the_answer_asks_for(
    migrated_url: str,
) -> None:
    async with connected(migrated_url) as driver, Receiver() as receiver, node(migrated_url, "one"):
        receiver.answer = saying(500)
        endpoint = await webhook_of(driver, receiver)
        await send_test(driver, ACCOUNT, endpoint)
        await until(lambda: len(receiver.requests) == 2)
        receiver.answer = saying(503, "Retry-After: 600")
        await until(lambda: len(receiver.requests) == 3)
        async with asyncio.timeout(10):
            while True:
                (record,) = await list_deliveries(driver, ACCOUNT, endpoint)
                if record.last_status == 503:
                    break
                await asyncio.sleep(0.02)
        waits = await driver.fetchval("SELECT due_at - clock_timestamp() FROM guardwire.deliveries")
        assert 590 - 10 * slowness() < waits.total_seconds() <= 600
    assert set(ids(receiver).values()) == {3}


async def test_a_node_that_is_killed_between_the_answer_and_the_commit_leaves_a_duplicate_and_no_miss(
    migrated_url: str,
) -> None:
    webhook = WebhookSender(OutboundRequests(allow_private=True)).send

    async def send(claim: Any) -> Any:
        await webhook(claim)
        await asyncio.sleep(3600)

    async with connected(migrated_url) as driver, Receiver() as receiver:
        endpoint = await webhook_of(driver, receiver)
        await send_test(driver, ACCOUNT, endpoint)
        async with node(migrated_url, "killed", lease_seconds=1.0, send=send):
            await until(lambda: receiver.requests)
        (record,) = await list_deliveries(driver, ACCOUNT, endpoint)
        assert record.finished_at is None
        async with node(migrated_url, "successor"):
            await finished(driver, 1)
        assert list(ids(receiver).values()) == [2]


async def test_1000_messages_are_sent_by_two_nodes_within_10_seconds_each_once(migrated_url: str) -> None:
    async with connected(migrated_url) as driver, Receiver() as receiver:
        endpoint = await webhook_of(driver, receiver, EVERY_ACCOUNT)
        await driver.execute(_STORM, endpoint, ACCOUNT, 1000)
        bound_seconds = 10 * slowness()
        began = time.monotonic()
        async with node(migrated_url, "one"), node(migrated_url, "two"):
            await until(lambda: len(receiver.requests) >= 1000, seconds=bound_seconds)
            assert time.monotonic() - began < bound_seconds
            await finished(driver, 1000)
        outcomes = await driver.fetch("SELECT outcome, count(*) FROM guardwire.deliveries GROUP BY outcome")
        assert [tuple(row) for row in outcomes] == [("delivered", 1000)]
    assert set(ids(receiver).values()) == {1}
    assert len(ids(receiver)) == 1000


async def test_the_hanging_webhooks_of_one_account_hold_up_no_other_account(migrated_url: str) -> None:
    async with connected(migrated_url) as driver, Receiver() as stuck, Receiver() as receiver:
        stuck.answer = hanging
        many = [await webhook_of(driver, stuck) for _ in range(2)]
        for endpoint in many:
            await driver.execute(_STORM, endpoint, ACCOUNT, 20)
        other = uuid.uuid4()
        endpoint = await webhook_of(driver, receiver, other)
        await send_test(driver, other, endpoint)
        began = time.monotonic()
        async with node(migrated_url, "one"):
            await until(lambda: receiver.requests, seconds=4)
            assert time.monotonic() - began < 4
            await until(lambda: len(stuck.requests) >= 4)
            assert len(stuck.requests) == 4
            # A message that becomes due while they hang is sent at once, too.
            await send_test(driver, other, endpoint)
            await until(lambda: len(receiver.requests) == 2, seconds=2 * slowness())


async def test_no_transaction_is_open_while_a_receiver_is_waited_for(migrated_url: str) -> None:
    entered = asyncio.Event()

    async def send(claim: Any) -> Any:
        entered.set()
        await asyncio.sleep(3600)

    async with connected(migrated_url) as driver, Receiver() as receiver:
        endpoint = await webhook_of(driver, receiver)
        await send_test(driver, ACCOUNT, endpoint)
        async with node(migrated_url, "one", send=send):
            await entered.wait()
            open_transactions = await driver.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL"
                " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
            assert open_transactions == 0
            # Another node may look at the outbox meanwhile, and does not get the message.
            assert await claim_deliveries(driver, node="two", most=10, lease_seconds=1) == []


async def test_a_redelivery_has_the_id_of_the_first_delivery(migrated_url: str) -> None:
    async with connected(migrated_url) as driver, Receiver() as receiver, node(migrated_url, "one"):
        endpoint = await webhook_of(driver, receiver)
        delivery = await send_test(driver, ACCOUNT, endpoint)
        assert delivery is not None
        await finished(driver, 1)
        assert await redeliver(driver, ACCOUNT, endpoint, delivery)
        await until(lambda: len(receiver.requests) == 2)
        await finished(driver, 1)
    assert list(ids(receiver).values()) == [2]
    assert [json.loads(request.body)["type"] for request in receiver.requests] == ["alert.test"] * 2
