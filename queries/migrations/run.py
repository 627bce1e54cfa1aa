"""Runs the migrations on a database that may be in use, and waits politely for the platform's tables."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncpg
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from queries.capture import backfill, forget_removal, list_accounts
from queries.migrations.code import install_code
from queries.migrations.existing import READ_COLUMNS, check_existing_tables, check_server
from queries.migrations.revisions import REVISIONS
from queries.migrations.script import execute_script, run_files
from queries.migrations.upgrade import upgrade
from queries.search_path import connect_safely
from realtime.errors import MigrationError

# A lock that is waited for makes every writer behind it wait too: each try is short, and a pause follows.
LOCK_TIMEOUT_MS: Final = 500
PAUSE_SECONDS = 1.0
ATTEMPTS = 300
_PROGRESS_SECONDS: Final = 2.0
#: A pooler would hand time limits and locks of this session to another one.
_SESSION: Final = {"application_name": "guardwire migrate"}

# The mode conflicts with itself, but not with reading or writing this table. An advisory lock would serve as well,
# but any login that may connect could hold that.
_ONE_AT_A_TIME: Final = "LOCK TABLE guardwire.migrations IN SHARE UPDATE EXCLUSIVE MODE"
# Alembic's own version table, as it would make it.
_VERSION_TABLE: Final = """
CREATE SCHEMA IF NOT EXISTS guardwire;
CREATE TABLE IF NOT EXISTS guardwire.migrations (
    version_num varchar(32) NOT NULL, CONSTRAINT migrations_pkc PRIMARY KEY (version_num)
)
"""
_UNIQUE_VIOLATION: Final = "23505"
_DUPLICATE_SCHEMA: Final = "42P06"
_DUPLICATE_TABLE: Final = "42P07"
_LOCK_NOT_AVAILABLE: Final = "55P03"
#: Another migration is at it: what it holds, or makes at this moment, is there to be used a little later.
_WAIT_FOR: Final = frozenset({_LOCK_NOT_AVAILABLE, _UNIQUE_VIOLATION, _DUPLICATE_SCHEMA, _DUPLICATE_TABLE})
_INSUFFICIENT_PRIVILEGE: Final = "42501"
_MAKE_ROLES: Final = (
    "; have a login that may make roles run: CREATE ROLE guardwire_inbox; CREATE ROLE guardwire_server; "
    "CREATE ROLE guardwire_platform; GRANT guardwire_inbox TO the login that migrates"
)
# Statements are SQLAlchemy's, whole scripts the driver's own.
DATABASE_ERRORS: Final = (DBAPIError, asyncpg.PostgresError)

_HOLDERS = text("""
SELECT DISTINCT c.relname AS "table", a.pid, a.state, a.application_name AS name
FROM pg_locks AS l
JOIN pg_class AS c ON c.oid = l.relation
JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE c.relnamespace = 'public'::regnamespace AND c.relname = ANY (:tables)
  AND l.granted AND l.mode NOT IN ('AccessShareLock', 'RowShareLock') AND a.pid <> pg_backend_pid()
""")

_REVISION = text("SELECT version_num FROM guardwire.migrations")
_FIRST_INBOX: Final = "0005"
_LOST_PEAKS: Final = (
    "SELECT user_id FROM guardwire.accounts WHERE carried_peak IS NOT NULL AND ready ORDER BY user_id"
)
_SURROUNDINGS = text("SELECT sentence FROM guardwire.check_surroundings() AS sentence")
_CONFIGURE_NOTIFY = text("UPDATE guardwire.configuration SET notify = :notify WHERE notify <> :notify")

_PUBLIC_MAY_MAKE_TEMPORARY = text("""
SELECT EXISTS (SELECT FROM pg_database AS d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS a
               WHERE d.datname = current_database() AND a.grantee = 0 AND a.privilege_type = 'TEMPORARY')
""")
_MAY_REVOKE = text("""
SELECT pg_has_role(d.datdba, 'USAGE') FROM pg_database AS d WHERE d.datname = current_database()
""")
_REVOKE_TEMPORARY = text("""
DO $$ BEGIN EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database()); END $$
""")
_TEMPORARY_SAID: Final = {
    "was so": "temporary tables: only logins that were granted TEMPORARY may make them",
    "done": "temporary tables: PUBLIC may not make them any more;"
    " a login that needs some takes GRANT TEMPORARY ON DATABASE … TO it",
    "refused": "temporary tables: PUBLIC may still make them, because only the database's owner may change that:"
    " REVOKE TEMPORARY ON DATABASE … FROM PUBLIC",
}

_ROTATE_CHANNEL = text("UPDATE guardwire.configuration SET delta_channel = DEFAULT, delta_secret = DEFAULT")


def _silent(message: str) -> None:
    """Default of `progress`: says nothing."""


def _now_and_then(progress: Callable[[str], None]) -> Callable[[str], None]:
    """``progress``, at most every 2 s: a platform may have thousands of accounts."""
    told_at = time.monotonic()

    def tell(message: str) -> None:
        nonlocal told_at
        if time.monotonic() - told_at > _PROGRESS_SECONDS:
            told_at = time.monotonic()
            progress(message)

    return tell


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
    """Brings the database to this release's shape; does nothing when the database has that shape already.

    ``notify`` sets whether rows of the platform wake the applier by NOTIFY (None leaves the setting); ``roles`` adds
    the roles of `code/96_roles.sql`. The triggers come first. The history that was there before is read last,
    account by account; that may be interrupted, or left to a later `queries.capture.backfill`
    (``read_history=False``). Raises MigrationError with one sentence when a table of the platform cannot be used.
    """
    engine = open_engine(database_url, progress)
    try:
        await patiently(engine, lambda connection: _upgrade_once(connection, progress, roles=roles), progress)
        async with engine.begin() as connection:
            if notify is not None:
                await connection.execute(_CONFIGURE_NOTIFY, {"notify": notify})
            if roles:
                progress(_TEMPORARY_SAID[await _revoke_temporary(connection)])
    except DATABASE_ERRORS as error:
        raise refusal(error, "migrate") from error
    finally:
        await engine.dispose()
    await _read_history(database_url, progress, every_account=read_history)


def open_engine(database_url: str, progress: Callable[[str], None] = _silent) -> AsyncEngine:
    """An engine without a pool, whose connections report the server's warnings to ``progress``."""

    def report(_connection: object, message: Any) -> None:
        if message.severity_en == "WARNING":
            progress(message.message)

    async def connect() -> asyncpg.Connection[Any]:
        connection = await connect_safely(database_url, settings=_SESSION)
        connection.add_log_listener(report)
        return connection

    return create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)


