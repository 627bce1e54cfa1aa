"""The sweep: which watched accounts have another revision than was delivered? It is the truth that NOTIFY
only hints at.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import datetime
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID

from queries.timestamps import iso
from realtime.feed.connection import DATABASE_ERRORS, KeptConnection
from realtime.feed.dirty import DirtySet
from realtime.metrics import METRICS

log = logging.getLogger(__name__)

# One statement for all watched accounts; it costs what is watched, never what is kept. An account without a
# row is at revision 0: one that was delivered at another has been lost, and that is no less of a change. Now
# and then it takes along what the listener must hear, sent as writers send, over another connection than its.
# Rows that wait as notes (given up or not) are committed and not shown: their accounts are not fresh.
SWEEP: Final = """
SELECT statement_timestamp() AS as_of,
       (SELECT epoch FROM guardwire.epoch) AS epoch,
       (SELECT count(*) FROM (SELECT pg_notify(told_channel, $3) FROM guardwire.configuration
                              WHERE $3 <> '' OFFSET 0) AS canary) AS sent,
       EXISTS (SELECT FROM guardwire.capture_notes WHERE concerns_all) AS all_wait,
       ARRAY(SELECT DISTINCT user_id FROM guardwire.capture_notes
             WHERE user_id IS NOT NULL LIMIT $4) AS waiting,
       ARRAY(SELECT ROW(known.user_id, known.revision, coalesce(account.revision, 0))
             FROM unnest($1::uuid[], $2::bigint[]) AS known (user_id, revision)
             LEFT JOIN guardwire.accounts AS account ON account.user_id = known.user_id
             WHERE coalesce(account.revision, 0) <> known.revision) AS changed
"""
#: A change that is found while notifications are heard may be one whose own is on its way.
_GRACE_SECONDS: Final = 0.05

#: Of more accounts with waiting rows than this, all are taken to have some.
_WAITING_ACCOUNTS: Final = 1000

#: An account, the revision of it that was delivered, and the one that was found.
Changed = tuple[UUID, int, int]


class Watched(Protocol):
    """What the sweep needs of the hub."""

    def delivered(self) -> tuple[list[UUID], list[int]]: ...

    def is_behind(self, user_id: UUID) -> bool: ...

    def confirm(self, as_of: str, read_at: float, changed: list[Changed]) -> None: ...

    def set_waiting(self, accounts: frozenset[UUID] | None) -> None: ...


class Swept(NamedTuple):
    """What one sweep found; ``read_at`` is the monotonic time just before it began.

    ``waiting`` are the accounts with committed rows that the capture has not applied; None: any may have
    some.
    """

    as_of: datetime
    read_at: float
    epoch: int
    changed: list[Changed]
    waiting: frozenset[UUID] | None


async def sweep(
    driver: Any, users: list[UUID], revisions: list[int], *, canary: str = "", timeout_seconds: float
) -> Swept:
    """Compare the delivered ``revisions`` of ``users`` with the database, and send the ``canary``."""
    read_at = time.monotonic()
    row = await driver.fetchrow(
        SWEEP, users, revisions, canary, _WAITING_ACCOUNTS + 1, timeout=timeout_seconds
    )
    all_wait = row["all_wait"] or len(row["waiting"]) > _WAITING_ACCOUNTS
    waiting = None if all_wait else frozenset(row["waiting"])
    return Swept(row["as_of"], read_at, row["epoch"], [tuple(each) for each in row["changed"]], waiting)


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
        self._canary: tuple[str, asyncio.Future[None]] | None = None
        #: The database's epoch when it was last looked at; 0 before.
        self.epoch = 0
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

    async def send(self, canary: str) -> None:
        """Have the next sweep send ``canary`` to the listener; returns when it was sent, and raises what kept
        it from that.
        """
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._canary = canary, sent
        await sent

    async def once(self) -> None:
        """One sweep: confirm what is as delivered, mark what is not."""
        canary, sent = self._canary or ("", None)
        self._canary = None
        try:
            async with self._connection.driver() as driver:
                users, revisions = self._hub.delivered()
                swept = await sweep(
                    driver, users, revisions, canary=canary, timeout_seconds=self._timeout_seconds
                )
        except BaseException as error:
            if sent is not None and not sent.done():
                sent.set_exception(error) if isinstance(error, Exception) else sent.cancel()
            raise
        if sent is not None and not sent.done():
            sent.set_result(None)
        self.epoch = swept.epoch
        self._hub.set_waiting(swept.waiting)
        self._hub.confirm(iso(swept.as_of), swept.read_at, swept.changed)
        METRICS.sweeps.add()
        if swept.changed:
            await self._mark(swept.changed)

    async def _mark(self, changed: list[Changed]) -> None:
        if self.hearing:
            await asyncio.sleep(_GRACE_SECONDS)
        missed = [user_id for user_id, _, _ in changed if self._hub.is_behind(user_id)]
        self._dirty.mark_all(missed)
        METRICS.sweep_found.add(len(missed))

    def _tell(self, *, down: bool, why: BaseException | None = None) -> None:
        if down != self._down:
            self._down = down
            if down:
                log.error(
                    "the database is out of reach, clients are told `stale`: %s: %s", type(why).__name__, why
                )
            else:
                log.warning("the database is back")
