"""Commands about one account: `guardwire rebuild` and `guardwire peak reset`."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final
from uuid import UUID

import typer

from realtime import settings
from realtime.cli.migrate import say
from realtime.cli.reaching import open_database
from realtime.errors import ConfigurationError
from realtime.settings import Settings

_PROGRESS_SECONDS: Final = 2.0
_APPLIED_SECONDS: Final = 5.0

User = Annotated[UUID, typer.Option(help="Whose account.")]

peak: typer.Typer = typer.Typer(help="The peak that drawdown is measured from.", no_args_is_help=True)


def rebuild(
    user: Annotated[UUID | None, typer.Option(help="Only this account; without it, all of them.")] = None,
) -> None:
    """Make current state anew from the raw log and equity history.

    For after rows were written past the triggers, or changed by hand;
    [bold]guardwire verify[/bold] tells which accounts need it. An account
    says `unknown` while it is read; its revision grows, so clients follow.
    Each is read in a transaction of its own, and locked only at the end of
    it. Safe while the platform writes, and again after an interruption.

    [bold]Example[/bold]

    guardwire rebuild --user 0e1550bf-b861-4cc3-875b-4b54a426f907
    """
    said = [time.monotonic()]

    def progress(done: int, total: int, rows: int) -> None:
        if time.monotonic() - said[0] > _PROGRESS_SECONDS:
            said[0] = time.monotonic()
            say(f"{done} of {total} accounts rebuilt, {rows:,} rows read")

    async def work(connection: Any) -> str:
        from queries import capture

        if user is None:
            return f"{await capture.rebuild_all(connection, progress=progress)} accounts rebuilt"
        await capture.copy_reference(connection)
        return f"{await capture.rebuild(connection, user)} rows read"

    say(_with_connection("rebuild", work))


@peak.command("reset")
def reset(user: User) -> None:
    """Measure an account's drawdown from its equity of now on.

    Sets guard_limits.peak_since to the database's time; waits until a node
    has applied that, which ends a breach that no longer holds.

    [bold]Example[/bold]

    guardwire peak reset --user 0e1550bf-b861-4cc3-875b-4b54a426f907
    """

    async def work(connection: Any) -> str:
        await connection.execute(
            "INSERT INTO public.guard_limits (user_id, peak_since) VALUES ($1, clock_timestamp())"
            " ON CONFLICT (user_id) DO UPDATE SET peak_since = excluded.peak_since",
            user,
        )
        from queries.capture import wait_until_applied

        revision = await wait_until_applied(connection, user, timeout_seconds=_APPLIED_SECONDS)
        if revision is None:
            return "the peak counts from now on, as soon as a node applies it: no node has within 5 s"
        return f"the peak counts from now on (revision {revision})"

    # Triggers of the platform's own on guard_limits may need the login's search path.
    say(_with_connection("reset the peak of", work, keep_search_path=True))


def read_settings_with_database(what: str) -> Settings:
    """The environment's settings; ConfigurationError when they name no database to ``what`` in."""
    read = settings.read(os.environ)
    if not read.database_url:
        raise ConfigurationError([f"DATABASE_URL is not set: it names the database to {what} in."])
    return read


def _with_connection(
    what: str, work: Callable[[Any], Awaitable[str]], *, keep_search_path: bool = False
) -> str:
    read = read_settings_with_database(what)

    async def run() -> str:
        connection = await open_database(read.database_url, keep_search_path=keep_search_path)
        try:
            return await work(connection)
        finally:
            await connection.close()

    return asyncio.run(run())
