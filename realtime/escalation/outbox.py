"""Deliveries as the outbox gives them, and what becomes of each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple, Protocol
from uuid import UUID

Outcome = Literal["delivered", "failed", "gone"]


class Delivery(NamedTuple):
    """One message to one endpoint, claimed for an attempt; see `guardwire.claim_deliveries`."""

    delivery_id: int
    #: The same at every attempt, so that a receiver recognises a duplicate.
    message_id: str
    #: JSON, sent as it is.
    payload: str
    #: `webhook` or `person`.
    kind: str
    url: str
    #: Of a webhook, the newest first; none of a person.
    secrets: Sequence[str]
    #: Which attempt this is, from 1 on.
    attempts: int
    deadline_at: datetime | None
    user_id: UUID
    endpoint_id: UUID


class Result(NamedTuple):
    """What came of one attempt; ``reason`` is for the log and holds nothing of the URL or the answer but its status."""

    outcome: Outcome
    status: int | None = None
    reason: str = ""
    retry_after_seconds: float | None = None


class Outbox(Protocol):
    """The outbox of the database, for one node."""

    async def claim(self, most: int) -> Sequence[Delivery]:
        """Take so many deliveries that are due, each for the length of a lease; commits at once."""

    async def finish(self, delivery: Delivery, result: Result) -> None:
        """Note what came of an attempt; changes nothing once another node has claimed the delivery."""

    async def rest(self) -> None:
        """Give back the connection, until the next claim."""
