"""The sweep: which watched accounts have another revision than was delivered, and which have rows that are not
applied yet? A notification is a hint; the sweep is the truth.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from queries.timestamps import iso
from realtime.feed.connection import DATABASE_ERRORS, KeptConnection
from realtime.feed.dirty import DirtySet
from realtime.feed.trouble import Trouble
from realtime.feed.watched import Changed, WatchedAccounts
from realtime.inbox import WaitingAccounts
from realtime.metrics import METRICS

log = logging.getLogger(__name__)

# One statement for all watched accounts; its cost grows with the watched accounts, never with the stored rows.
# An account without a row is at revision 0: an account that was delivered at another revision has been lost,
# and that is a change as well. From time to time the statement also sends the canary that the listener expects,
# over another connection than the listener's, as the applier does.
SWEEP: Final = """
SELECT statement_timestamp() AS as_of,
       pg_current_snapshot()::text AS snapshot,
       (SELECT epoch FROM guardwire.epoch) AS epoch,
       (SELECT count(*) FROM (SELECT pg_notify(delta_channel, $3) FROM guardwire.configuration
                              WHERE $3 <> '' OFFSET 0) AS canary) AS sent,
       ARRAY(SELECT ROW(known.user_id, known.revision, coalesce(account.revision, 0))
             FROM unnest($1::uuid[], $2::bigint[]) AS known (user_id, revision)
             LEFT JOIN guardwire.accounts AS account ON account.user_id = known.user_id
             WHERE coalesce(account.revision, 0) <> known.revision) AS changed,
       ARRAY(SELECT ROW(w.account, w.is_old)
             FROM guardwire.waiting_accounts($1::uuid[], coalesce($4::text::pg_snapshot, pg_current_snapshot())) AS w
       ) AS waiting
