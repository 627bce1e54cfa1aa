"""Deliveries for tests, and an outbox in memory that keeps the contract of the database's."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
import uuid
from collections.abc import Collection, Sequence
from typing import NamedTuple

from queries.alert_calls import AlertCounts, Claim
from realtime.escalation.outbox import Result

SECRET = "whsec_" + base64.b64encode(os.urandom(32)).decode()
ACCOUNT = uuid.uuid4()
PAYLOAD = json.dumps(
    {
        "type": "alert.escalated",
        "timestamp": "2026-12-01T12:00:10Z",
        "data": {
            "alert_id": str(uuid.uuid4()),
            "generation": 1,
            "level": 1,
            "account": str(ACCOUNT),
            "kind": "market",
            "severity": "critical",
            "subject": "XAUUSD größer",
            "first_raised_at": "2026-12-01T12:00:00Z",
            "raised_at": "2026-12-01T12:00:00Z",
            "deadline_at": "2026-12-01T12:01:00Z",
            "occurrences": 1,
        },
    },
    ensure_ascii=False,
)


def delivery(
    url: str, *, number: int = 1, attempts: int = 1, kind: str = "webhook", secrets: Sequence[str] = (SECRET,),
    payload: str = PAYLOAD,
) -> Claim:  # fmt: skip
    """A claimed message to ``url``."""
    return Claim(
        delivery_id=number,
        message_id=f"alert-{number}.1.1",
        payload=payload,
        kind=kind,
        url=url,
        secrets=list(secrets),
        attempts=attempts,
        deadline_at=None,
        user_id=ACCOUNT,
        endpoint_id=uuid.uuid4(),
    )


class _Row(NamedTuple):
    claim: Claim
    attempts: int
    free_at: float


class MemoryOutbox:
    """Claims with leases, as the table does, without shares of accounts; ``results`` are the notes."""

    def __init__(self, *deliveries: Claim, lease_seconds: float = 20.0) -> None:
        self._rows = {each.delivery_id: _Row(each, 0, 0.0) for each in deliveries}
        self._lease_seconds = lease_seconds
        self.results: list[tuple[int, Result]] = []
        #: Raised by the next calls of finish, one each.
        self.errors: list[Exception] = []

    @property
    def is_empty(self) -> bool:
        return not self._rows

    async def claim(self, most: int, *, under_way: Collection[int] = ()) -> list[Claim]:
        await asyncio.sleep(0)
        now = time.monotonic()
        due = [row for row in self._rows.values() if row.free_at <= now][:most]
        for row in due:
            claimed = row._replace(attempts=row.attempts + 1, free_at=now + self._lease_seconds)
            self._rows[row.claim.delivery_id] = claimed
        return [row.claim._replace(attempts=row.attempts + 1) for row in due]

    async def finish(self, claim: Claim, result: Result) -> None:
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        self.results.append((claim.delivery_id, result))
        row = self._rows.get(claim.delivery_id)
        if row is None or row.attempts != claim.attempts:
            return
        if result.outcome == "failed":
            wait = result.retry_after_seconds or 0.05
            self._rows[claim.delivery_id] = row._replace(free_at=time.monotonic() + wait)
        else:
            del self._rows[claim.delivery_id]

    async def read_counts(self) -> AlertCounts:
        return AlertCounts(0, 0, 0, 0, 0)

    async def read_due_in(self) -> float | None:
        now = time.monotonic()
        return min((row.free_at - now for row in self._rows.values()), default=None)
