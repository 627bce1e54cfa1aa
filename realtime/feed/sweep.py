"""The sweep: which watched accounts have another revision than was delivered? It is the truth that NOTIFY
only hints at.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID

from queries.timestamps import iso
from realtime.feed.connection import DATABASE_ERRORS, KeptConnection
from realtime.feed.dirty import DirtySet
from realtime.metrics import METRICS

log = logging.getLogger(__name__)

# One statement for all watched accounts; it costs what is watched, never what is kept. An account without a
# row is at revision 0: one that was delivered at another has been lost, and that is no less of a change.
SWEEP: Final = """
SELECT statement_timestamp() AS as_of,
       ARRAY(SELECT known.user_id
             FROM unnest($1::uuid[], $2::bigint[]) AS known (user_id, revision)
             LEFT JOIN guardwire.accounts AS account ON account.user_id = known.user_id
             WHERE coalesce(account.revision, 0) <> known.revision) AS changed
"""


class Watched(Protocol):
    """What the sweep needs of the hub."""

    def watched(self) -> Iterator[tuple[UUID, int]]: ...

    def confirm(self, as_of: str, read_at: float, changed: list[UUID]) -> None: ...


class Swept(NamedTuple):
    """What one sweep found; ``read_at`` is the monotonic time just before it began."""

    as_of: datetime
    read_at: float
    changed: list[UUID]


async def sweep(driver: Any, watched: list[tuple[UUID, int]], *, timeout_seconds: float) -> Swept:
    """Compare ``watched`` (account, delivered revision) with the database."""
    read_at = time.monotonic()
    row = await driver.fetchrow(
        SWEEP,
        [user_id for user_id, _ in watched],
        [revision for _, revision in watched],
        timeout=timeout_seconds,
    )
    return Swept(row["as_of"], read_at, list(row["changed"]))


class Sweeper:
    """Sweeps for ever: every ``interval_seconds``, or several times as often while nothing is heard of
    NOTIFY.
    """

    def __init__(
        self,
        *,
        connection: KeptConnection,
        hub: Watched,
        dirty: DirtySet,
        interval_seconds: float,
        deaf_interval_seconds: float = 0.2,
        timeout_seconds: float = 1.5,
    ) -> None:
        self._connection = connection
        self._hub = hub
        self._dirty = dirty
        self._interval_seconds = interval_seconds
        self._deaf_interval_seconds = min(deaf_interval_seconds, interval_seconds)
        self._timeout_seconds = timeout_seconds
        self._down = False
        #: Set by the listener: whether NOTIFY is being heard.
        self.hearing = False

    async def run(self) -> None:
        """For ever; a database that does not answer is waited for, not an error."""
        while True:
            started = time.monotonic()
            try:
                await self.once()
                self._tell(down=False)
            except DATABASE_ERRORS as error:
                self._tell(down=True, why=error)
            interval = self._interval_seconds if self.hearing else self._deaf_interval_seconds
            await asyncio.sleep(max(0.02, interval - (time.monotonic() - started)))

    async def notify(self, channel: str, payload: str) -> None:
        """Send a notification the way that writers' go, for whoever wants to know that it is heard."""
        async with self._connection.driver() as driver:
            await driver.execute("SELECT pg_notify($1, $2)", channel, payload)

    async def once(self) -> None:
        """One sweep: confirm what is as delivered, mark what is not."""
        async with self._connection.driver() as driver:
            # What was never delivered is marked already; to mark it again would read it twice.
            delivered = [known for known in self._hub.watched() if known[1] >= 0]
            swept = await sweep(driver, delivered, timeout_seconds=self._timeout_seconds)
        self._hub.confirm(iso(swept.as_of), swept.read_at, swept.changed)
        self._dirty.mark_all(swept.changed)
        METRICS.sweeps.add()
        METRICS.sweep_found.add(len(swept.changed))

    def _tell(self, *, down: bool, why: BaseException | None = None) -> None:
        if down != self._down:
            self._down = down
            if down:
                log.error(
                    "the database is out of reach, clients are told `stale`: %s: %s", type(why).__name__, why
                )
            else:
                log.warning("the database is back")
