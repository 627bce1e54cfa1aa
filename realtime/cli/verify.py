"""`guardwire verify`: compares the state that clients get with a reduction of the raw log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final
from uuid import UUID

import typer

from realtime.cli.database import open_database, read_database_settings
from realtime.cli.process import report_progress
from realtime.errors import ConfigurationError, UnavailableError

_PROGRESS_SECONDS: Final = 2.0
_TIMEOUT_SECONDS: Final = 3600.0
#: More exchange rates and rows than any platform's database holds.
_ALL: Final = 2**31 - 1

_ACCOUNTS: Final = "SELECT user_id FROM guardwire.accounts WHERE user_id > $1 ORDER BY user_id LIMIT 500"
#: Every user of a table. The recursion jumps from each user to the next by the index on the column.
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
        bool, typer.Option("--doubts", help="Also print values that the stored rows alone cannot settle.")
    ] = False,
) -> None:
    """Compare the state that clients get with an independent reduction of the raw log.

    Reads the platform's own rows in the order in which they were applied, and
    computes the state of every account from them in plain Python. Compares
    that with the result of the live queries in the same snapshot of the
    database. Also checks the triggers. Writes nothing, and takes no lock that
    another session waits for.

    Prints one line for each difference on standard output, and progress and a
    summary on standard error. Exit code 0: all accounts agree. 1: some differ,
    and the last lines name the remedy.

    Rows that were deleted or changed in place may once have held other values.
    The command counts such a value as a doubt, and never as a difference.

    [bold]Example[/bold]

    DATABASE_URL=postgresql://… guardwire verify
    guardwire verify --user 0e1550bf-b861-4cc3-875b-4b54a426f907 --rows 0
    """
    read = read_database_settings("to verify")
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
        problems = await check_capture(connection)
        tally = _Tally(print_doubts=doubts)
        async for account in _accounts(connection, user):
            await tally.audit(connection, account, most_rows)
    finally:
        await connection.close()
    for problem in problems:
        print(problem, flush=True)
    tally.summarise()
    return not problems and not tally.different


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
    # Guardwire does not know an account of which every row was written past the triggers.
    for table in ("public.reconciliation_logs", "public.equity_snapshots"):
        for (written,) in await connection.fetch(_USERS.format(table=table)):
            user_of_row = values.user(written)
            if user_of_row is not None and user_of_row not in known:
                known.add(user_of_row)
                yield user_of_row


class _Tally:
    """The results of all accounts that have been audited so far."""

    def __init__(self, *, print_doubts: bool) -> None:
        self._print_doubts = print_doubts
        self._began = self._reported_at = time.monotonic()
        self._sources: Any = None
        self.audited = self.rows = self.doubted = self.partial = self.waiting = 0
        self.different: list[UUID] = []

    async def audit(self, connection: Any, user_id: UUID, most_rows: int) -> None:
        """Audit one account, and print its differences."""
        from queries.channels import LIVE_QUERIES
        from realtime.audit.sources import Sources
        from realtime.audit.verdict import read_evidence

        async def read_shown_state(driver: Any, account: UUID) -> Any:
            (found,) = await LIVE_QUERIES.evaluate(driver, [account], timeout_seconds=_TIMEOUT_SECONDS)
            return found.state

        self._sources = self._sources or await Sources.of(connection)
        evidence = await read_evidence(
            connection,
            self._sources,
            user_id,
            shown=read_shown_state,
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
        if time.monotonic() - self._reported_at > _PROGRESS_SECONDS:
            self._reported_at = time.monotonic()
            report_progress(
                f"{self.audited} accounts, {self.rows:,} rows, {len(self.different)} different so far"
            )

    def summarise(self) -> None:
        """Report the totals, and the commands that correct differing accounts."""
        seconds = time.monotonic() - self._began
        report_progress(
            f"{self.audited} {'account' if self.audited == 1 else 'accounts'}, {self.rows:,} rows"
            f" in {seconds:.1f} s: {len(self.different)} different, {self.doubted} with doubts (--doubts),"
            f" {self.waiting} whose history has not been read"
        )
        if self.partial:
            report_progress(f"of {self.partial} only the newest rows were read; --rows 0 reads all")
        if len(self.different) == 1:
            report_progress(f"`guardwire rebuild --user {self.different[0]}` computes it again from the log")
        elif self.different:
            report_progress(
                "`guardwire rebuild --user …` computes an account again from the log, or all without --user"
            )