def refusal(error: Exception, attempt: str) -> Exception:
    """The error to raise in place of ``error``: one sentence where this login lacks a right."""
    if _sqlstate(error) == _INSUFFICIENT_PRIVILEGE:
        cause = str(getattr(error, "orig", error)).partition("\n")[0]
        mend = _MAKE_ROLES if "create role" in cause else ""
        return MigrationError(f"this login may not {attempt}: {cause}{mend}")
    return error


async def rotate_channel(database_url: str) -> None:
    """Give the channel that commits send what they changed on another name, and its items another secret.

    Nodes notice at their next canary, within some seconds; until then their sweeps find what changes. Raises
    MigrationError where this login may not.
    """
    engine = open_engine(database_url)
    try:
        async with engine.begin() as connection:
            await connection.execute(_ROTATE_CHANNEL)
    except DATABASE_ERRORS as error:
        raise refusal(error, "rotate the channel") from error
    finally:
        await engine.dispose()


async def _read_history(database_url: str, progress: Callable[[str], None], *, every_account: bool) -> None:
    connection = await connect_safely(database_url, settings=_SESSION)
    try:
        await list_accounts(connection)
        await forget_removal(connection)
        if every_account:
            await backfill(connection, progress=_now_and_then(progress))
        for lost in await connection.fetch(_LOST_PEAKS):
            progress(
                f"account {lost['user_id']}: its peak is that of the rows on record, because the peak's row and cash"
                " flows after it were removed before the upgrade. Put these rows back and run"
                f" `guardwire rebuild --user {lost['user_id']}`, or run `guardwire peak reset --user {lost['user_id']}`"
            )
    finally:
        await connection.close()


async def _revoke_temporary(connection: AsyncConnection) -> str:
    """Take the right to make temporary objects from PUBLIC; whether that was done, was so, or may not be done.

    Nothing that runs as the owner looks names up among temporary objects first: this is the second wall.
    """
    if not (await connection.execute(_PUBLIC_MAY_MAKE_TEMPORARY)).scalar_one():
        return "was so"
    if (await connection.execute(_MAY_REVOKE)).scalar_one():
        await connection.execute(_REVOKE_TEMPORARY)
    return "refused" if (await connection.execute(_PUBLIC_MAY_MAKE_TEMPORARY)).scalar_one() else "done"


async def patiently(
    engine: AsyncEngine,
    attempt: Callable[[AsyncConnection], Awaitable[None]],
    progress: Callable[[str], None],
) -> None:
    """Makes ``attempt`` again and again, each time on a new connection, until it gets its locks.

    Raises MigrationError when another transaction keeps them for too long.
    """
    for _ in range(ATTEMPTS):
        async with engine.connect() as connection:
            try:
                await attempt(connection)
            except DATABASE_ERRORS as error:
                if _sqlstate(error) not in _WAIT_FOR:
                    raise
                await connection.rollback()
                progress(await _who_holds(connection))
            else:
                return
        await asyncio.sleep(PAUSE_SECONDS)
    raise MigrationError(
        "the platform's tables stayed locked by another transaction: end it and run this again"
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


async def _upgrade_once(connection: AsyncConnection, progress: Callable[[str], None], *, roles: bool) -> None:
    """One try, in one transaction: tables, functions and triggers change together or not at all."""
    await connection.execute(text(f"SET lock_timeout = {LOCK_TIMEOUT_MS}"))
    await check_server(connection)
    if not await _is_migrated(connection):
        for advice in await check_existing_tables(connection):
            progress(advice)
        # The lock is on this table, so it comes before the first revision.
        await connection.run_sync(execute_script, _VERSION_TABLE)
    await connection.commit()
    await connection.execute(text(_ONE_AT_A_TIME))
    before = (await connection.execute(_REVISION)).scalar_one_or_none() or ""
    if before > REVISIONS[-1]:
        raise MigrationError(
            f"the database is of a newer release: its revision is {before}, and this release knows {REVISIONS[-1]}"
        )
    await connection.run_sync(upgrade)
    repaired = await connection.run_sync(lambda sync: install_code(sync, roles=roles))
    # Before its first inbox a database has none of these triggers.
    for sentence in repaired if before >= _FIRST_INBOX else ():
        progress(sentence)
    for revision in REVISIONS:
        if before < revision:
            await connection.run_sync(run_files, "after_code", revision)
    if problems := (await connection.execute(_SURROUNDINGS)).scalars().all():
        await connection.rollback()
        raise MigrationError("; ".join(problems))
    await connection.commit()


async def _is_migrated(connection: AsyncConnection) -> bool:
    found = await connection.execute(text("SELECT to_regclass('guardwire.accounts') IS NOT NULL"))
    return bool(found.scalar_one())
