"""Sends what is due in the outbox, as one task of each node; any node may deliver anything."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, Protocol

from realtime.database import DATABASE_ERRORS
from realtime.escalation.outbox import Delivery, Outbox, Result
from realtime.metrics import METRICS

log = logging.getLogger(__name__)

MOST_AT_ONCE: Final = 32
POLL_SECONDS: Final = 1.0
#: Longer than the slowest attempt and the note of its result. When it has passed, another node tries again.
LEASE_SECONDS: Final = 20.0
#: How long deliveries may go on when the node stops; the supervisor waits for a second.
_GRACE_SECONDS: Final = 0.7
#: Deliveries that end within this time share the next claim.
_GATHER_SECONDS: Final = 0.02
_FINISH_AGAIN_SECONDS: Final = 0.5
_PART: Final = "the delivery of alerts"

Send = Callable[[Delivery], Awaitable[Result]]


class Trouble(Protocol):
    """The log of parts that wait for the database."""

    def report(self, part: str, error: BaseException) -> str:
        """Note that ``part`` waits because of ``error``."""

    def end(self, part: str) -> None:
        """Note that ``part`` no longer waits."""


class Deliverer:
    """Claims deliveries that are due, sends them side by side, and notes what came of each.

    No transaction is open while a delivery is under way. A delivery whose result could not be noted is claimed again
    when its lease has passed, so an endpoint may get a message twice and never misses one.
    """

    def __init__(
        self,
        *,
        outbox: Outbox,
        senders: Mapping[str, Send],
        trouble: Trouble,
        most_at_once: int = MOST_AT_ONCE,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        """``senders`` has one function for each kind of endpoint."""
        self._outbox = outbox
        self._senders = senders
        self._trouble = trouble
        self._most_at_once = most_at_once
        self._poll_seconds = poll_seconds
        self._under_way: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()
        #: When the outbox was last read, on the monotonic clock.
        self.claimed_at = float("-inf")

    def wake(self) -> None:
        """Look into the outbox at once, because something may be due."""
        self._woken.set()

    async def run(self) -> None:
        """Run for ever; what is under way at the end gets a moment to finish."""
        try:
            while True:
                self._woken.clear()
                free = self._most_at_once - len(self._under_way)
                claimed = await self._claim(free) if free else ()
                for delivery in claimed:
                    self._under_way.add(asyncio.create_task(self._deliver(delivery)))
                await self._wait(is_more_due=len(claimed) == free)
        finally:
            await self._end()

    async def _claim(self, most: int) -> Collection[Delivery]:
        try:
            claimed = await self._outbox.claim(most)
            if not claimed and not self._under_way:
                await self._outbox.rest()
        except DATABASE_ERRORS as error:
            self._trouble.report(_PART, error)
            return ()
        self._trouble.end(_PART)
        self.claimed_at = time.monotonic()
        return claimed

    async def _wait(self, *, is_more_due: bool) -> None:
        """Wait until another claim makes sense: a place is free, or something may be due."""
        if is_more_due:
            await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(_GATHER_SECONDS)
        else:
            try:
                async with asyncio.timeout(self._poll_seconds):
                    await self._woken.wait()
            except TimeoutError:
                pass
        self._under_way = {task for task in self._under_way if not task.done()}

    async def _end(self) -> None:
        """Give what is under way a moment, and abandon the rest to the end of its lease."""
        if not self._under_way:
            return
        _, late = await asyncio.wait(self._under_way, timeout=_GRACE_SECONDS)
        for task in late:
            task.cancel()
        if late:
            log.warning(
                "%d deliveries are abandoned; a node tries each again when its lease has passed", len(late)
            )
            await asyncio.wait(late)
        self._under_way.clear()

    async def _deliver(self, delivery: Delivery) -> None:
        began = time.monotonic()
        try:
            result = await self._senders[delivery.kind](delivery)
        except (
            Exception
        ) as error:  # one odd delivery must not end the others; it is tried again as any failed one
            log.exception("a delivery failed in an unexpected way", extra={"user": str(delivery.user_id)})
            result = Result("failed", reason=type(error).__name__)
        _count(delivery, result, seconds=time.monotonic() - began)
        await self._finish(delivery, result, until=began + LEASE_SECONDS)

    async def _finish(self, delivery: Delivery, result: Result, *, until: float) -> None:
        """Note the result, as often as it takes until the lease has passed."""
        while True:
            try:
                await self._outbox.finish(delivery, result)
            except DATABASE_ERRORS as error:
                self._trouble.report(_PART, error)
            else:
                self._trouble.end(_PART)
                return
            if time.monotonic() > until:
                return
            await asyncio.sleep(_FINISH_AGAIN_SECONDS)


def _count(delivery: Delivery, result: Result, *, seconds: float) -> None:
    METRICS.deliveries.add(1, result.outcome)
    METRICS.delivery_seconds.observe(seconds)
    extra: dict[str, object] = {"user": str(delivery.user_id)}
    if result.status is not None:
        extra["status"] = result.status
    if result.outcome == "delivered":
        METRICS.delivery_attempts.observe(delivery.attempts)
        log.info("a %s was reached at attempt %d", delivery.kind, delivery.attempts, extra=extra)
        return
    # A receiver that is down for a day would fill the log: its first failure says it all.
    level = logging.WARNING if delivery.attempts == 1 or result.outcome == "gone" else logging.DEBUG
    log.log(
        level,
        "a %s was not reached at attempt %d: %s (endpoint %s)",
        delivery.kind, delivery.attempts, result.reason, delivery.endpoint_id,
        extra=extra,
    )  # fmt: skip
