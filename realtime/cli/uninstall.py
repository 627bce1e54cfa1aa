"""`guardwire uninstall`: removes Guardwire from a platform's database."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

import typer

from realtime.cli.database import check_database, read_database_settings
from realtime.cli.process import report_progress
from realtime.errors import ConfigurationError, UnavailableError

_AFTER_TRIGGERS: Final = """\
clients stay connected, and every account is stale until `guardwire migrate` has run
`guardwire migrate` brings the triggers back, and reads the missed rows from the log
bots that act on fresh state alone do nothing meanwhile"""
_AFTER_EVERYTHING: Final = """\
nodes that still run send `stale` to their clients, and their /readyz answers 503: stop them
the platform's tables and rows are unchanged
public.equity_snapshots, guard_limits, instruments and fx_rates stay too, also where Guardwire made them
the roles of `migrate --roles` stay, because other databases of this server may use them"""


def uninstall(
    triggers_only: Annotated[
        bool,
        typer.Option("--triggers-only", help="Remove the triggers alone, at once, without --yes."),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove everything; without this option, only list it.")
    ] = False,
) -> None:
    """Remove Guardwire from the database at DATABASE_URL.

    [bold]In an emergency[/bold]

    `guardwire uninstall --triggers-only` first replaces the functions of the
    triggers by ones that do nothing. That needs no lock on a table of the
    platform, so it takes effect with the next statement, also while a long
    transaction holds the tables. Then it drops the triggers in one transaction,
    which tries for 0.5 s and pauses for 1 s, up to 300 times. The command names
    the sessions that it waits for.

    Every account is stale from the first step on. Nothing is lost: `guardwire
    migrate` brings the triggers back and reads the missed rows from the log.

    [bold]For good[/bold]

    Without an option the command only lists the objects in the database. With
    --yes it drops the triggers, the functions and schema guardwire. The tables
    and rows of the platform stay, and a later `guardwire migrate` starts from
    the beginning. Stop the nodes first. If tokens were revoked, save
    guardwire.revocations first.

    Both need the login that migrates. The trading platform goes on writing.

    [bold]Example[/bold]

    DATABASE_URL=postgresql://owner:secret@db.example/platform guardwire uninstall --triggers-only
    DATABASE_URL=postgresql://owner:secret@db.example/platform guardwire uninstall --yes
    """
    if triggers_only and yes:
        raise ConfigurationError(["Either the triggers alone (--triggers-only) or everything (--yes)."])
    read = read_database_settings("to remove Guardwire from")
    asyncio.run(_uninstall(read.database_url, triggers_only=triggers_only, yes=yes))


async def _uninstall(database_url: str, *, triggers_only: bool, yes: bool) -> None:
    from queries.migrations import uninstall as steps

    await check_database(database_url)
    found = await steps.installed(database_url)
    if found is None:
        raise UnavailableError("Guardwire is not installed in this database.")
    if triggers_only:
        await steps.remove_triggers(database_url, progress=report_progress)
        _report(found.triggers, _AFTER_TRIGGERS)
    elif yes:
        await steps.remove_everything(database_url, progress=report_progress)
        _report(
            (*found.triggers, f"schema guardwire, {found.tables} tables, {found.size}"), _AFTER_EVERYTHING
        )
    else:
        _list(found)
        raise ConfigurationError(
            ["Nothing was done: --yes removes all of this, --triggers-only the triggers alone."]
        )


def _list(found: Any) -> None:
    for trigger in found.triggers:
        report_progress(f"trigger {trigger}")
    report_progress(f"schema guardwire, {found.tables} tables, {found.size}")


def _report(gone: tuple[str, ...], after: str) -> None:
    for each in gone:
        report_progress(f"removed: {each}")
    for sentence in after.splitlines():
        report_progress(sentence)
