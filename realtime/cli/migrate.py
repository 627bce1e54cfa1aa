"""`guardwire migrate` and `guardwire rotate-channel`: the objects and the secrets in the database."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from realtime.cli.database import check_database, open_database, read_database_settings
from realtime.cli.process import report_progress


def migrate(
    notify: Annotated[
        bool | None,
        typer.Option(
            "--notify/--no-notify",
            help="Whether the platform's commits wake the applier by NOTIFY. Without it the applier polls:"
            " many writers commit faster, and changes arrive up to 0.05 s later.",
            show_default="unchanged, at first on",
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
    """Install or upgrade Guardwire in the database at DATABASE_URL.

    The migration adds tables and triggers beside the platform's own, and
    changes none of the platform's rows. It gives up a lock that it does not
    get soon, and tries again. A database that is up to date stays as it is.
    The command is safe while the platform writes, and can be interrupted and
    run again.

    With --estimate it measures the trigger on a temporary copy of the newest
    rows, in a transaction that is rolled back. It prints the objects, the
    locks and the reads of a migration, and the cost of each later row.

    [bold]Example[/bold]

    DATABASE_URL=postgresql://owner:secret@db.example/platform guardwire migrate --estimate
    DATABASE_URL=postgresql://owner:secret@db.example/platform guardwire migrate
    """
    read = read_database_settings("to migrate")
    if estimate:
        for sentence in asyncio.run(_estimate(read.database_url)):
            print(sentence)
        return
    asyncio.run(_migrate(read.database_url, notify, roles=roles))
    report_progress("the database is up to date")


def rotate_channel() -> None:
    """Replace the secrets by which nodes recognise the applier's deltas.

    The applier sends deltas as notifications on a channel with a secret name,
    and each notification carries a code that is made with a second secret. Both
    are random, and stand in guardwire.configuration. Run this command when
    somebody may have learnt them: from a login that listened, from a lost
    dump, or from a node that was taken over and has lost its role since.

    Needs the login that migrates. Writers and nodes go on. A node notices the
    new secrets at its next canary, within about seven seconds, and until then
    it finds changes by its sweep.

    [bold]Example[/bold]

    DATABASE_URL=postgresql://owner:secret@db.example/platform guardwire rotate-channel
    """
    read = read_database_settings("to rotate the channel of")
    asyncio.run(_rotate_channel(read.database_url))
    report_progress("the channel has a new name and its notifications a new secret")


async def _estimate(database_url: str) -> list[str]:
    from queries.migrations.estimate import SESSION, estimate

    connection = await open_database(database_url, session=SESSION)
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
    await run(database_url, notify=notify, roles=roles, progress=report_progress)
