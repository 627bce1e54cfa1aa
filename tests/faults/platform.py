"""A trading platform whose every row names its owner, and which records the time of each commit."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final
from uuid import UUID

import asyncpg

from tests.end_to_end import tables
from tests.end_to_end.marks import Marks, Owner

_RETRY_SECONDS: Final = 0.2
_LOOK_SECONDS: Final = 0.02
_CONNECT_SECONDS: Final = 3.0
_STATEMENT_SECONDS: Final = 10.0
_WAITS: Final = "SELECT EXISTS (SELECT FROM guardwire.inbox WHERE account = ANY ($1))"
_DAY_OF_GRACE: Final = """
INSERT INTO guard_limits (user_id, sync_overdue_seconds) SELECT unnest($1::uuid[]), 86400
"""
_REVISIONS: Final = "SELECT user_id, revision FROM guardwire.accounts WHERE user_id = ANY ($1)"
#: The errors of a database that is away, starting, full or hanging.
AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


def people(count: int, random: Random, *, first: int = 0) -> list[Owner]:
    """New users, numbered from ``first``, in pairs whose ids differ in one character; some share tickets."""
    found = []
    for pair in range(first // 2, (first + count + 1) // 2):
        digits = f"{random.getrandbits(128) | 1 << 127:032x}"
        for half in range(2):
            number = 2 * pair + half
            ticket = 1_000 * (pair if pair % 4 == 0 else 10_000 + number)
            user_id = UUID(digits[:-1] + f"{(int(digits[-1], 16) + half) % 16:x}")
            found.append(Owner(number, user_id, tuple(range(ticket + 1, ticket + 5))))
    return found[:count]


class SteadyMarks(Marks):
    """Marked rows with growing times, so that the last row of an account is always its newest."""

    _last = datetime.min.replace(tzinfo=UTC)

    def _now(self) -> datetime:
        self._last = max(datetime.now(UTC), self._last + timedelta(microseconds=1))
        return self._last


@dataclass
class Platform:
    """Commits rows of ``owners``; each commit ends with a sync that carries its serial number."""

    database_url: str
    owners: Sequence[Owner]
    marks: Marks
    random: Random
    #: For each owner (by number) the times at which its serial numbers were committed, in their order.
    commits: dict[int, list[tuple[int, float]]] = field(default_factory=dict)
    failures: int = 0
    last_commit_at: float = 0.0
    _serial: int = 0
    _connection: Any = None

    async def connection(self) -> Any:
        """A connection that worked when it was last used."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(self.database_url, timeout=_CONNECT_SECONDS)
        return self._connection

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def begin(self) -> None:
        """Commit for each owner, whose positions may then go unmentioned for a day.

        After the usual minute a position would become unconfirmed, of which the raw log says nothing.
        """
        connection = await self.connection()
        await connection.execute(_DAY_OF_GRACE, [owner.user_id for owner in self.owners])
        await self.final_word()

    async def trade(self, stop: asyncio.Event, *, per_second: float) -> None:
        """Commit for random owners until ``stop`` is set, and wait for a database that is away.

        Cancellation would not do, because the driver can turn it into another error, which looks like a database that
        is away.
        """
        due = time.monotonic()
        while not stop.is_set():
            several = min(self.random.choice((1, 1, 2, 5)), len(self.owners))
            await self.commit(self.random.sample(self.owners, several), stop=stop)
            # Commits that an outage prevented are not made later: a platform reports the present.
            due = max(due + 1 / per_second, time.monotonic() - 0.1)
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def commit(
        self, owners: Sequence[Owner], *, odd: int = 2, stop: asyncio.Event | None = None
    ) -> None:
        """Commit one transaction with a few rows of each of ``owners``; retry until the database accepts it or ``stop``
        is set.
        """
        while stop is None or not stop.is_set():
            try:
                async with asyncio.timeout(_STATEMENT_SECONDS):
                    await self.try_to_commit(owners, odd=odd)
            except AWAY:
                self.failures += 1
                await self.close()
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return

    async def try_to_commit(self, owners: Sequence[Owner], *, odd: int = 2) -> None:
        """Commit once; raises the database's error."""
        serials, log, equity = [], [], []
        for owner in owners:
            log += [self.marks.log_row(owner) for _ in range(self.random.randrange(odd + 1))]
            self._serial += 1
            serials.append((owner, self._serial))
            # Without a close reason, so it is a sync of the owner, later than all its rows before.
            synced = self.marks.log_row(owner)
            message = f"{owner.mark} serial {self._serial}"
            log.append(
                replace(
                    synced, event_type="sync", ticket=owner.tickets[0], close_reason=None, matched=1,
                    divergence_reason=None, error_message=message,
                )
            )  # fmt: skip
            if self.random.random() < 0.3:
                equity.append(self.marks.equity_row(owner))
        connection = await self.connection()
        async with connection.transaction():
            await tables.LOG.insert(connection, log)
            if equity:
                await tables.EQUITY.insert(connection, equity)
        self.last_commit_at = now = time.monotonic()
        for owner, serial in serials:
            self.commits.setdefault(owner.number, []).append((serial, now))

    def last_serial(self, owner: Owner) -> int:
        """The number of the last commit of ``owner``."""
        commits = self.commits.get(owner.number, [])
        return commits[-1][0] if commits else -1

    def forget(self, *, since: float) -> None:
        """Forget the commits after ``since`` (monotonic seconds), because the database has lost them."""
        for number, commits in self.commits.items():
            self.commits[number] = [commit for commit in commits if commit[1] < since]

    async def final_word(self) -> dict[UUID, int]:
        """Commit once more for every owner; returns the last revision of each, when all rows are applied."""
        for start in range(0, len(self.owners), 50):
            await self.commit(self.owners[start : start + 50], odd=1)
        users = [owner.user_id for owner in self.owners]
        while True:
            with contextlib.suppress(*AWAY):
                connection = await self.connection()
                # A revision counts only when no row of the account waits.
                if not await connection.fetchval(_WAITS, users):
                    return dict(await connection.fetch(_REVISIONS, users))
                await asyncio.sleep(_LOOK_SECONDS)
                continue
            await self.close()
            await asyncio.sleep(_RETRY_SECONDS)
