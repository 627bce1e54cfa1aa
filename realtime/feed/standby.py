"""How a node in a region reads a standby: it knows how far the standby has replayed the primary.

The node commits a probe at the primary, which is a time of the primary's clock, and looks for it at the standby. Once
the standby shows the probe, every commit before the probe is replayed. A read there was therefore the newest state when
the probe was sent. The node never compares two clocks, because both moments are of its own monotonic clock.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from queries.timestamps import iso
from realtime.feed.connection import DATABASE_ERRORS, KeptConnection
from realtime.feed.epoch import check_server, raise_epoch
from realtime.feed.trouble import Trouble
from realtime.metrics import METRICS

PROBE_SECONDS: Final = 0.5
#: With a relay a sweep finds few changes. It still has to find probes, whose age adds to that of the state.
SWEEP_SECONDS: Final = 0.5
_TIMEOUT_SECONDS: Final = 1.5
_PART: Final = "the probe of the primary"
#: Probes of an hour. With a greater lag the age of states is unknown, and they are stale in any case.
_MOST_PROBES: Final = 7200
#: A revision is the primary's time when a batch began. A batch commits within its time limit of 5 s.
_COMMITTED_WITHIN_SECONDS: Final = 10.0
#: Pauses before an account is read again that the standby has not replayed yet. After them, each replayed probe has the
#: account read.
_PAUSES_SECONDS: Final = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32)

_PROBE: Final = """
UPDATE guardwire.probe SET at = greatest(clock_timestamp(), at + interval '1 microsecond') RETURNING at
"""
_SEEN: Final = "SELECT at, pg_is_in_recovery() AS is_standby FROM guardwire.probe"


class Replayed(NamedTuple):
    """The standby has replayed every commit until ``read_at``, in monotonic seconds of this node; ``as_of`` is the same
    on the primary's clock. Minus infinity and None before the first probe.
    """

    read_at: float
    as_of: datetime | None

    def is_gone(self, revision: int) -> bool:
        """Whether a revision that the standby does not show was lost, because later commits are replayed."""
        as_of = self.as_of
        return as_of is not None and as_of.timestamp() > revision / 1e6 + _COMMITTED_WITHIN_SECONDS


class Replay:
    """The probes of this node, and the newest one that the standby shows; pure."""

    def __init__(self) -> None:
        # The primary's time of each probe, and this node's when it was sent and when its commit was confirmed.
        self._sent: deque[tuple[datetime, float, float]] = deque(maxlen=_MOST_PROBES)
        self.replayed = Replayed(float("-inf"), None)

    def note_sent(self, at: datetime, *, sent_at: float, committed_at: float) -> None:
        """The probe ``at`` was sent, and its commit was confirmed."""
        self._sent.append((at, sent_at, committed_at))

    def note_seen(self, at: datetime) -> bool:
        """The standby shows the probe ``at``, of any node; whether a newer probe of this node is replayed."""
        is_newer = False
        while self._sent and self._sent[0][0] <= at:
            as_of, sent_at, _ = self._sent.popleft()
            self.replayed, is_newer = Replayed(sent_at, as_of), True
        return is_newer

    def lag_seconds(self, now: float) -> float:
        """For how long the oldest probe that is not replayed has been committed; 0 when all are replayed."""
        return now - self._sent[0][2] if self._sent else 0.0


class Standby:
    """The standby that this node reads, and the ways to the primary that its feed needs."""

    def __init__(
        self,
        *,
        primary: KeptConnection,
        mark_dirty: Callable[[UUID], None],
        is_settled: Callable[[UUID], bool],
    ) -> None:
        """``is_settled`` says that an account needs no read."""
        self._primary = primary
        self._mark_dirty = mark_dirty
        self._is_settled = is_settled
        self._tries: dict[UUID, int] = {}
        self.replay = Replay()
        #: Set when the server of this region is a standby no longer.
        self.promoted = asyncio.Event()

    @property
    def replayed(self) -> Replayed:
        """How far the standby had replayed the primary at the latest sweep."""
        return self.replay.replayed

    @property
    def as_of(self) -> str | None:
        """The primary's time until which commits are replayed; None before the first probe."""
        as_of = self.replayed.as_of
        return None if as_of is None else iso(as_of)

    async def look(self, driver: Any) -> None:
        """Look for probes at the standby; accounts that wait for replayed commits are read again after a newer one."""
        at, is_standby = await driver.fetchrow(_SEEN, timeout=_TIMEOUT_SECONDS)
        is_newer = self.replay.note_seen(at)
        METRICS.standby.set(float(is_standby))
        METRICS.replay_lag.set(self.replay.lag_seconds(time.monotonic()))
        if not is_standby:
            self.promoted.set()
        if is_newer:
            for user_id in list(self._tries):
                self._mark(user_id)

    def read_again(self, behind: Iterable[UUID]) -> None:
        """Have accounts read again soon, because the standby has not replayed a revision that is known."""
        loop = asyncio.get_running_loop()
        for user_id in behind:
            tries = self._tries.get(user_id, 0)
            self._tries[user_id] = tries + 1
            if tries < len(_PAUSES_SECONDS):
                loop.call_later(_PAUSES_SECONDS[tries], self._mark, user_id)

    def _mark(self, user_id: UUID) -> None:
        # A delta may have brought the missing revision meanwhile.
        if self._is_settled(user_id):
            self._tries.pop(user_id, None)
        else:
            self._mark_dirty(user_id)

    def forget(self, user_ids: Iterable[UUID]) -> None:
        """Accounts were read as far as is known, or made progress."""
        if self._tries:
            for user_id in user_ids:
                self._tries.pop(user_id, None)

    async def raise_epoch(self, seen: int) -> None:
        """Raise the epoch at the primary, unless it was raised since ``seen``."""
        async with self._primary.driver() as driver:
            await raise_epoch(driver, seen=seen)


class Prober:
    """Commits a probe at the primary every half second.

    A new connection may lead to another server, such as one that was promoted. Its epoch is checked before the first
    probe, so a node that sees the probe sees the new epoch too.
    """

    def __init__(self, *, connection: KeptConnection, replay: Replay, trouble: Trouble) -> None:
        self._connection = connection
        self._replay = replay
        self._trouble = trouble
        self._checked: Any = None

    async def run(self) -> None:
        """Probe for ever, and wait for a primary that does not answer."""
        while True:
            started = time.monotonic()
            try:
                await self._once()
                self._trouble.end(_PART)
                METRICS.primary_up.set(1)
            except DATABASE_ERRORS as error:
                self._trouble.report(_PART, error)
                METRICS.primary_up.set(0)
            await asyncio.sleep(max(0.02, PROBE_SECONDS - (time.monotonic() - started)))

    async def _once(self) -> None:
        async with self._connection.driver() as driver:
            if driver is not self._checked:
                await check_server(driver)
                self._checked = driver
            sent_at = time.monotonic()
            at = await driver.fetchval(_PROBE, timeout=_TIMEOUT_SECONDS)
        self._replay.note_sent(at, sent_at=sent_at, committed_at=time.monotonic())
