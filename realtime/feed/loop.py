"""Reads all dirty accounts in one consistent cut, and publishes the changed ones.

One read runs at a time, without a fixed window. While one batch is read the next one gathers, so batches grow under
load and cost no delay without it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg

from queries.capture import OLD_ROWS
from queries.live_query import Evaluation, LiveQueries
from realtime.feed.connection import DATABASE_ERRORS, KeptConnection
from realtime.feed.dirty import DirtySet
from realtime.feed.epoch import raise_epoch
from realtime.feed.standby import Standby
from realtime.feed.trouble import Trouble
from realtime.feed.watched import WatchedAccounts
from realtime.history import Step, Store
from realtime.metrics import METRICS
from realtime.snapshot import Snapshot

log = logging.getLogger(__name__)

BATCH: Final = 500
_RETRY_SECONDS: Final = 0.25
_PART: Final = "an evaluation"
_REMIND_SECONDS: Final = 60.0
#: With more accounts than this, another problem exists, and each may be reported again.
_MOST_UNREADABLE: Final = 10_000


class Unreadable:
    """Reports accounts whose rows the database cannot read: in full once, and then in one line a minute for each.

    It remembers the reported accounts, because every sweep finds them again.
    """

    def __init__(self) -> None:
        self._reported_at: dict[UUID, float] = {}

    def report(self, user_id: UUID, error: Exception) -> None:
        """Report that this account could not be read now."""
        now, reported_at = time.monotonic(), self._reported_at.get(user_id)
        extra = {"user": str(user_id)}
        if reported_at is None:
            text = "an account cannot be evaluated; its clients get `stale`"
            log.error(text, extra=extra, exc_info=error)
        elif now - reported_at > _REMIND_SECONDS:
            log.error("an account still cannot be evaluated: %s", type(error).__name__, extra=extra)
        else:
            return
        if len(self._reported_at) >= _MOST_UNREADABLE:
            self._reported_at.clear()
        self._reported_at[user_id] = now

    def forget_all(self, user_ids: Iterable[UUID]) -> None:
        """Forget the accounts that were read."""
        if not self._reported_at:  # nearly always
            return
        for user_id in user_ids:
            if self._reported_at.pop(user_id, None) is not None:
                log.warning("an account can be evaluated again", extra={"user": str(user_id)})


class Feed:
    """Reads dirty accounts and publishes their snapshots; ``memory`` and ``remember`` are None without Redis.

    ``standby`` is what ``connection`` leads to, None for a primary.
    """

    def __init__(
        self,
        *,
        connection: KeptConnection,
        live_queries: LiveQueries,
        dirty: DirtySet,
        hub: WatchedAccounts,
        memory: Store | None,
        remember: Callable[[Sequence[Step]], None] | None,
        timeout_seconds: float = 5.0,
        standby: Standby | None = None,
        trouble: Trouble | None = None,
    ) -> None:
        self._connection = connection
        self._standby = standby
        self._live_queries = live_queries
        self._dirty = dirty
        self._hub = hub
        self._memory = memory
        self._remember = remember
        self._timeout_seconds = timeout_seconds
        self._trouble = trouble or Trouble()
        self._unreadable = Unreadable()

    async def run(self) -> None:
        """Read for ever; an account that could not be read is marked again."""
        while True:
            batch = [user_id for user_id in await self._dirty.take(BATCH) if self._hub.is_watched(user_id)]
            if not batch:
                continue
            try:
                await self._evaluate(batch)
                self._trouble.end(_PART)
            except DATABASE_ERRORS as error:
                self._trouble.report(_PART, error)
                self._dirty.mark_all(batch)
                await asyncio.sleep(_RETRY_SECONDS)
            except BaseException:
                # When the supervisor starts this task again, these accounts must still be marked.
                self._dirty.mark_all(batch)
                raise

    async def _evaluate(self, batch: list[UUID]) -> None:
        known = {user_id: self._hub.snapshot_of(user_id) for user_id in batch}
        first_time = [user_id for user_id, snapshot in known.items() if snapshot is None]
        # A Redis that hangs costs a second, and all accounts of this batch wait. Whether Redis is back is found out by
        # the writers of snapshots, for which nobody waits.
        if first_time and self._memory is not None and self._memory.available:
            remembered = await self._memory.load(first_time)
            known.update((user_id, stored.snapshot) for user_id, stored in remembered.items())
        read_at = time.monotonic() if self._standby is None else self._standby.replayed.read_at
        as_of = None if self._standby is None else self._standby.as_of
        async with self._connection.driver() as driver:
            evaluations = await self._read(driver, batch)
            went_back = [found for found in evaluations if _went_back(found, known[found.user_id])]
            if went_back and self._standby is None:
                await raise_epoch(driver, seen=went_back[0].epoch)
                self._dirty.mark_all(batch)
                return
            unapplied = await self._read_unapplied(driver, first_time) if first_time else frozenset()
        if self._standby is not None:
            # A node never shows an older state after a newer one.
            newer = [found for found in evaluations if not _is_older(found, known[found.user_id])]
            self._publish(newer, known, as_of=as_of, read_at=read_at, unapplied=unapplied)
            later = [user_id for user_id in batch if not self._hub.is_settled(user_id)]
            await self._read_again(self._standby, later, evaluations, known)
            return
        self._publish(evaluations, known, as_of=None, read_at=read_at, unapplied=unapplied)

    async def _read_again(
        self,
        standby: Standby,
        later: Sequence[UUID],
        evaluations: Sequence[Evaluation],
        known: Mapping[UUID, Snapshot | None],
    ) -> None:
        """Have accounts read again whose known revision the standby does not show; raise the epoch when it is lost."""
        made_progress = [found.user_id for found in evaluations if _is_newer(found, known[found.user_id])]
        standby.forget((*made_progress, *known.keys() - set(later)))
        standby.read_again(later)
        for found in evaluations:
            held = known[found.user_id]
            if held is not None and _went_back(found, held) and standby.replayed.is_gone(held.revision):
                await standby.raise_epoch(found.epoch)
                return

    def _publish(
        self,
        evaluations: Sequence[Evaluation],
        known: Mapping[UUID, Snapshot | None],
        *,
        as_of: str | None,
        read_at: float,
        unapplied: frozenset[UUID],
    ) -> None:
        if not evaluations:
            return
        as_of = as_of or evaluations[0].as_of
        # While this was read, deltas may have led to newer snapshots.
        steps = [
            Step(_snapshot(found, as_of), self._hub.snapshot_of(found.user_id) or known[found.user_id])
            for found in evaluations
        ]
        METRICS.evaluation_batches.add()
        METRICS.evaluated.add(len(steps))
        self._unreadable.forget_all(found.user_id for found in evaluations)
        self._hub.publish(steps, as_of=as_of, read_at=read_at, unapplied=unapplied)
        if self._remember is not None:
            self._remember([step for step in steps if _is_new(step)])

    async def _read_unapplied(self, driver: Any, first_time: list[UUID]) -> frozenset[UUID]:
        """The accounts whose state lacks old rows. No sweep has looked at accounts that are read for the first time."""
        rows = await driver.fetch(OLD_ROWS, first_time, timeout=self._timeout_seconds)
        found = frozenset(row["account"] for row in rows)
        return frozenset(first_time) if None in found else found

    async def _read(self, driver: Any, batch: list[UUID]) -> list[Evaluation]:
        """The evaluations of ``batch`` in one cut, without the accounts whose rows cannot be read."""
        try:
            return await self._live_queries.evaluate(driver, batch, timeout_seconds=self._timeout_seconds)
        except Exception as error:
            # A DataError is caused by the rows of one account; every other database error is about the database itself.
            if isinstance(error, DATABASE_ERRORS) and not isinstance(error, asyncpg.DataError):
                raise
            if len(batch) == 1:
                METRICS.evaluation_failures.add()
                self._unreadable.report(batch[0], error)
                return []
        middle = len(batch) // 2
        return await self._read(driver, batch[:middle]) + await self._read(driver, batch[middle:])


def _snapshot(found: Evaluation, as_of: str) -> Snapshot:
    return Snapshot(
        user_id=found.user_id,
        epoch=found.epoch,
        revision=found.revision,
        as_of=as_of,
        state=found.state,
    )


def _went_back(found: Evaluation, known: Snapshot | None) -> bool:
    """Whether a commit that was ``known`` before the read is gone, because the database was restored or a lagging
    standby promoted.
    """
    return known is not None and known.epoch == found.epoch and found.revision < known.revision


def _is_older(found: Evaluation, known: Snapshot | None) -> bool:
    return known is not None and (found.epoch, found.revision) < (known.epoch, known.revision)


def _is_newer(found: Evaluation, known: Snapshot | None) -> bool:
    return known is None or (known.epoch, known.revision) < (found.epoch, found.revision)


def _is_new(step: Step) -> bool:
    base, snapshot = step.base, step.snapshot
    return base is None or (base.epoch, base.revision) < (snapshot.epoch, snapshot.revision)