"""
#: A change that is found while notifications are heard may be one whose own is on its way.
_GRACE_SECONDS: Final = 0.05
#: An account whose rows waited for longer than this is stale.
WAITING_SECONDS: Final = 1.0
_PART: Final = "the sweep"


class Swept(NamedTuple):
    """What one sweep found; ``read_at`` is the monotonic time just before it began."""

    as_of: datetime
    read_at: float
    snapshot: str
    epoch: int
    changed: list[Changed]
    waiting: list[tuple[UUID | None, bool]]


async def sweep(
    driver: Any,
    users: list[UUID],
    revisions: list[int],
    *,
    canary: str = "",
    earlier: str | None = None,
    timeout_seconds: float,
) -> Swept:
    """Compare the delivered ``revisions`` of ``users`` with the database, and send the ``canary``.

    ``earlier`` is the database's snapshot at an earlier sweep. Without it, every row that arrived more than a second
    ago counts as old.
    """
    read_at = time.monotonic()
    row = await driver.fetchrow(SWEEP, users, revisions, canary, earlier, timeout=timeout_seconds)
    return Swept(
        row["as_of"],
        read_at,
        row["snapshot"],
        row["epoch"],
        [tuple(each) for each in row["changed"]],
        [tuple(each) for each in row["waiting"]],
    )


class Sweeper:
    """Sweeps for ever: every ``interval_seconds``, or several times as often while no notification is heard."""

    def __init__(
        self,
        *,
        connection: KeptConnection,
        hub: WatchedAccounts,
        dirty: DirtySet,
        interval_seconds: float,
        deaf_interval_seconds: float = 0.2,
        timeout_seconds: float = 1.5,
        waiting_seconds: float = WAITING_SECONDS,
        on_waiting: Callable[[], None] = lambda: None,
        trouble: Trouble | None = None,
    ) -> None:
        """``on_waiting`` is called when rows wait in the inbox: the applier may have missed its notification."""
        self._connection = connection
        self._hub = hub
        self._dirty = dirty
        self._interval_seconds = interval_seconds
        self._deaf_interval_seconds = min(deaf_interval_seconds, interval_seconds)
        self._timeout_seconds = timeout_seconds
        self._waiting_seconds = waiting_seconds
        self._on_waiting = on_waiting
        self._trouble = trouble or Trouble()
        self._is_down = False
        self._canary: tuple[str, asyncio.Future[None]] | None = None
        # Sweeps of the last seconds, the oldest first.
        self._earlier: deque[Swept] = deque()
        #: The database's epoch when it was last looked at; 0 before.
        self.epoch = 0
        #: Whether notifications are heard.
        self.hearing = False

    async def run(self) -> None:
        """For ever; a database that does not answer is waited for, not an error."""
        while True:
            started = time.monotonic()
            try:
                await self.once()
                self._report_back()
            except DATABASE_ERRORS as error:
                self._report_down(error)
            interval = self._interval_seconds if self.hearing else self._deaf_interval_seconds
            await asyncio.sleep(max(0.02, interval - (time.monotonic() - started)))

    def set_hearing(self, hearing: bool) -> None:
        """Sweep less often while notifications are heard."""
        self.hearing = hearing

    async def send(self, canary: str) -> None:
        """Have the next sweep send ``canary`` to the listener; returns when it was sent.

        Raises the database error that kept it from being sent.
        """
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._canary = canary, sent
        await sent

    async def once(self) -> None:
        """One sweep: confirm the accounts that are as delivered, and mark the others."""
        canary, sent = self._canary or ("", None)
        self._canary = None
        earlier = self._earlier_sweep(time.monotonic())
        try:
            async with self._connection.driver() as driver:
                users, revisions = self._hub.delivered()
                swept = await sweep(
                    driver,
                    users,
                    revisions,
                    canary=canary,
                    earlier=None if earlier is None else earlier.snapshot,
                    timeout_seconds=self._timeout_seconds,
                )
        except BaseException as error:
            if sent is not None and not sent.done():
                sent.set_exception(error) if isinstance(error, Exception) else sent.cancel()
            raise
        if sent is not None and not sent.done():
            sent.set_result(None)
        self.epoch = swept.epoch
        self._earlier.append(swept)
        self._hub.confirm(iso(swept.as_of), swept.read_at, swept.changed, _waiting(swept, earlier))
        METRICS.sweeps.add()
        if swept.waiting:
            self._on_waiting()
        if swept.changed:
            await self._mark(swept.changed)

    def _earlier_sweep(self, now: float) -> Swept | None:
        """The latest sweep that is `waiting_seconds` old; None where there was none."""
        while len(self._earlier) > 1 and now - self._earlier[1].read_at >= self._waiting_seconds * 0.9:
            self._earlier.popleft()
        if self._earlier and now - self._earlier[0].read_at >= self._waiting_seconds * 0.9:
            return self._earlier[0]
        return None

    async def _mark(self, changed: list[Changed]) -> None:
        if self.hearing:
            await asyncio.sleep(_GRACE_SECONDS)
        missed = [user_id for user_id, _, _ in changed if self._hub.is_behind(user_id)]
        self._dirty.mark_all(missed)
        METRICS.sweep_found.add(len(missed))

    def _report_down(self, error: BaseException) -> None:
        reason = self._trouble.report(_PART, error)
        if not self._is_down and not self._trouble.is_starting:
            log.error("the database is out of reach, and accounts become stale: %s", reason)
        self._is_down = True

    def _report_back(self) -> None:
        self._trouble.end(_PART)
        if self._is_down:
            log.warning("the database is back")
        self._is_down = False


def _waiting(swept: Swept, earlier: Swept | None) -> WaitingAccounts:
    behind = frozenset(account for account, is_old in swept.waiting if is_old)
    recent = frozenset(account for account, _ in swept.waiting) - behind
    if earlier is None:
        # The recent rows arrived within the last second, so none of them was visible before.
        before = swept.as_of - timedelta(seconds=WAITING_SECONDS)
        return WaitingAccounts(swept.read_at - WAITING_SECONDS, iso(before), recent, behind)
    return WaitingAccounts(earlier.read_at, iso(earlier.as_of), recent, behind)
