"""`guardwire migrate` and `guardwire rotate-channel`: the database's shape, and its secrets."""

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
            help="Whether the platform's commits wake the applier by NOTIFY. Without, the applier polls:"
            " many writers commit faster, and changes show up to 0.05 s later.",
            show_default="left as it is, at first on",
        ),
    ] = None,
    roles: Annotated[
        bool,
        typer.Option(
            "--roles",
            help="Also make the roles guardwire_inbox, guardwire_server and guardwire_platform, with no more"
            " rights than they need, and revoke TEMPORARY on the database from PUBLIC.",
        ),
    ] = False,
    estimate: Annotated[
        bool,
        typer.Option(
            "--estimate", help="Only print what the migration would lock, read and cost; install nothing."
        ),
    ] = False,
) -> None:
    """Bring the database at DATABASE_URL to the shape that this release reads.

    Adds tables and triggers beside the platform's own, changes none of its
    rows, waits politely for its locks, and does nothing where all is done.
    Safe while the platform writes, and again after an interruption.

    With --estimate it measures the trigger on a temporary copy of the newest
    rows, in a transaction that is rolled back, and prints what a migration
    makes, locks and reads, and what it costs each row from then on.

    [bold]Example[/bold]

    DATABASE_URL=postgresql://owner:secret@db.example/platform guardwire migrate --estimate
    DATABASE_URL=postgresql://owner:secret@db.example/platform guardwire migrate
    """
    read = settings.read(os.environ)
    if not read.database_url:
        raise ConfigurationError(["DATABASE_URL is not set: it names the database to migrate."])
    if estimate:
        for sentence in asyncio.run(_estimate(read.database_url)):
            print(sentence)
        return
    asyncio.run(_migrate(read.database_url, notify, roles=roles))
    say("the database is up to date")


def rotate_channel() -> None:
    """Replace the secrets by which nodes recognise the applier's deltas.

    The applier sends deltas as notifications on a channel with a secret name,
    and each notification carries a code that is made with a second secret. Both
    are random, and in guardwire.configuration. Run this when somebody may have
    learnt them: a login that listened, a dump in the wrong hands, a taken-over
    node whose role was since withdrawn.

    Takes the login that migrates. Writers and nodes go on: a node notices at
    its next canary, within about seven seconds, and finds changes by its sweep
    until then.

    [bold]Example[/bold]

    DATABASE_URL=postgresql://owner:secret@db.example/platform guardwire rotate-channel
    """
    read = settings.read(os.environ)
    if not read.database_url:
        raise ConfigurationError(["DATABASE_URL is not set: it names the database whose channel to rotate."])
    asyncio.run(_rotate_channel(read.database_url))
    say("the channel has another name and its notifications another secret")


async def _estimate(database_url: str) -> list[str]:
    import asyncpg

    from queries.migrations.estimate import SESSION, estimate

    await check_database(database_url)
    connection = await asyncpg.connect(database_url, server_settings=SESSION)
    try:
        if await connection.fetchval("SELECT to_regclass('guardwire.accounts') IS NOT NULL"):
            return [
                "Guardwire is installed in this database: `guardwire migrate` upgrades it in one transaction"
            ]
        return list((await estimate(connection)).sentences())
    finally:
        await connection.close()


async def _rotate_channel(database_url: str) -> None:
    from queries.migrations.run import rotate_channel as rotate

    await check_database(database_url)
    await rotate(database_url)


async def _migrate(database_url: str, notify: bool | None, *, roles: bool) -> None:
    from queries.migrations.run import migrate as run

    await check_database(database_url)
    await run(database_url, notify=notify, roles=roles, progress=say)


def say(sentence: str) -> None:
    """Report progress where it does not mix with a command's result."""
    print(f"guardwire: {sentence}", file=sys.stderr, flush=True)
