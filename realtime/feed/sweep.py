"""The sweep compares all watched accounts with the database: their revisions, and their rows that are not applied yet.

Notifications can be lost, and the sweep finds every change that they should have announced.
"""

from __future__ import annotations

import asyncio
import contextlib
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
from realtime.feed.standby import Replayed, Standby
from realtime.feed.trouble import Trouble
from realtime.feed.watched import Changed, WatchedAccounts
from realtime.inbox import WaitingAccounts
from realtime.metrics import METRICS

log = logging.getLogger(__name__)

# One statement for all watched accounts; its cost grows with their number, and never with the stored rows. An account
# without a row counts as revision 0, so an account that the database has lost is a change too. From time to time the
# statement also sends the canary, because the canary must come from another connection than the listener's.
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
#: The notification of a change that a sweep finds may still be on its way, so the change counts as missed only later.
_GRACE_SECONDS: Final = 0.05
#: A sweep that came a little early counts as one of its second.
_PUNCTUAL: Final = 0.9
#: An account whose rows waited for longer than this is stale.
WAITING_SECONDS: Final = 1.0
_PART: Final = "the sweep"


class SweepResult(NamedTuple):
    """The result of one sweep; ``read_at`` is the monotonic time just before it began."""

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
) -> SweepResult:
    """Compare the delivered ``revisions`` of ``users`` with the database, and send the ``canary``.

    ``earlier`` is the database's snapshot at an earlier sweep. Without it, every row that arrived more than a second
    ago counts as old.
    """
    read_at = time.monotonic()
    row = await driver.fetchrow(SWEEP, users, revisions, canary, earlier, timeout=timeout_seconds)
    return SweepResult(
        row["as_of"],
        read_at,
        row["snapshot"],
        row["epoch"],
        [tuple(each) for each in row["changed"]],
        [tuple(each) for each in row["waiting"]],
    )


class Sweeper:
    """Sweeps every ``interval_seconds``, or several times as often while no notifications arrive."""

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
        standby: Standby | None = None,
        trouble: Trouble | None = None,
    ) -> None:
        """``on_waiting`` is called when rows wait in the inbox, because the applier may have missed a notification.

        ``standby`` is what ``connection`` leads to, None for a primary. There a sweep confirms what was replayed
        before it.
        """
        self._connection = connection
        self._standby = standby
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
        self._is_asked = asyncio.Event()
        # Sweeps of the last seconds, the oldest first.
        self._earlier: deque[SweepResult] = deque()
        #: The database's epoch in the latest sweep; 0 before the first one.
        self.epoch = 0
        #: Whether the listener receives notifications.
        self.hearing = False

    async def run(self) -> None:
        """Sweep for ever, and wait for a database that does not answer."""
        while True:
            started = time.monotonic()
            try:
                await self.once()
                self._report_back()
            except DATABASE_ERRORS as error:
                self._report_down(error)
            interval = self._interval_seconds if self.hearing else self._deaf_interval_seconds
            await self._pause(max(0.02, interval - (time.monotonic() - started)))

    def set_hearing(self, hearing: bool) -> None:
        """Sweep less often while the listener receives notifications."""
        self.hearing = hearing

    async def send(self, canary: str, *, soon: bool = False) -> None:
        """Let the next sweep send ``canary`` to the listener, or one at once (``soon``); returns when it was sent.

        Raises the database's error when the sweep fails.
        """
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._canary = canary, sent
        if soon:
            self._is_asked.set()
        await sent

    async def _pause(self, seconds: float) -> None:
        """Wait for the next sweep's time, or until a canary is to be sent at once."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._is_asked.wait()
        self._is_asked.clear()

    async def once(self) -> None:
        """Sweep once: confirm the accounts whose revision was delivered, and mark the others as dirty."""
        canary, sent = self._canary or ("", None)
        self._canary = None
        earlier = self._earlier_sweep(time.monotonic())
        try:
            async with self._connection.driver() as driver:
                if self._standby is not None:
                    await self._standby.look(driver)
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
        is_new_history = self.epoch not in (0, swept.epoch)
        self.epoch = swept.epoch
        METRICS.sweeps.add()
        if self._standby is None:
            self._confirm(swept, earlier)
        else:
            if is_new_history:
                self._dirty.mark_all(users)
            self._confirm_replayed(swept, earlier, self._standby.replayed)
        if swept.changed:
            await self._mark(swept.changed)

    def _confirm(self, swept: SweepResult, earlier: SweepResult | None) -> None:
        self._earlier.append(swept)
        self._hub.confirm(iso(swept.as_of), swept.read_at, swept.changed, _waiting(swept, earlier))
        if swept.waiting:
            self._on_waiting()

    def _confirm_replayed(self, swept: SweepResult, earlier: SweepResult | None, replayed: Replayed) -> None:
        """Confirm what a sweep of a standby says about the primary; nothing before the first probe is replayed."""
        read_at, as_of = replayed
        if as_of is None:
            return
        # An account whose delivered revision is not replayed yet is shown as it was at that time or later.
        changed = [each for each in swept.changed if each[2] > each[1] or replayed.is_gone(each[1])]
        self._confirm(swept._replace(as_of=as_of, read_at=read_at, changed=changed), earlier)

    def _earlier_sweep(self, now: float) -> SweepResult | None:
        """The latest sweep that is at least `waiting_seconds` old; None without one."""
        while len(self._earlier) > 1 and now - self._earlier[1].read_at >= self._waiting_seconds * _PUNCTUAL:
            self._earlier.popleft()
        if self._earlier and now - self._earlier[0].read_at >= self._waiting_seconds * _PUNCTUAL:
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


def _waiting(swept: SweepResult, earlier: SweepResult | None) -> WaitingAccounts:
    old = frozenset(account for account, is_old in swept.waiting if is_old)
    recent = frozenset(account for account, _ in swept.waiting) - old
    if earlier is None:
        # The recent rows arrived within the last second, so none of them was visible before.
        before = swept.as_of - timedelta(seconds=WAITING_SECONDS)
        return WaitingAccounts(swept.read_at - WAITING_SECONDS, iso(before), recent, old)
    return WaitingAccounts(earlier.read_at, iso(earlier.as_of), recent, old)
