"""Runs the migrations on a database that may be in use, and waits politely for the platform's tables."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.resources import files

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from queries.capture import backfill
from realtime.errors import MigrationError

# A lock that is waited for makes every writer behind it wait too: each try is short, and a pause follows.
LOCK_TIMEOUT_MS = 500
PAUSE_SECONDS = 1.0
ATTEMPTS = 300

_ONE_AT_A_TIME = 0x6755_6172  # key of the advisory lock of whoever migrates
_LOCK_NOT_AVAILABLE = "55P03"


def _silent(message: str) -> None:
    """Default of `progress`: says nothing."""


def driver_url(database_url: str) -> str:
    """The URL for SQLAlchemy's asyncpg driver, from any URL that `psql` takes."""
    return make_url(database_url).set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)


async def migrate(
    database_url: str, *, notify: bool | None = None, progress: Callable[[str], None] = _silent
) -> None:
    """Brings the database to this release's shape; does nothing where it already has it.

    ``notify`` sets whether commits send NOTIFY (None leaves it). The triggers come first; the history that
    was there before is read last, account by account, and may be interrupted. Raises MigrationError with one
    sentence when a table of the platform cannot be used.
    """
    engine = create_async_engine(driver_url(database_url), poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await _prepare(connection)
        await _upgrade_patiently(engine, progress)
        async with engine.begin() as connection:
            if notify is not None:
                await connection.execute(
                    text("UPDATE guardwire.configuration SET notify = :notify"), {"notify": notify}
                )
        await _read_history(database_url, progress)
    finally:
        await engine.dispose()


async def _read_history(database_url: str, progress: Callable[[str], None]) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await backfill(connection, progress=progress)
    finally:
        await connection.close()


async def _prepare(connection: AsyncConnection) -> None:
    async with connection.begin():
        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ONE_AT_A_TIME})
        # Alembic's version table lives there, so the schema comes before the first revision.
        await connection.execute(text("CREATE SCHEMA IF NOT EXISTS guardwire"))


async def _upgrade_patiently(engine: AsyncEngine, progress: Callable[[str], None]) -> None:
    for _ in range(ATTEMPTS):
        try:
            async with engine.connect() as connection:
                await connection.run_sync(_upgrade)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                raise
            progress("waiting for a transaction that holds the platform's tables")
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            return
    raise MigrationError(
        "the platform's tables stayed locked by another transaction: end it and migrate again"
    )


def _upgrade(connection: Connection) -> None:
    connection.execute(text(f"SET lock_timeout = {LOCK_TIMEOUT_MS}"))
    connection.commit()
    config = Config()
    config.set_main_option("script_location", str(files("queries.migrations")))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    connection.commit()
