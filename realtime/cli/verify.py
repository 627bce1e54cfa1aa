"""`guardwire verify`: is what is shown what the raw log says?"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final
from uuid import UUID

import typer

from realtime import settings
from realtime.cli.migrate import say
from realtime.cli.reaching import open_database
from realtime.errors import ConfigurationError, UnavailableError

_PROGRESS_SECONDS: Final = 2.0
_TIMEOUT_SECONDS: Final = 3600.0
#: More rates than any database of a platform holds.
_ALL: Final = 2**31 - 1

_ACCOUNTS: Final = "SELECT user_id FROM guardwire.accounts WHERE user_id > $1 ORDER BY user_id LIMIT 500"
#: Every user of a table, jumping from each to the next by the index on the column.
_USERS: Final = """
WITH RECURSIVE users (user_id) AS (
    (SELECT l.user_id FROM {table} AS l WHERE l.user_id IS NOT NULL ORDER BY l.user_id LIMIT 1)
    UNION ALL
    SELECT (SELECT l.user_id FROM {table} AS l WHERE l.user_id > u.user_id ORDER BY l.user_id LIMIT 1)
    FROM users AS u WHERE u.user_id IS NOT NULL
)
SELECT user_id::text FROM users WHERE user_id IS NOT NULL
"""


def verify(
    user: Annotated[UUID | None, typer.Option(help="Only this account.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every account; the default without --user.")] = False,
    rows: Annotated[
        int, typer.Option(help="Newest rows of each table to read of an account; 0 reads all.", min=0)
    ] = 100_000,
    doubts: Annotated[
        bool, typer.Option("--doubts", help="Also print what the record alone cannot settle.")
    ] = False,
) -> None:
    """Compare what is shown with what the raw log says, reduced independently.

    Reads the platform's own rows in the order in which they were applied,
    works out every account's state in plain Python, and compares that with
    what the live queries give in the same snapshot of the database. Nothing
    is written, and nobody waits for it. Checks the capture's triggers too.

    One line for each difference on standard output, progress and a summary
    on standard error. Exit code 0: all agree. 1: something differs, and the
    last lines say what mends it.

    What rows that are gone, or changed in place, may have said before is
    counted as a doubt and never as a difference.

    [bold]Example[/bold]

    DATABASE_URL=postgresql://… guardwire verify
    guardwire verify --user 0e1550bf-b861-4cc3-875b-4b54a426f907 --rows 0
    """
    read = settings.read(os.environ)
    if not read.database_url:
        raise ConfigurationError(["DATABASE_URL is not set: it names the database to verify."])
    if user is not None and every:
        raise ConfigurationError(["Either one account (--user) or all of them (--all)."])
    clean = asyncio.run(_verify(read.database_url, user, rows or _ALL, doubts=doubts))
    raise typer.Exit(0 if clean else 1)


async def _verify(database_url: str, user: UUID | None, most_rows: int, *, doubts: bool) -> bool:
    from realtime.audit.capture import check_capture

    connection = await open_database(database_url)
    try:
        if await connection.fetchval("SELECT to_regclass('guardwire.accounts') IS NULL"):
            raise UnavailableError("The database has not been migrated: `guardwire migrate` does that.")
        complaints = await check_capture(connection)
        tally = _Tally(print_doubts=doubts)
        async for account in _accounts(connection, user):
            await tally.audit(connection, account, most_rows)
    finally:
        await connection.close()
    for complaint in complaints:
        print(complaint, flush=True)
    tally.summarise()
    return not complaints and not tally.different


async def _accounts(connection: Any, user: UUID | None) -> AsyncIterator[UUID]:
    from realtime.audit import values

    if user is not None:
        yield user
        return
    known: set[UUID] = set()
    after = UUID(int=0)
    while page := await connection.fetch(_ACCOUNTS, after):
        for (account,) in page:
            known.add(account)
            yield account
        after = page[-1][0]
    # An account whose every row was written past the triggers is none that Guardwire knows of.
    for table in ("public.reconciliation_logs", "public.equity_snapshots"):
        for (written,) in await connection.fetch(_USERS.format(table=table)):
            user_of_row = values.user(written)
            if user_of_row is not None and user_of_row not in known:
                known.add(user_of_row)
                yield user_of_row


class _Tally:
    """What has been found so far."""

    def __init__(self, *, print_doubts: bool) -> None:
        self._print_doubts = print_doubts
        self._begun = self._said = time.monotonic()
        self._sources: Any = None
        self.audited = self.rows = self.doubted = self.partial = self.waiting = 0
        self.different: list[UUID] = []

    async def audit(self, connection: Any, user_id: UUID, most_rows: int) -> None:
        """Audit one account, and print what differs."""
        from queries.channels import LIVE_QUERIES
        from realtime.audit.sources import Sources
        from realtime.audit.verdict import read_evidence

        async def shown(driver: Any, account: UUID) -> Any:
            (found,) = await LIVE_QUERIES.evaluate(driver, [account], timeout_seconds=_TIMEOUT_SECONDS)
            return found.state

        self._sources = self._sources or await Sources.of(connection)
        evidence = await read_evidence(
            connection,
            self._sources,
            user_id,
            shown=shown,
            most_rows=most_rows,
            most_rates=_ALL,
            timeout_seconds=_TIMEOUT_SECONDS,
        )
        verdict = evidence.judge()
        self.audited += 1
        self.rows += verdict.rows
        self.partial += verdict.partial
        self.waiting += not verdict.ready
        self.doubted += bool(verdict.doubts)
        for difference in verdict.differences:
            print(f"{user_id} {difference}", flush=True)
        if verdict.differences:
            self.different.append(user_id)
            if verdict.passed_by:
                print(f"{user_id} rows written past the triggers: {verdict.passed_by}", flush=True)
        for doubt in verdict.doubts if self._print_doubts else ():
            print(f"{user_id} in doubt: {doubt}", flush=True)
        if time.monotonic() - self._said > _PROGRESS_SECONDS:
            self._said = time.monotonic()
            say(f"{self.audited} accounts, {self.rows:,} rows, {len(self.different)} different so far")

    def summarise(self) -> None:
        """Say what was found, and what mends it."""
        seconds = time.monotonic() - self._begun
        say(
            f"{self.audited} {'account' if self.audited == 1 else 'accounts'}, {self.rows:,} rows"
            f" in {seconds:.1f} s: {len(self.different)} different, {self.doubted} with doubts (--doubts),"
            f" {self.waiting} whose history has not been read"
        )
        if self.partial:
            say(f"of {self.partial} only the newest rows were read; --rows 0 reads all")
        if len(self.different) == 1:
            say(f"`guardwire rebuild --user {self.different[0]}` makes it anew from the log")
        elif self.different:
            say("`guardwire rebuild --user …` makes an account anew from the log, without --user all of them")
