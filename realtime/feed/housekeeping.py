"""What only time brings about is turned into committed changes here: any node may, none must."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final

from queries.capture import housekeep
from queries.records import forget_unused
from realtime.feed.connection import DATABASE_ERRORS, KeptConnection
from realtime.feed.epoch import check_server

log = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 2.0
_SERVER_CHECK_EVERY: Final = 15
#: So long are records of the last reads known by their bytes.
FORGET_SECONDS: Final = 10.0


class Housekeeper:
    """Ends alerts whose window has passed, and notes platforms that fell silent."""

    def __init__(self, *, connection: KeptConnection, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._connection = connection
        self._interval_seconds = interval_seconds

    async def run(self) -> None:
        """For ever; a database that does not answer is waited for."""
        turn, forgot_at = 0, time.monotonic()
        while True:
            if time.monotonic() - forgot_at > FORGET_SECONDS:
                forget_unused()
                forgot_at = time.monotonic()
            try:
                async with self._connection.driver() as driver:
                    await self._once(driver, check=turn % _SERVER_CHECK_EVERY == 0)
                turn += 1
            except DATABASE_ERRORS as error:
                # After a lost connection it may be another server that answers.
                turn = 0
                log.info("housekeeping waits for the database: %s", type(error).__name__)
            await asyncio.sleep(self._interval_seconds)

    async def _once(self, driver: Any, *, check: bool) -> None:
        if check:
            await check_server(driver)
        await housekeep(driver)
