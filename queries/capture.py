"""The statements with which nodes and commands call the capture: housekeeping, reading history, rebuilding.

The connections that are passed in are not in a transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg

#: Ends market alerts whose window has passed, notes what fell silent, and escalates alerts that nobody acknowledged.
HOUSEKEEP: Final = """
SELECT alerts_ended, fell_silent, unconfirmed, alerts_escalated, deliveries_due, next_in_seconds
FROM guardwire.housekeep()
"""
#: Gives every account with history a row that is not ready, unless it has a row; the number added.
LIST_ACCOUNTS: Final = "SELECT guardwire.list_accounts()"
#: Removes the row that `guardwire uninstall --triggers-only` set aside for all accounts.
FORGET_REMOVAL: Final = "DELETE FROM guardwire.set_aside WHERE nth = 0 AND sqlstate = 'GW002'"
#: Reads the history of one account that waits for it; null when none does.
BACKFILL_NEXT: Final = "SELECT guardwire.backfill_next()"
#: How many accounts wait for their history.
UNREAD: Final = "SELECT count(*) FROM guardwire.accounts WHERE NOT ready"
#: Makes an account wait for its history.
UNREADY: Final = "SELECT guardwire.unready($1)"
#: Reads the history of one account; the number of rows read, null when it was ready.
READ_HISTORY: Final = "SELECT guardwire.read_history($1)"
#: Copies rates, instruments and limits from the platform's tables.
COPY_REFERENCE: Final = "SELECT guardwire.copy_reference()"
#: How many accounts there are.
COUNT_ACCOUNTS: Final = "SELECT count(*) FROM guardwire.accounts"
#: The next accounts in the order of their ids: those after the first argument, at most as many as the second.
ACCOUNTS_AFTER: Final = "SELECT user_id FROM guardwire.accounts WHERE user_id > $1 ORDER BY user_id LIMIT $2"
#: Deletes arrivals and ignored rows that are old, so many of each; the number deleted.
PRUNE: Final = "SELECT guardwire.prune($1)"
#: The last row of an account that waits in the inbox; null when none waits.
LAST_WAITING: Final = "SELECT max(nth) FROM guardwire.inbox WHERE account = $1"
#: Whether a row of an account up to that one still waits.
IS_WAITING: Final = "SELECT EXISTS (SELECT FROM guardwire.inbox WHERE account = $1 AND nth <= $2)"
#: The accounts of these with rows that waited for a second, or that cannot be applied; null stands for every account.
OLD_ROWS: Final = (
    "SELECT w.account FROM guardwire.waiting_accounts($1::uuid[], pg_current_snapshot()) AS w WHERE w.is_old"
)
#: An account's revision; null when it has none.
REVISION: Final = "SELECT revision FROM guardwire.accounts WHERE user_id = $1"

_ACCOUNTS_AT_ONCE: Final = 500
_HISTORY_SECONDS: Final = 3600.0
_APPLIED_POLL_SECONDS: Final = 0.02


class Housekeeping(NamedTuple):
    """The numbers of changes that one turn of housekeeping made."""

    alerts_ended: int
    fell_silent: int
    #: Positions that the platform no longer mentions.
    unconfirmed: int = 0
    #: Alerts that reached another level of escalation.
    alerts_escalated: int = 0
    #: Whether messages wait to be delivered by any node.
    deliveries_due: bool = False
    #: Seconds until the attendance of an account or an alert is due; None while nothing will be.
    next_in_seconds: float | None = None


async def housekeep(driver: asyncpg.Connection, *, timeout_seconds: float = 10.0) -> Housekeeping:
    """Turn what time brought about into commits; one cheap statement when nothing is due. Any node may."""
    return Housekeeping(*await driver.fetchrow(HOUSEKEEP, timeout=timeout_seconds))


async def wait_until_applied(
    driver: asyncpg.Connection, user_id: UUID, *, timeout_seconds: float
) -> int | None:
    """Wait until every row of an account that waits now is applied; its revision then.

    None when that takes longer than ``timeout_seconds``: no applier runs, or it has a long way to go.
    """
    last = await driver.fetchval(LAST_WAITING, user_id)
    try:
        async with asyncio.timeout(timeout_seconds):
            while last is not None and await driver.fetchval(IS_WAITING, user_id, last):  # noqa: ASYNC110 - no event crosses processes
                await asyncio.sleep(_APPLIED_POLL_SECONDS)
    except TimeoutError:
        return None
    revision: int | None = await driver.fetchval(REVISION, user_id)
    return revision or 0


async def prune(driver: asyncpg.Connection, *, at_once: int = 5000) -> int:
    """Forget arrivals, ignored rows, sent messages and log entries of alerts that are old; how many."""
    forgotten = 0
    while some := await driver.fetchval(PRUNE, at_once, timeout=60.0):
        forgotten += some
    return forgotten


async def list_accounts(driver: asyncpg.Connection) -> int:
    """Give every account that has history a row that is not ready, once; the number of them."""
    listed: int = await driver.fetchval(LIST_ACCOUNTS, timeout=_HISTORY_SECONDS)
    return listed


async def forget_removal(driver: asyncpg.Connection) -> None:
    """Ends the staleness of all accounts that taking the triggers out began; accounts that are not ready stay stale."""
    await driver.fetchval(FORGET_REMOVAL)


async def backfill(driver: asyncpg.Connection, *, progress: Callable[[str], None]) -> int:
    """Read the history of every account that waits for it, one transaction each; the number of accounts read.

    May be interrupted and begun again at any time, and run by many at once.
    """
    await list_accounts(driver)
    waiting = await driver.fetchval(UNREAD)
    read = 0
    while await driver.fetchval(BACKFILL_NEXT, timeout=_HISTORY_SECONDS) is not None:
        read += 1
        progress(f"history of {read} of {max(read, waiting)} accounts read")
    return read


async def rebuild(driver: asyncpg.Connection, user_id: UUID) -> int:
    """Make one account's derived rows anew from the raw log; the number of rows read.

    The account is not ready meanwhile, and its revision grows twice.
    """
    await driver.fetchval(UNREADY, user_id)
    rows: int | None = await driver.fetchval(READ_HISTORY, user_id, timeout=_HISTORY_SECONDS)
    return rows or 0


async def copy_reference(driver: asyncpg.Connection) -> None:
    """Copy rates, instruments and limits anew, as after rows were written past the triggers."""
    await driver.fetchval(COPY_REFERENCE, timeout=_HISTORY_SECONDS)


async def rebuild_all(driver: asyncpg.Connection, *, progress: Callable[[int, int, int], None]) -> int:
    """Make every account's derived rows anew, and those of accounts that no trigger has seen; how many.

    Each account takes one transaction, which locks that account alone and only at its end. ``progress`` is called
    with the number of accounts done, the number of all accounts, and the number of rows read.
    """
    await copy_reference(driver)
    await list_accounts(driver)
    total: int = await driver.fetchval(COUNT_ACCOUNTS)
    after, done, rows = UUID(int=0), 0, 0
    while page := await driver.fetch(ACCOUNTS_AFTER, after, _ACCOUNTS_AT_ONCE):
        for (user_id,) in page:
            rows += await rebuild(driver, user_id)
            done += 1
            progress(done, max(done, total), rows)
        after = page[-1][0]
    return done
