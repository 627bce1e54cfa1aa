"""`guardwire check-platform`: whether a platform's tables and rows are complete and readable for Guardwire."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from realtime.checks.finding import Report
from realtime.cli.database import open_database, read_database_settings


def check_platform(
    rows: Annotated[
        int, typer.Option(help="Newest rows of the log and of equity to look at.", min=1, max=1_000_000)
    ] = 10_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object in place of text.")] = False,
) -> None:
    """Examine a platform's database, and list everything that is missing or odd.

    Run it before `guardwire migrate`, to see whether your tables can be read,
    and again after some minutes of trading, to see whether your rows can.

    [bold]It looks at[/bold]

    tables, columns and their types, indexes (with the CREATE INDEX CONCURRENTLY
    line for each that is missing), partitions, row level security, casts to json,
    publications; symbols without an instrument, with a statement for each;
    accounts and tickets; event types; clocks; columns that nothing fills, and
    columns that nothing reads; equity, currencies and rates; triggers, rows that
    were ignored and why, and whether rows are applied.

    [bold]It only reads[/bold]

    It runs a few SELECT statements in a read-only session, each for at most
    10 s: on the catalogue, on the newest rows of two tables (--rows), and on
    small tables of schema guardwire. No other session waits for the command.
    It needs a login that may read the five tables: the one that migrates, or
    a member of guardwire_server.

    [bold]It prints[/bold]

    problems, which keep values from being shown or make them wrong, each with
    its remedy; and notes, which may be intended. Exit code 0: no problem.
    1: a problem, or the database is out of reach. docs/integration.md
    describes the purpose of each table and column.

    [bold]Example[/bold]

    DATABASE_URL=postgresql://… guardwire check-platform
    guardwire check-platform --json --rows 100000 | jq '.findings[] | select(.level == "problem")'
    """
    read = read_database_settings("to look at")
    report = asyncio.run(_check(read.database_url, rows))
    sys.stdout.write(f"{report.as_json() if as_json else report.as_text()}\n")
    raise typer.Exit(0 if report.is_clean else 1)


async def _check(database_url: str, most_rows: int) -> Report:
    from realtime.checks.platform import SESSION, check_platform

    connection = await open_database(database_url, session=SESSION)
    try:
        return await check_platform(connection, most_rows=most_rows)
    finally:
        await connection.close()
