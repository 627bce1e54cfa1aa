"""The outbox as a node sees it: messages are claimed, and what came of each attempt is noted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, NamedTuple, Protocol

from queries.alert_calls import (
    AlertCounts,
    Claim,
    Outcome,
    claim_deliveries,
    finish_delivery,
    read_counts,
    read_due_in,
)

#: Longer than the slowest attempt and the note of its result. When it has passed, another node tries again.
LEASE_SECONDS: Final = 20.0


class Result(NamedTuple):
    """The result of one attempt; ``reason`` is for the log: nothing of the URL, and of the answer its status alone."""

    outcome: Outcome
    status: int | None = None
    reason: str = ""
    retry_after_seconds: float | None = None


class Outbox(Protocol):
    """Where messages wait."""

    async def claim(self, most: int, *, under_way: Collection[int]) -> Sequence[Claim]:
        """Take so many messages that are due, each for the length of a lease; commits at once.

        ``under_way`` are the deliveries that this node attempts already.
        """

    async def finish(self, claim: Claim, result: Result) -> None:
        """Note what came of an attempt."""

    async def read_due_in(self) -> float | None:
        """The seconds until the next message is due, less than 0 when one waits already; None when there is none."""

    async def read_counts(self) -> AlertCounts:
        """How many alerts and armed accounts there are."""


class Connection(Protocol):
    """A connection of the pool that is kept between uses."""

    def driver(self) -> AbstractAsyncContextManager[Any]:
        """The asyncpg connection, for one use."""

    async def close(self) -> None:
        """Give the connection back to the pool."""


class DatabaseOutbox:
    """The outbox in the database, for the node of this name; no transaction is open between two calls."""

    def __init__(self, *, connection: Connection, node: str, lease_seconds: float = LEASE_SECONDS) -> None:
        self._connection = connection
        self._node = node
        self._lease_seconds = lease_seconds

    async def claim(self, most: int, *, under_way: Collection[int]) -> Sequence[Claim]:
        """Take so many messages that are due; none while an operator has to release them."""
        async with self._driver() as driver:
            return await claim_deliveries(
                driver,
                node=self._node,
                most=most,
                lease_seconds=self._lease_seconds,
                under_way=under_way,
            )

    async def finish(self, claim: Claim, result: Result) -> None:
        """Note what came of an attempt; changes nothing once another node has claimed the message."""
        async with self._driver() as driver:
            await finish_delivery(
                driver,
                claim.delivery_id,
                node=self._node,
                outcome=result.outcome,
                http_status=result.status,
                retry_after_seconds=result.retry_after_seconds,
            )

    async def read_due_in(self) -> float | None:
        """The seconds until the next message is due, less than 0 when one waits already; None when there is none."""
        async with self._driver() as driver:
            return await read_due_in(driver)

    async def read_counts(self) -> AlertCounts:
        """How many alerts and armed accounts there are."""
        async with self._driver() as driver:
            return await read_counts(driver)

    @asynccontextmanager
    async def _driver(self) -> AsyncIterator[Any]:
        """The asyncpg connection, for one use: a kept one would be missing in the pool while receivers hang."""
        async with self._connection.driver() as driver:
            yield driver
        await self._connection.close()
