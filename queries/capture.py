"""What nodes and the command line ask of the capture: housekeeping, the reading of history, rebuilding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID

HOUSEKEEP: Final = "SELECT alerts_ended, fell_silent, notes_applied FROM guardwire.housekeep()"
BACKFILL_NEXT: Final = "SELECT guardwire.backfill_next()"
REBUILD: Final = "SELECT guardwire.rebuild($1)"
PRUNE: Final = "SELECT guardwire.prune()"
_HISTORY_SECONDS: Final = 3600.0


class Driver(Protocol):
    """The part of asyncpg's connection that is used here."""

    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> Any: ...  # noqa: ASYNC109

    async def fetchval(self, query: str, *args: Any, timeout: float | None = None) -> Any: ...  # noqa: ASYNC109


class Housekeeping(NamedTuple):
    """What a turn of housekeeping brought about."""

    alerts_ended: int
    fell_silent: int
    notes_applied: int


async def housekeep(driver: Driver, *, timeout_seconds: float = 10.0) -> Housekeeping:
    """Turn what time brought about into commits; one cheap statement when nothing is due. Any node may."""
    row = await driver.fetchrow(HOUSEKEEP, timeout=timeout_seconds)
    return Housekeeping(*row)


async def prune(driver: Driver) -> None:
    """Forget arrivals and ignored rows that are older than guardwire.configuration says."""
    await driver.fetchval(PRUNE, timeout=60.0)


async def backfill(driver: Driver, *, progress: Callable[[str], None]) -> int:
    """Read the history of every account that waits for it, one transaction each; the number of accounts read.

    May be interrupted and begun again at any time, and run by many at once.
    """
    read = 0
    while await driver.fetchval(BACKFILL_NEXT, timeout=_HISTORY_SECONDS) is not None:
        read += 1
        progress(f"history of {read} accounts read")
    return read


async def rebuild(driver: Driver, user_id: UUID) -> int:
    """Make one account's derived rows anew from the raw log; the number of rows read."""
    rows: int | None = await driver.fetchval(REBUILD, user_id, timeout=_HISTORY_SECONDS)
    return rows or 0
