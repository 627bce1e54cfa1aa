"""`guardwire migrate`: the database's shape."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Annotated

import typer

from realtime import settings
from realtime.cli.reaching import check_database
from realtime.errors import ConfigurationError


def migrate(
    notify: Annotated[
        bool | None,
        typer.Option(
            "--notify/--no-notify",
            help="Whether commits send NOTIFY. Without, writers are faster; changes show within 0.25 s.",
            show_default="left as it is, at first on",
        ),
    ] = None,
    roles: Annotated[
        bool,
        typer.Option(
            "--roles",
            help="Also make the roles guardwire_server and guardwire_platform, with no more rights than they"
            " need.",
        ),
    ] = False,
) -> None:
    """Bring the database at DATABASE_URL to the shape that this release reads.

    Adds tables and triggers beside the platform's own, changes none of its
    rows, waits politely for its locks, and does nothing where all is done.
    Safe while the platform writes, and again after an interruption.

    [bold]Example[/bold]

    DATABASE_URL=postgresql://owner:secret@db.example/platform guardwire migrate
    """
    read = settings.read(os.environ)
    if not read.database_url:
        raise ConfigurationError(["DATABASE_URL is not set: it names the database to migrate."])
    asyncio.run(_migrate(read.database_url, notify, roles=roles))
    say("the database is up to date")


async def _migrate(database_url: str, notify: bool | None, *, roles: bool) -> None:
    from queries.migrations.run import migrate as run

    await check_database(database_url)
    await run(database_url, notify=notify, roles=roles, progress=say)


def say(sentence: str) -> None:
    """Report progress where it does not mix with a command's result."""
    print(f"guardwire: {sentence}", file=sys.stderr, flush=True)
