"""Takes Guardwire out of a platform's database: its triggers alone, or all of it.

The first step needs no lock on the platform's tables: the functions of the triggers are replaced by ones that do
nothing. From that moment on no statement of the platform does any work for Guardwire, even while another transaction
keeps the triggers from being dropped. The same step makes every account stale, because rows are missed from then on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Final, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from queries.migrations import run
from queries.migrations.script import execute_script
from realtime.errors import MigrationError

#: `guardwire migrate` finds that these are not the functions of its release, and replaces them. The row that is set
#: aside is of no table (t): it concerns all accounts, and a migration alone removes it.
_SILENCE: Final = """
CREATE OR REPLACE FUNCTION guardwire.copy_row() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
$$ BEGIN RETURN NULL; END $$;
CREATE OR REPLACE FUNCTION guardwire.note_truncate() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
$$ BEGIN RETURN NULL; END $$;
UPDATE guardwire.code SET digest = '';
INSERT INTO guardwire.set_aside (nth, account, source, operation, xid, arrived_at, sqlstate, reason)
VALUES (0, guardwire.no_account(), 't', 't', pg_current_xact_id(), clock_timestamp(), 'GW002',
        'the triggers were taken out by guardwire uninstall; guardwire migrate brings them back')
ON CONFLICT (nth) DO NOTHING;
"""
# Histories are read anew when the triggers are back: the log has the rows that were missed.
_UNREADY: Final = """
UPDATE guardwire.accounts SET ready = false WHERE ready;
UPDATE guardwire.backfill SET listed = false, done = false, done_at = NULL;
"""
_TRIGGERS: Final = text("""
SELECT t.tgrelid::regclass::text AS "table", quote_ident(t.tgname) AS name
FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid JOIN pg_class AS c ON c.oid = t.tgrelid
WHERE p.pronamespace = to_regnamespace('guardwire') AND c.relnamespace <> p.pronamespace
  AND NOT t.tgisinternal AND t.tgparentid = 0
ORDER BY 1, 2
""")
_IS_THERE: Final = text("SELECT to_regnamespace('guardwire') IS NOT NULL")
_HAS_INBOX: Final = text("SELECT to_regclass('guardwire.inbox') IS NOT NULL")
_SIZES: Final = text("""
SELECT count(*) AS tables, pg_size_pretty(coalesce(sum(pg_total_relation_size(c.oid)), 0)) AS size
FROM pg_class AS c WHERE c.relnamespace = to_regnamespace('guardwire') AND c.relkind = 'r'
""")
# Views and functions of others that would go with the schema.
_DEPENDENTS: Final = text("""
SELECT DISTINCT pg_describe_object(d.classid, d.objid, 0) AS name
FROM (SELECT CASE WHEN d.classid = 'pg_rewrite'::regclass THEN 'pg_class'::regclass ELSE d.classid END AS classid,
             CASE WHEN d.classid = 'pg_rewrite'::regclass
                      THEN (SELECT r.ev_class FROM pg_rewrite AS r WHERE r.oid = d.objid) ELSE d.objid END AS objid,
             d.refclassid, d.refobjid
      FROM pg_depend AS d WHERE d.deptype = 'n') AS d
LEFT JOIN pg_class AS rc ON d.refclassid = 'pg_class'::regclass AND rc.oid = d.refobjid
LEFT JOIN pg_proc AS rp ON d.refclassid = 'pg_proc'::regclass AND rp.oid = d.refobjid
LEFT JOIN pg_type AS rt ON d.refclassid = 'pg_type'::regclass AND rt.oid = d.refobjid
LEFT JOIN pg_class AS c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
LEFT JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
WHERE coalesce(rc.relnamespace, rp.pronamespace, rt.typnamespace) = to_regnamespace('guardwire')
  AND coalesce(c.relnamespace, p.pronamespace) <> to_regnamespace('guardwire')
ORDER BY 1
""")
_STOPPED: Final = (
    "no statement of the platform does any work for Guardwire any more, and every account is stale"
)


class Installed(NamedTuple):
    """The things to remove: ``triggers`` on the platform's tables, and so many ``tables`` of schema guardwire."""

    triggers: tuple[str, ...]
    tables: int
    size: str


async def installed(database_url: str) -> Installed | None:
    """The parts of Guardwire in the database; None when it is not installed."""
    engine = run.open_engine(database_url)
    try:
        async with engine.connect() as connection:
            if not (await connection.execute(_IS_THERE)).scalar_one():
                return None
            sizes = (await connection.execute(_SIZES)).one()
            return Installed(tuple(await _triggers(connection)), sizes.tables, sizes.size)
    finally:
        await engine.dispose()


async def remove_triggers(database_url: str, *, progress: Callable[[str], None]) -> None:
    """Takes the triggers out, and leaves all else for `guardwire migrate` to go on with.

    Raises MigrationError with one sentence when this login may not, or when a table stays locked; the platform's
    statements do no work for Guardwire all the same then.
    """
    await _remove(database_url, (_unready, _drop_triggers), progress, "take the triggers out")


async def remove_everything(database_url: str, *, progress: Callable[[str], None]) -> None:
    """Takes out the triggers, the functions and schema guardwire; the platform's tables and rows stay.

    Raises MigrationError as `remove_triggers` does, and when a view or function outside of the schema uses it.
    """
    engine = run.open_engine(database_url)
    try:
        async with engine.connect() as connection:
            names = [row.name for row in await connection.execute(_DEPENDENTS)]
    finally:
        await engine.dispose()
    if names:
        raise MigrationError(f"drop these first, which use schema guardwire: {', '.join(names)}")
    await _remove(database_url, (_drop_schema,), progress, "uninstall Guardwire")


async def _remove(
    database_url: str,
    steps: Iterable[Callable[[AsyncConnection], Awaitable[None]]],
    progress: Callable[[str], None],
    attempt: str,
) -> None:
    """Silences the triggers at once, and makes each step in a transaction of its own as soon as its locks are free."""
    engine = run.open_engine(database_url, progress)
    try:
        async with engine.connect() as connection:
            if (await connection.execute(_HAS_INBOX)).scalar_one():
                await connection.run_sync(execute_script, _SILENCE)
                await connection.commit()
                progress(_STOPPED)
        for step in steps:
            await run.patiently(engine, partial(_in_time, step), progress)
    except run.DATABASE_ERRORS as error:
        raise run.refusal(error, attempt) from error
    finally:
        await engine.dispose()


async def _in_time(step: Callable[[AsyncConnection], Awaitable[None]], connection: AsyncConnection) -> None:
    """One transaction that waits for a lock so briefly that sessions behind it hardly notice."""
    await connection.execute(text(f"SET lock_timeout = {run.LOCK_TIMEOUT_MS}"))
    await step(connection)
    await connection.commit()


async def _unready(connection: AsyncConnection) -> None:
    if (await connection.execute(_HAS_INBOX)).scalar_one():
        await connection.run_sync(execute_script, _UNREADY)


async def _triggers(connection: AsyncConnection) -> list[str]:
    return [f"{row.name} ON {row.table}" for row in await connection.execute(_TRIGGERS)]


async def _drop_triggers(connection: AsyncConnection) -> None:
    for trigger in await _triggers(connection):
        await connection.execute(text(f"DROP TRIGGER {trigger}"))


async def _drop_schema(connection: AsyncConnection) -> None:
    await _drop_triggers(connection)
    await connection.execute(text("DROP SCHEMA guardwire CASCADE"))
