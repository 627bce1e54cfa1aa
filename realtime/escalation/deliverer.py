"""Sends what is due in the outbox, as one task of each node; any node may deliver anything."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

from queries.alert_calls import Claim
from realtime.database import DATABASE_ERRORS
from realtime.escalation.outbox import LEASE_SECONDS, Outbox, Result
from realtime.metrics import METRICS

log = logging.getLogger(__name__)

MOST_AT_ONCE: Final = 32
#: How often the outbox is read when nothing is due before: housekeeping reports what becomes due meanwhile.
POLL_SECONDS: Final = 10.0
#: The same when a message is due that this node could not claim, and after an error.
_AGAIN_SECONDS: Final = 1.0
#: Each node counts for its metrics; one statement reads what is in the state, and a row of each account that was armed.
_COUNTS_EVERY_SECONDS: Final = 15.0
#: How long deliveries may go on when the node stops; the supervisor waits for a second.
_GRACE_SECONDS: Final = 0.7
#: Deliveries that end within this time share the next claim.
_GATHER_SECONDS: Final = 0.02
_FINISH_AGAIN_SECONDS: Final = 0.5
_PART: Final = "the delivery of alerts"

Send = Callable[[Claim], Awaitable[Result]]


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
        #: The deliveries that are being attempted, by their tasks.
        self._under_way: dict[asyncio.Task[None], int] = {}
        self._is_woken = asyncio.Event()
        #: For how long the message that has been due for longest had waited when the outbox was last read.
        self.age_seconds = 0.0
        self._counted_at = float("-inf")
        #: When the outbox was last read, on the monotonic clock.
        self.claimed_at = float("-inf")

    def wake(self) -> None:
        """Messages are due: read the outbox at once."""
        self._is_woken.set()

    async def run(self) -> None:
        """Run for ever; what is under way at the end gets a moment to finish."""
        try:
            while True:
                self._is_woken.clear()
                try:
                    pause_seconds = await self._begin_due()
                    self._trouble.end(_PART)
                    self.claimed_at = time.monotonic()
                except DATABASE_ERRORS as error:
                    self._trouble.report(_PART, error)
                    pause_seconds = min(_AGAIN_SECONDS, self._poll_seconds)
                await self._wait(pause_seconds)
        finally:
            await self._end()

    async def _begin_due(self) -> float:
        """Begin what is due, as far as places are free; the seconds until the next look if nothing wakes before."""
        await self._count()
        due_in_seconds = await self._read_due_in()
        free = self._most_at_once - len(self._under_way)
        if not free:
            return self._poll_seconds
        if due_in_seconds > 0:
            return min(max(due_in_seconds, _GATHER_SECONDS), self._poll_seconds)
        claimed = await self._outbox.claim(free, under_way=self._under_way.values())
        for claim in claimed:
            task = asyncio.create_task(self._deliver(claim))
            task.add_done_callback(lambda _: self.wake())
            self._under_way[task] = claim.delivery_id
        # Another look follows when one of them is done with. Without a claim, another node has what is due, or its
        # account has no place.
        return min(_AGAIN_SECONDS, self._poll_seconds)

    async def _read_due_in(self) -> float:
        """The seconds until the next message is due, less than 0 when one waits already."""
        due_in_seconds = await self._outbox.read_due_in()
        if due_in_seconds is None:
            due_in_seconds = float("inf")
        self.age_seconds = max(0.0, -due_in_seconds)
        METRICS.outbox_oldest.set(self.age_seconds)
        return due_in_seconds

    async def _count(self) -> None:
        if time.monotonic() - self._counted_at < _COUNTS_EVERY_SECONDS:
            return
        counts = await self._outbox.read_counts()
        self._counted_at = time.monotonic()
        METRICS.alerts_open.set(counts.open)
        METRICS.alerts_unacknowledged.set(counts.unacknowledged)
        METRICS.alerts_overdue.set(counts.overdue)
        METRICS.armed_accounts.set(counts.armed)
        METRICS.attended_accounts.set(counts.attended)

    async def _wait(self, seconds: float) -> None:
        """Wait until another look makes sense: a delivery is done with, or something may be due."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._is_woken.wait()
        if any(task.done() for task in self._under_way):
            await asyncio.sleep(_GATHER_SECONDS)
        self._under_way = {task: each for task, each in self._under_way.items() if not task.done()}

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

    async def _deliver(self, claim: Claim) -> None:
        began = time.monotonic()
        try:
            result = await self._senders[claim.kind](claim)
        # One odd message must not end the others. It is tried again, as any that failed.
        except Exception as error:
            log.exception("a delivery failed in an unexpected way", extra={"user": str(claim.user_id)})
            result = Result("failed", reason=type(error).__name__)
        _count(claim, result, seconds=time.monotonic() - began)
        await self._finish(claim, result, until=began + LEASE_SECONDS)

    async def _finish(self, claim: Claim, result: Result, *, until: float) -> None:
        """Note the result, as often as it takes until the lease has passed."""
        while True:
            try:
                await self._outbox.finish(claim, result)
            except DATABASE_ERRORS as error:
                self._trouble.report(_PART, error)
            else:
                self._trouble.end(_PART)
                return
            if time.monotonic() > until:
                return
            await asyncio.sleep(_FINISH_AGAIN_SECONDS)


def _count(claim: Claim, result: Result, *, seconds: float) -> None:
    METRICS.deliveries.add(1, result.outcome)
    METRICS.delivery_seconds.observe(seconds)
    extra: dict[str, object] = {"user": str(claim.user_id)}
    if result.status is not None:
        extra["status"] = result.status
    if result.outcome == "delivered":
        METRICS.delivery_attempts.observe(claim.attempts)
        log.info("a %s was reached at attempt %d", claim.kind, claim.attempts, extra=extra)
        return
    # A receiver that is down for a day would fill the log: its first failure says it all.
    level = logging.WARNING if claim.attempts == 1 or result.outcome == "gone" else logging.DEBUG
    log.log(
        level,
        "a %s was not reached at attempt %d: %s (endpoint %s)",
        claim.kind, claim.attempts, result.reason, claim.endpoint_id,
        extra=extra,
    )  # fmt: skip
