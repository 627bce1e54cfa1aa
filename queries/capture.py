"""What nodes and the command line ask of the capture: housekeeping, the reading of history, rebuilding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID

#: Ends what has expired; says whether notes wait.
HOUSEKEEP: Final = "SELECT alerts_ended, fell_silent, notes_due FROM guardwire.housekeep()"
#: Applies the oldest notes; the number applied.
APPLY_NOTES: Final = "SELECT guardwire.apply_notes($1)"
#: Lists every account that has history, once; the number listed.
LIST_ACCOUNTS: Final = "SELECT guardwire.list_accounts()"
#: Reads the history of one account that waits for it; null when none does.
BACKFILL_NEXT: Final = "SELECT guardwire.backfill_next()"
#: How many accounts wait for their history.
WAITING: Final = "SELECT count(*) FROM guardwire.accounts WHERE NOT ready"
#: Makes an account wait for its history.
UNREADY: Final = "SELECT guardwire.unready($1)"
#: Reads the history of one account; the number of rows read, null when it was ready.
READ_HISTORY: Final = "SELECT guardwire.read_history($1)"
#: Lists accounts whose every row was written past the triggers; the number of them.
LIST_MISSED: Final = "SELECT guardwire.list_missed_accounts()"
#: Makes the newest rate of each pair current.
REREAD_RATES: Final = "SELECT guardwire.reread_rates()"
#: How many accounts there are.
COUNT_ACCOUNTS: Final = "SELECT count(*) FROM guardwire.accounts"
#: So many accounts after one, by their order.
ACCOUNTS_AFTER: Final = "SELECT user_id FROM guardwire.accounts WHERE user_id > $1 ORDER BY user_id LIMIT $2"
#: Forgets arrivals and ignored rows that are old, so many of each; the number forgotten.
PRUNE: Final = "SELECT guardwire.prune($1)"

_NOTES_AT_ONCE: Final = 500
_ACCOUNTS_AT_ONCE: Final = 500
_HISTORY_SECONDS: Final = 3600.0


class Driver(Protocol):
    """The part of asyncpg's connection that is used here; it must not be in a transaction."""

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> Any: ...  # noqa: ASYNC109

    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> Any: ...  # noqa: ASYNC109

    async def fetchval(self, query: str, *args: Any, timeout: float | None = None) -> Any: ...  # noqa: ASYNC109


class Housekeeping(NamedTuple):
    """What a turn of housekeeping brought about."""

    alerts_ended: int
    fell_silent: int
    notes_applied: int


async def housekeep(driver: Driver, *, timeout_seconds: float = 10.0) -> Housekeeping:
    """Turn what time brought about into commits; one cheap statement when nothing is due. Any node may.

    Notes are applied in batches of one transaction each, for as long as whole batches can be applied.
    """
    alerts_ended, fell_silent, notes_due = await driver.fetchrow(HOUSEKEEP, timeout=timeout_seconds)
    notes_applied = 0
    while notes_due:
        batch = await driver.fetchval(APPLY_NOTES, _NOTES_AT_ONCE, timeout=timeout_seconds)
        notes_applied += batch
        notes_due = batch >= _NOTES_AT_ONCE
    return Housekeeping(alerts_ended, fell_silent, notes_applied)


async def prune(driver: Driver, *, at_once: int = 5000) -> int:
    """Forget arrivals and ignored rows that are older than guardwire.configuration says; how many."""
    forgotten = 0
    while some := await driver.fetchval(PRUNE, at_once, timeout=60.0):
        forgotten += some
    return forgotten


async def list_accounts(driver: Driver) -> int:
    """Give every account that has history a row that is not ready, once; the number of them."""
    listed: int = await driver.fetchval(LIST_ACCOUNTS, timeout=_HISTORY_SECONDS)
    return listed


async def backfill(driver: Driver, *, progress: Callable[[str], None]) -> int:
    """Read the history of every account that waits for it, one transaction each; the number of accounts read.

    May be interrupted and begun again at any time, and run by many at once.
    """
    await list_accounts(driver)
    waiting = await driver.fetchval(WAITING)
    read = 0
    while await driver.fetchval(BACKFILL_NEXT, timeout=_HISTORY_SECONDS) is not None:
        read += 1
        progress(f"history of {read} of {max(read, waiting)} accounts read")
    return read


async def rebuild(driver: Driver, user_id: UUID) -> int:
    """Make one account's derived rows anew from the raw log; the number of rows read.

    The account is not ready meanwhile, and its revision grows twice.
    """
    await driver.fetchval(UNREADY, user_id)
    rows: int | None = await driver.fetchval(READ_HISTORY, user_id, timeout=_HISTORY_SECONDS)
    return rows or 0


async def reread_rates(driver: Driver) -> None:
    """Make the newest rate of each pair current, as after rates were written past the triggers."""
    await driver.fetchval(REREAD_RATES, timeout=_HISTORY_SECONDS)


async def rebuild_all(driver: Driver, *, progress: Callable[[int, int, int], None]) -> int:
    """Make every account's derived rows anew, and those of accounts that no trigger has seen; how many.

    One transaction an account, which locks that account alone and only at its end. ``progress`` is told the
    accounts done, all of them, and the rows read.
    """
    await reread_rates(driver)
    await driver.fetchval(LIST_MISSED, timeout=_HISTORY_SECONDS)
    total: int = await driver.fetchval(COUNT_ACCOUNTS)
    after, done, rows = UUID(int=0), 0, 0
    while page := await driver.fetch(ACCOUNTS_AFTER, after, _ACCOUNTS_AT_ONCE):
        for (user_id,) in page:
            rows += await rebuild(driver, user_id)
            done += 1
            progress(done, max(done, total), rows)
        after = page[-1][0]
    return done
