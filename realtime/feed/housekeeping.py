"""Commits the changes that time alone causes, such as the end of an alert. Any node may do so, and none must."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from queries.capture import PRUNE, housekeep
from queries.records import forget_unused
from realtime.feed.connection import DATABASE_ERRORS, KeptConnection
from realtime.feed.epoch import check_server
from realtime.feed.trouble import Trouble

log = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 2.0
#: The same while the time of an alert comes before.
_LEAST_INTERVAL_SECONDS: Final = 0.5
_SERVER_CHECK_EVERY: Final = 15
#: How often old arrivals and ignored rows are deleted, and for how long at a time.
PRUNE_EVERY_SECONDS: Final = 60.0
PRUNE_SECONDS: Final = 1.0
#: A larger number costs less per row, because every statement skips the deleted rows that no vacuum has removed yet.
PRUNE_ROWS: Final = 20_000
_PRUNE_TIMEOUT_SECONDS: Final = 8.0
_PART: Final = "housekeeping"
_PRUNING: Final = "the deletion of old arrivals"
#: How long the cache of `queries/records.py` keeps a record that no read contained.
FORGET_SECONDS: Final = 10.0


class Housekeeper:
    """Ends alerts whose window has passed, and notes platforms that fell silent."""

    def __init__(
        self,
        *,
        connection: KeptConnection,
        interval_seconds: float = INTERVAL_SECONDS,
        prune_every_seconds: float = PRUNE_EVERY_SECONDS,
        on_deliveries: Callable[[], None] = lambda: None,
        trouble: Trouble | None = None,
    ) -> None:
        """``on_deliveries`` is called when messages are due."""
        self._connection = connection
        self._interval_seconds = interval_seconds
        self._prune_every_seconds = prune_every_seconds
        self._on_deliveries = on_deliveries
        self._trouble = trouble or Trouble()
        #: When the last turn succeeded, on the monotonic clock.
        self.worked_at = float("-inf")

    async def run(self) -> None:
        """Run for ever, and wait for a database that does not answer."""
        turn, forgot_at, pruned_at = 0, time.monotonic(), time.monotonic()
        while True:
            pause_seconds = self._interval_seconds
            if time.monotonic() - forgot_at > FORGET_SECONDS:
                forget_unused()
                forgot_at = time.monotonic()
            try:
                async with self._connection.driver() as driver:
                    pause_seconds = await self._once(driver, check=turn % _SERVER_CHECK_EVERY == 0)
                turn += 1
                self.worked_at = time.monotonic()
                self._trouble.end(_PART)
            except DATABASE_ERRORS as error:
                # After a lost connection, another server may answer.
                turn = 0
                self._trouble.report(_PART, error)
            if time.monotonic() - pruned_at > self._prune_every_seconds:
                await self._prune()
                pruned_at = time.monotonic()
            await asyncio.sleep(pause_seconds)

    async def _once(self, driver: Any, *, check: bool) -> float:
        """Commit what is due; the seconds until the next turn."""
        if check:
            await check_server(driver)
        done = await housekeep(driver)
        if done.deliveries_due:
            self._on_deliveries()
        if done.next_in_seconds is None:
            return self._interval_seconds
        return min(max(done.next_in_seconds, _LEAST_INTERVAL_SECONDS), self._interval_seconds)

    async def _prune(self) -> None:
        """Delete old rows for about a second; a failure does not stop the other housekeeping."""
        begun = time.monotonic()
        try:
            async with self._connection.driver() as driver:
                while time.monotonic() - begun < PRUNE_SECONDS:
                    if await driver.fetchval(PRUNE, PRUNE_ROWS, timeout=_PRUNE_TIMEOUT_SECONDS) < PRUNE_ROWS:
                        break
            self._trouble.end(_PRUNING)
        except DATABASE_ERRORS as error:
            self._trouble.report(_PRUNING, error)
