"""`guardwire uninstall`: takes Guardwire out of a platform's database."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

import typer

from realtime.cli.account import read_settings_with_database
from realtime.cli.migrate import say
from realtime.cli.reaching import check_database
from realtime.errors import ConfigurationError, UnavailableError

_AFTER_TRIGGERS: Final = """\
clients stay connected, and every account is stale until `guardwire migrate` has run
`guardwire migrate` brings the triggers back, and reads from the log what was missed
a bot that acts on fresh state alone does nothing meanwhile"""
_AFTER_EVERYTHING: Final = """\
nodes that still run send `stale` to their clients, and /readyz answers 503: stop them
the platform's tables are as they were, with their rows
public.equity_snapshots, guard_limits, instruments and fx_rates stay too, also where Guardwire made them
the roles of `migrate --roles` stay, because other databases of this server may use them"""


def uninstall(
    triggers_only: Annotated[
        bool,
        typer.Option("--triggers-only", help="Take out the triggers alone, at once and without a question."),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Take out everything; without it, only say what that is.")
    ] = False,
) -> None:
    """Take Guardwire out of the database at DATABASE_URL.

    [bold]In an emergency[/bold]

    `guardwire uninstall --triggers-only` first replaces the functions of the
    triggers by ones that do nothing. That needs no lock on a table of the
    platform, so it takes effect with the next statement, also while a long
    transaction holds the tables. Then it drops the triggers, in one transaction
    that tries for 0.5 s and pauses for 1 s, up to 300 times; it names the
    sessions that it waits for.

    Every account is stale from the first step on. Nothing is lost: `guardwire
    migrate` brings the triggers back and reads from the log what was missed.

    [bold]For good[/bold]

    Without an option it only lists what there is. With --yes it drops the
    triggers, the functions and schema guardwire. The tables and rows of the
    platform stay, and a later `guardwire migrate` begins anew: save
    guardwire.revocations first if tokens were revoked. Stop the nodes before.

    Both take the login that migrates. The trading platform goes on writing.

    [bold]Example[/bold]

    DATABASE_URL=postgresql://owner:secret@db.example/platform guardwire uninstall --triggers-only
    DATABASE_URL=postgresql://owner:secret@db.example/platform guardwire uninstall --yes
    """
    if triggers_only and yes:
        raise ConfigurationError(["Either the triggers alone (--triggers-only) or everything (--yes)."])
    read = read_settings_with_database("uninstall Guardwire")
    asyncio.run(_uninstall(read.database_url, triggers_only=triggers_only, yes=yes))


async def _uninstall(database_url: str, *, triggers_only: bool, yes: bool) -> None:
    from queries.migrations import uninstall as steps

    await check_database(database_url)
    found = await steps.installed(database_url)
    if found is None:
        raise UnavailableError("Guardwire is not installed in this database.")
    if triggers_only:
        await steps.remove_triggers(database_url, progress=say)
        _report(found.triggers, _AFTER_TRIGGERS)
    elif yes:
        await steps.remove_everything(database_url, progress=say)
        _report(
            (*found.triggers, f"schema guardwire, {found.tables} tables, {found.size}"), _AFTER_EVERYTHING
        )
    else:
        _list(found)
        raise ConfigurationError(
            ["Nothing was done: --yes takes out all of this, --triggers-only the triggers alone."]
        )


def _list(found: Any) -> None:
    for trigger in found.triggers:
        say(f"trigger {trigger}")
    say(f"schema guardwire, {found.tables} tables, {found.size}")


def _report(gone: tuple[str, ...], after: str) -> None:
    for each in gone:
        say(f"gone: {each}")
    for sentence in after.splitlines():
        say(sentence)
