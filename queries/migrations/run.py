"""Runs the migrations on a database that may be in use, and waits politely for the platform's tables."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.resources import files
from typing import Any, Final

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from queries.capture import backfill, list_accounts
from queries.migrations.existing import READ_COLUMNS, check_existing_tables
from queries.migrations.script import execute_script, read_sql
from queries.migrations.triggers import mend_triggers
from realtime.errors import MigrationError

# A lock that is waited for makes every writer behind it wait too: each try is short, and a pause follows.
LOCK_TIMEOUT_MS: Final = 500
PAUSE_SECONDS = 1.0
ATTEMPTS = 300

_ONE_AT_A_TIME: Final = 0x6755_6172  # key of the advisory lock of whoever migrates
_LOCK_NOT_AVAILABLE: Final = "55P03"
_INSUFFICIENT_PRIVILEGE: Final = "42501"
# Statements are SQLAlchemy's, whole scripts the driver's own.
_DATABASE_ERRORS: Final = (DBAPIError, asyncpg.PostgresError)

_HOLDERS = text("""
SELECT DISTINCT c.relname AS "table", a.pid, a.state, a.application_name AS name
FROM pg_locks AS l
JOIN pg_class AS c ON c.oid = l.relation
JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE c.relnamespace = 'public'::regnamespace AND c.relname = ANY (:tables)
  AND l.granted AND l.mode NOT IN ('AccessShareLock', 'RowShareLock') AND a.pid <> pg_backend_pid()
""")

_CONFIGURE_NOTIFY = text("UPDATE guardwire.configuration SET notify = :notify WHERE notify <> :notify")


def _silent(message: str) -> None:
    """Default of `progress`: says nothing."""


def driver_url(database_url: str) -> str:
    """The URL for SQLAlchemy's asyncpg driver, from any URL that `psql` takes."""
    return make_url(database_url).set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)


async def migrate(
    database_url: str,
    *,
    notify: bool | None = None,
    roles: bool = False,
    read_history: bool = True,
    progress: Callable[[str], None] = _silent,
) -> None:
    """Brings the database to this release's shape; does nothing where it already has it.

    ``notify`` sets whether commits send NOTIFY (None leaves it); ``roles`` adds the roles of `sql/roles.sql`.
    The triggers come first; the history that was there before is read last, account by account, and may be
    interrupted, or left to a later `queries.capture.backfill` (``read_history=False``). Raises MigrationError
    with one sentence when a table of the platform cannot be used.
    """

    async def connect() -> asyncpg.Connection[Any]:
        return await asyncpg.connect(database_url)

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    try:
        await _upgrade_patiently(engine, progress)
        async with engine.begin() as connection:
            await _configure(connection, notify=notify, roles=roles)
    except _DATABASE_ERRORS as error:
        if _sqlstate(error) == _INSUFFICIENT_PRIVILEGE:
            raise MigrationError(f"this login may not migrate: {getattr(error, 'orig', error)}") from error
        raise
    finally:
        await engine.dispose()
    await _read_history(database_url, progress, every_account=read_history)


async def _read_history(database_url: str, progress: Callable[[str], None], *, every_account: bool) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await (backfill(connection, progress=progress) if every_account else list_accounts(connection))
    finally:
        await connection.close()


async def _configure(connection: AsyncConnection, *, notify: bool | None, roles: bool) -> None:
    if notify is not None:
        await connection.execute(_CONFIGURE_NOTIFY, {"notify": notify})
    if roles:
        await connection.run_sync(execute_script, read_sql("roles.sql"))


async def _upgrade_patiently(engine: AsyncEngine, progress: Callable[[str], None]) -> None:
    for _ in range(ATTEMPTS):
        async with engine.connect() as connection:
            try:
                await _upgrade_once(connection, progress)
            except _DATABASE_ERRORS as error:
                if _sqlstate(error) != _LOCK_NOT_AVAILABLE:
                    raise
                await connection.rollback()
                progress(await _who_holds(connection))
            else:
                return
        await asyncio.sleep(PAUSE_SECONDS)
    raise MigrationError(
        "the platform's tables stayed locked by another transaction: end it and migrate again"
    )


def _sqlstate(error: Exception) -> str | None:
    sqlstate: str | None = getattr(getattr(error, "orig", error), "sqlstate", None)
    return sqlstate


async def _who_holds(connection: AsyncConnection) -> str:
    holders = (await connection.execute(_HOLDERS, {"tables": list(READ_COLUMNS)})).all()
    named = ", ".join(
        f"process {each.pid} ({each.name or 'unnamed'}, {each.state}) holds {each.table}" for each in holders
    )
    return f"waiting for the platform's tables: {named or 'their lock was not to be had in time'}"


async def _upgrade_once(connection: AsyncConnection, progress: Callable[[str], None]) -> None:
    await connection.execute(text(f"SET lock_timeout = {LOCK_TIMEOUT_MS}"))
    # Held by the session, through all the transactions of the revisions.
    await connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ONE_AT_A_TIME})
    await connection.commit()
    if not await _is_migrated(connection):
        for advice in await check_existing_tables(connection):
            progress(advice)
        # Alembic's version table lives there, so the schema comes before the first revision.
        await connection.execute(text("CREATE SCHEMA IF NOT EXISTS guardwire"))
    await connection.commit()
    await connection.run_sync(_upgrade)
    for mended in await connection.run_sync(mend_triggers):
        progress(mended)
    await connection.commit()


async def _is_migrated(connection: AsyncConnection) -> bool:
    found = await connection.execute(text("SELECT to_regclass('guardwire.accounts') IS NOT NULL"))
    return bool(found.scalar_one())


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(files("queries.migrations")))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    connection.commit()
