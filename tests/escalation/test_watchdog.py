"""The watchdog's URL is called only while reading, housekeeping and delivering work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from realtime.escalation.outbound import OutboundRequests
from realtime.escalation.watchdog import Watchdog
from realtime.metrics import METRICS
from tests.escalation.receiver import Receiver, saying
from tests.waiting import until


@asynccontextmanager
async def watching(
    url: str, problem: Callable[[], str | None], *, requests: OutboundRequests | None = None
) -> AsyncIterator[None]:
    """A watchdog with a turn every 20 ms, while the context lasts."""
    watchdog = Watchdog(
        url=url,
        problem=problem,
        requests=requests or OutboundRequests(allow_private=True),
        interval_seconds=0.02,
    )
    task = asyncio.create_task(watchdog.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_the_url_is_called_again_and_again_while_all_works() -> None:
    async with Receiver() as service, watching(service.url, lambda: None):
        await until(lambda: len(service.requests) >= 3)
    assert service.requests[0].line == "GET /hook?tenant=1 HTTP/1.1"
    assert METRICS.watchdog_up.get() == 1


async def test_while_a_part_does_not_work_the_url_is_not_called_and_the_log_says_once_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    turns, problem = 0, "housekeeping did nothing for 30 s"

    def look() -> str | None:
        nonlocal turns
        turns += 1
        return problem or None

    caplog.set_level(logging.INFO)
    async with Receiver() as service, watching(service.url, look):
        await until(lambda: turns >= 5)
        assert service.connections == 0
        assert METRICS.watchdog_up.get() == 0
        problem = ""
        await until(lambda: service.requests)
        await until(lambda: METRICS.watchdog_up.get() == 1)
    lines = [
        record.getMessage() for record in caplog.records if record.name == "realtime.escalation.watchdog"
    ]
    assert lines == [
        "the watchdog's URL was not called: housekeeping did nothing for 30 s",
        "the watchdog's URL is called again",
    ]


async def test_while_no_webhook_can_be_sent_the_url_is_not_called() -> None:
    turns = 0

    def look() -> None:
        nonlocal turns
        turns += 1

    # Requests to public addresses alone cannot reach this machine, as when the way out is broken.
    requests = OutboundRequests(allow_private=False)
    async with Receiver() as service, watching(service.url, look, requests=requests):
        await until(lambda: turns >= 3)
    assert service.connections == 0
    assert METRICS.watchdog_up.get() == 0


async def test_a_service_that_refuses_the_call_is_reported_without_its_url(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with Receiver() as service:
        service.answer = saying(404)
        async with watching(service.url, lambda: None):
            await until(lambda: len(service.requests) >= 2)
    (line,) = [each.getMessage() for each in caplog.records if each.name == "realtime.escalation.watchdog"]
    assert line == "the watchdog's URL was not called: it answered HTTP 404"
    assert METRICS.watchdog_up.get() == 0
