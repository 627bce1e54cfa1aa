"""The task that sends what is due: side by side, again after a failure, and without a miss when it is stopped."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

import asyncpg
import pytest

from queries.alert_calls import Claim
from realtime.escalation.deliverer import Deliverer, Send
from realtime.escalation.outbound import OutboundRequests
from realtime.escalation.outbox import Result
from realtime.escalation.webhook import WebhookSender
from realtime.feed.trouble import Trouble
from realtime.metrics import METRICS
from tests.escalation.deliveries import MemoryOutbox, delivery
from tests.escalation.receiver import Receiver, hanging, saying
from tests.machine import slowness
from tests.waiting import until


def deliverer(outbox: MemoryOutbox, *, send: Send | None = None) -> Deliverer:
    """A deliverer that sends over real HTTP by default."""
    webhook = WebhookSender(OutboundRequests(allow_private=True)).send
    return Deliverer(
        outbox=outbox, senders={"webhook": send or webhook}, trouble=Trouble(), poll_seconds=0.05
    )


@asynccontextmanager
async def running(deliverer: Deliverer) -> AsyncIterator[asyncio.Task[None]]:
    """The deliverer runs while the context lasts."""
    task = asyncio.create_task(deliverer.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


def ids(receiver: Receiver) -> Counter[str]:
    """How often each message came."""
    return Counter(request.headers["webhook-id"] for request in receiver.requests)


async def test_1000_deliveries_are_sent_within_10_seconds_at_most_32_at_once() -> None:
    under_way = most = 0
    webhook = WebhookSender(OutboundRequests(allow_private=True)).send

    async def send(claim: Claim) -> Result:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        result = await webhook(claim)
        under_way -= 1
        return result

    async with Receiver() as receiver:
        outbox = MemoryOutbox(*(delivery(receiver.url, number=number) for number in range(1000)))
        began = time.monotonic()
        async with running(deliverer(outbox, send=send)):
            await until(lambda: outbox.is_empty, seconds=10 * slowness())
        took_seconds = time.monotonic() - began
    assert took_seconds < 10 * slowness()
    assert most == 32
    assert set(ids(receiver).values()) == {1}
    assert len(receiver.requests) == 1000


async def test_receivers_that_hang_hold_up_only_their_own_places() -> None:
    async with Receiver() as stuck, Receiver() as receiver:
        stuck.answer = hanging
        outbox = MemoryOutbox(
            *(delivery(stuck.url, number=number) for number in range(31)),
            *(delivery(receiver.url, number=number) for number in range(100, 150)),
        )
        began = time.monotonic()
        async with running(deliverer(outbox)):
            await until(lambda: len(receiver.requests) == 50, seconds=4)
            assert time.monotonic() - began < 4
            assert len(stuck.requests) == 31


async def test_a_failed_delivery_is_sent_again_under_the_same_id_until_it_arrives() -> None:
    async with Receiver() as receiver:
        receiver.answer = saying(500)
        outbox = MemoryOutbox(delivery(receiver.url))
        async with running(deliverer(outbox)):
            await until(lambda: len(receiver.requests) >= 2)
            receiver.answer = saying(200)
            await until(lambda: outbox.is_empty)
    assert set(ids(receiver)) == {"alert-1.1.1"}
    assert [result.outcome for _, result in outbox.results] == ["failed"] * (len(outbox.results) - 1) + [
        "delivered"
    ]


async def test_retry_after_reaches_the_outbox() -> None:
    async with Receiver() as receiver:
        receiver.answer = saying(429, "Retry-After: 30")
        outbox = MemoryOutbox(delivery(receiver.url))
        async with running(deliverer(outbox)):
            await until(lambda: outbox.results)
    assert outbox.results == [(1, Result("failed", 429, "HTTP 429", retry_after_seconds=30))]


async def test_killed_between_the_answer_and_the_note_it_is_sent_again_under_the_same_id() -> None:
    async with Receiver() as receiver:
        outbox = MemoryOutbox(delivery(receiver.url), lease_seconds=0.3)
        outbox.errors = [ConnectionResetError()] * 1000
        task = asyncio.create_task(deliverer(outbox).run())
        await until(lambda: receiver.requests)
        task.cancel()
        await asyncio.wait([task])
        assert outbox.results == []
        outbox.errors = []
        async with running(deliverer(outbox)):
            await until(lambda: outbox.is_empty)
    assert ids(receiver) == {"alert-1.1.1": 2}


async def test_a_database_that_is_away_for_a_moment_gets_the_note_later_and_nobody_a_duplicate() -> None:
    async with Receiver() as receiver:
        outbox = MemoryOutbox(delivery(receiver.url))
        outbox.errors = [asyncpg.CannotConnectNowError("starting"), OSError(111, "refused")]
        async with running(deliverer(outbox)):
            await until(lambda: outbox.is_empty)
    assert ids(receiver) == {"alert-1.1.1": 1}


async def test_a_database_that_cannot_be_read_is_asked_again() -> None:
    class Away(MemoryOutbox):
        def __init__(self, *deliveries: Claim) -> None:
            super().__init__(*deliveries)
            self.calls = 0

        async def claim(self, most: int, *, under_way: Collection[int] = ()) -> list[Claim]:
            self.calls += 1
            if self.calls < 3:
                raise TimeoutError
            return await super().claim(most, under_way=under_way)

    async with Receiver() as receiver:
        outbox = Away(delivery(receiver.url))
        subject = deliverer(outbox)
        assert subject.claimed_at == float("-inf")
        async with running(subject):
            await until(lambda: outbox.is_empty)
        assert subject.claimed_at > 0


async def test_what_is_under_way_at_the_end_is_finished_when_it_is_quick_and_else_abandoned() -> None:
    entered = asyncio.Event()

    async def send(claim: Claim) -> Result:
        entered.set()
        await asyncio.sleep(0.2 if claim.delivery_id == 1 else 3600)
        return Result("delivered", status=200)

    outbox = MemoryOutbox(
        delivery("https://hooks.example/", number=1), delivery("https://hooks.example/", number=2)
    )
    async with running(deliverer(outbox, send=send)) as task:
        await entered.wait()
        began = time.monotonic()
        task.cancel()
        await asyncio.wait([task])
    assert time.monotonic() - began < 1.0 * slowness()
    assert outbox.results == [(1, Result("delivered", status=200))]


async def test_without_messages_the_outbox_is_read_seldom_and_a_retry_is_sent_at_its_time() -> None:
    class Counting(MemoryOutbox):
        reads = 0

        async def read_due_in(self) -> float | None:
            self.reads += 1
            return await super().read_due_in()

    async with Receiver() as receiver:
        receiver.answer = saying(503, "Retry-After: 1")
        outbox = Counting(delivery(receiver.url))
        webhook = WebhookSender(OutboundRequests(allow_private=True)).send
        subject = Deliverer(outbox=outbox, senders={"webhook": webhook}, trouble=Trouble())
        async with running(subject):
            await until(lambda: outbox.results)
            began, reads = time.monotonic(), outbox.reads
            receiver.answer = saying(200)
            await until(lambda: outbox.is_empty)
            assert 0.8 < time.monotonic() - began < 2.0 * slowness()
            # After the failure, at the time of the retry (twice when a timer is early), after the claim, at the end.
            assert outbox.reads - reads <= 5
            assert subject._poll_seconds >= 10


async def test_an_odd_delivery_fails_alone() -> None:
    async with Receiver() as receiver:
        outbox = MemoryOutbox(
            delivery(receiver.url, number=1, kind="pigeon"), delivery(receiver.url, number=2)
        )
        async with running(deliverer(outbox)):
            await until(lambda: len(outbox.results) >= 2)
    assert dict(outbox.results)[1] == Result("failed", reason="KeyError")
    assert dict(outbox.results)[2].outcome == "delivered"


async def test_the_log_names_the_first_failure_and_no_part_of_the_url_or_the_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with Receiver() as receiver:
        receiver.answer = saying(500, "X-Leak: of-a-header", body=b"of-a-body")
        outbox = MemoryOutbox(delivery(receiver.url_of("localhost") + "&token=of-the-url"))
        async with running(deliverer(outbox)):
            await until(lambda: len(outbox.results) >= 3)
    lines = [record for record in caplog.records if record.name.startswith("realtime.")]
    assert [record.levelno for record in lines][:3] == [logging.WARNING, logging.DEBUG, logging.DEBUG]
    assert "HTTP 500" in lines[0].getMessage()
    assert not [line for line in lines if "of-" in line.getMessage() or "localhost" in line.getMessage()]


async def test_attempts_are_counted_by_outcome() -> None:
    def counts() -> Sequence[float]:
        outcomes = map(METRICS.deliveries.get, ("delivered", "failed", "gone"))
        return [*outcomes, METRICS.delivery_seconds.get(), METRICS.delivery_attempts.get()]

    before = counts()
    async with Receiver() as well, Receiver() as over:
        over.answer = saying(410)
        outbox = MemoryOutbox(delivery(well.url, number=1), delivery(over.url, number=2))
        async with running(deliverer(outbox)):
            await until(lambda: outbox.is_empty)
    assert [after - earlier for after, earlier in zip(counts(), before, strict=True)] == [1, 0, 1, 2, 1]
