"""The beats of the bots that attend accounts, gathered on this node and written together each second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from uuid import UUID

from queries.alert_calls import Beat
from realtime.errors import UnavailableError

WRITE_EVERY_SECONDS: Final = 1.0
#: Bots of one account on one node; each name is a row of guardwire.attendants.
MOST_NAMES: Final = 32
#: Beats in one statement. Beats of ten thousand new attendants would exceed its time limit.
MOST_WRITTEN: Final = 2_000
#: A lease that has so much of itself behind it is written again.
_RENEWED_SHARE: Final = 1 / 2


class _Lease:
    __slots__ = ("beaten_at", "lease_seconds", "written_at")

    def __init__(self, beaten_at: float, lease_seconds: float) -> None:
        self.beaten_at = beaten_at
        self.lease_seconds = lease_seconds
        #: When the newest beat in the database came; None before the first.
        self.written_at: float | None = None

    def is_due(self, now: float) -> bool:
        if self.written_at is None:
            return True
        return (
            self.beaten_at > self.written_at and now - self.written_at >= self.lease_seconds * _RENEWED_SHARE
        )


class Attendance:
    """Gathers beats and writes them with their age, so that the time of a bot's last beat is exact.

    ``write`` raises UnavailableError while PostgreSQL cannot be reached; the beats then wait for the next second. The
    database extends all leases by its outage. Times are monotonic seconds.
    """

    def __init__(self, *, write: Callable[[Sequence[Beat]], Awaitable[None]]) -> None:
        self._write = write
        self._leases: dict[UUID, dict[str, _Lease]] = {}
        #: Held while beats are written, so that no beat under way comes after a `leaving`.
        self.writing = asyncio.Lock()

    def beat(self, user_id: UUID, name: str, lease_seconds: float, now: float) -> bool:
        """Note a beat; False when the account has too many names here."""
        leases = self._leases.setdefault(user_id, {})
        lease = leases.get(name)
        if lease is None:
            if len(leases) >= MOST_NAMES:
                return False
            leases[name] = _Lease(now, lease_seconds)
            return True
        if lease.lease_seconds != lease_seconds:
            lease.lease_seconds, lease.written_at = lease_seconds, None
        lease.beaten_at = now
        return True

    def forget(self, user_id: UUID, name: str) -> None:
        """The bot leaves: a beat of it that was not written yet is not written."""
        leases = self._leases.get(user_id, {})
        leases.pop(name, None)
        if not leases:
            self._leases.pop(user_id, None)

    def due(self, now: float) -> list[Beat]:
        """The beats to write now, with their age; bots whose lease is over are forgotten."""
        found = []
        for user_id, leases in list(self._leases.items()):
            for name, lease in list(leases.items()):
                age_seconds = now - lease.beaten_at
                if age_seconds > lease.lease_seconds:
                    self.forget(user_id, name)
                elif lease.is_due(now):
                    found.append(Beat(user_id, name, lease.lease_seconds, age_seconds))
        return found

    async def write_due(self, now: float) -> None:
        """Write what is due, `MOST_WRITTEN` beats in a statement."""
        async with self.writing:
            due = self.due(now)
            for start in range(0, len(due), MOST_WRITTEN):
                beats = due[start : start + MOST_WRITTEN]
                await self._write(beats)
                for beat in beats:
                    lease = self._leases.get(beat.account, {}).get(beat.name)
                    if lease is not None and lease.lease_seconds == beat.lease_seconds:
                        lease.written_at = now - beat.age_seconds

    async def run(self) -> None:
        """Write beats each second, for ever."""
        while True:
            await asyncio.sleep(WRITE_EVERY_SECONDS)
            try:
                await self.write_due(time.monotonic())
            except UnavailableError:
                # Reported where the statement failed; the beats are written once the database answers.
                continue
