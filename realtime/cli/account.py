"""Commands about one account: `guardwire rebuild` and `guardwire peak reset`."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final
from uuid import UUID

import typer

from realtime.cli.database import run_on_database
from realtime.cli.process import report_progress

_PROGRESS_SECONDS: Final = 2.0
_APPLIED_SECONDS: Final = 5.0

User = Annotated[UUID, typer.Option(help="The user whose account it is.")]

peak: typer.Typer = typer.Typer(help="The peak that drawdown is measured from.", no_args_is_help=True)


def rebuild(
    user: Annotated[UUID | None, typer.Option(help="Only this account; without it, all of them.")] = None,
) -> None:
    """Compute current state again from the raw log and the equity history.

    For use after rows were written past the triggers, or changed by hand.
    [bold]guardwire verify[/bold] lists the accounts that need it. The status of an
    account is `unknown` while its rows are read. The result has a higher
    revision, so clients follow it.

    Each account is read in a transaction of its own, and locked only at the
    end of that transaction. The command is safe while the platform writes. It
    can be interrupted and run again.

    [bold]Example[/bold]

    guardwire rebuild --user 0e1550bf-b861-4cc3-875b-4b54a426f907
    """
    reported_at = time.monotonic()

    def progress(done: int, total: int, rows: int) -> None:
        nonlocal reported_at
        if time.monotonic() - reported_at > _PROGRESS_SECONDS:
            reported_at = time.monotonic()
            report_progress(f"{done} of {total} accounts rebuilt, {rows:,} rows read")

    async def work(connection: Any) -> str:
        from queries import capture

        if user is None:
            return f"{await capture.rebuild_all(connection, progress=progress)} accounts rebuilt"
        await capture.copy_reference(connection)
        return f"{await capture.rebuild(connection, user)} rows read"

    report_progress(run_on_database("to rebuild accounts in", work))


@peak.command("reset")
def reset(user: User) -> None:
    """Measure an account's drawdown from its present equity on.

    Sets guard_limits.peak_since to the database's time, and waits until a
    node has applied that. A breach that no longer holds then ends.

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
            return "no node applied the new peak within 5 s; the peak counts from now on as soon as one does"
        return f"the peak counts from now on (revision {revision})"

    report_progress(run_on_database("to reset the peak in", work))
