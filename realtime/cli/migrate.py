"""`guardwire migrate`: the database's shape."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
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
    asyncio.run(_migrate(read.database_url, notify))
    say("the database is up to date")


async def _migrate(database_url: str, notify: bool | None) -> None:
    await check_database(database_url)
    await bring_up_to_date(database_url, notify=notify, progress=say)


async def bring_up_to_date(
    database_url: str, *, notify: bool | None = None, progress: Callable[[str], None]
) -> None:
    """Migrate, then read the history that was there before; until then its accounts are `unknown`."""
    import asyncpg

    from queries.capture import backfill
    from queries.migrations.run import migrate as run

    await run(database_url, notify=notify, progress=progress)
    connection = await asyncpg.connect(database_url)
    try:
        await backfill(connection, progress=progress)
    finally:
        await connection.close()


def say(sentence: str) -> None:
    """Report progress where it does not mix with a command's result."""
    print(f"guardwire: {sentence}", file=sys.stderr, flush=True)
