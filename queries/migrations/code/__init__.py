"""Functions and triggers: replaced as a whole when they differ from those of this release.

All files of this folder are run in one transaction, in the order of their names. A function that runs in the
platform's statements is replaced in place, because a statement that has just been planned would fail without it.
Every other function is dropped first, so that a release may change arguments and results.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from sqlalchemy import Connection, text

from queries.migrations.script import execute_script, list_sql, read_sql

_TRIGGERS: Final = "95_triggers.sql"
_ROLES: Final = "96_roles.sql"
#: The rights of each role, which are given to those that there are.
_RIGHTS: Final = {
    "guardwire_inbox": "97_inbox.sql",
    "guardwire_platform": "98_platform.sql",
    "guardwire_server": "99_server.sql",
}
_TRIGGER: Final = re.compile(r"^CREATE TRIGGER (?P<name>\w+) [^;]*? ON (?P<table>[\w.]+)[^;]*;", re.MULTILINE)

_DIGEST: Final = text("SELECT digest FROM guardwire.code")
_ARE_GONE: Final = text(
    "SELECT to_regproc('guardwire.copy_row') IS NULL OR to_regproc('guardwire.note_truncate') IS NULL"
)
_SET_DIGEST: Final = text("UPDATE guardwire.code SET digest = :digest")
_ROLES_THERE: Final = text("""
SELECT r.rolname::text FROM pg_roles AS r
WHERE r.rolname = ANY (:names) AND (:roles OR r.rolname <> 'guardwire_inbox' OR pg_has_role(r.oid, 'MEMBER'))
""")
_FOUND: Final = text("""
SELECT t.tgenabled::text FROM pg_trigger AS t
WHERE t.tgrelid = to_regclass(:table) AND t.tgname = :name AND NOT t.tgisinternal
""")
_IS_PARTITIONED: Final = text("SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass(:table)")
#: Besides triggers' functions, the functions that the platform's statements call.
IN_PLATFORM_STATEMENTS: Final = (
    "copy_columns", "copy_of", "copy_value", "is_plain_copy", "is_short", "no_account", "read_columns", "read_user",
    "wake_applier", "wakes_applier",
)  # fmt: skip
_DROP_FUNCTIONS: Final = f"""
DO $$
DECLARE
    gone record;
BEGIN
    FOR gone IN SELECT p.oid, p.oid::regprocedure AS name FROM pg_proc AS p
                WHERE p.pronamespace = 'guardwire'::regnamespace
                  AND p.proname <> ALL ('{{{",".join(IN_PLATFORM_STATEMENTS)}}}')
                  AND NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgfoid = p.oid) LOOP
        IF EXISTS (SELECT FROM pg_proc AS p WHERE p.oid = gone.oid) THEN
            EXECUTE format('DROP FUNCTION %s CASCADE', gone.name);
        END IF;
    END LOOP;
END
$$;
"""  # noqa: S608 - constants alone
#: On a partitioned table a row that moves to another partition is deleted and inserted.
_MOVE_TRIGGER: Final = """
CREATE TRIGGER guardwire_move AFTER DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION guardwire.copy_row('{source}');
"""
_MAY_BE_PARTITIONED: Final = {"public.reconciliation_logs": "l", "public.equity_snapshots": "e"}


def digest() -> str:
    """SHA-256 of all files, in hexadecimal."""
    digest = hashlib.sha256()
    for name in list_sql("code"):
        digest.update(read_sql("code", name).encode())
    return digest.hexdigest()


def install_code(connection: Connection, *, roles: bool = False) -> list[str]:
    """Makes functions, triggers and grants those of this release, inside the connection's transaction.

    ``roles`` creates the roles where they are missing; roles that are there get their rights also without. Returns a
    sentence for each trigger that was missing or disabled. The functions are left alone when they are of this release
    already.
    """
    ours = digest()
    # The functions of the triggers belong to a role that may drop what is its own.
    is_new = connection.execute(_DIGEST).scalar_one() != ours or connection.execute(_ARE_GONE).scalar_one()
    if is_new:
        execute_script(connection, _DROP_FUNCTIONS)
        for name in list_sql("code"):
            if name not in (_TRIGGERS, _ROLES, *_RIGHTS.values()):
                execute_script(connection, read_sql("code", name))
    repaired = _repair_triggers(connection)
    if roles:
        execute_script(connection, read_sql("code", _ROLES))
    if roles or is_new:
        _grant_rights(connection, roles=roles)
    connection.execute(_SET_DIGEST, {"digest": ours})
    return repaired


def _grant_rights(connection: Connection, *, roles: bool) -> None:
    """Gives the roles their rights; without ``roles``, guardwire_inbox only where this login is a member of it."""
    there = set(connection.execute(_ROLES_THERE, {"names": list(_RIGHTS), "roles": roles}).scalars())
    for role, name in _RIGHTS.items():
        if role in there:
            execute_script(connection, read_sql("code", name))


def triggers() -> dict[tuple[str, str], str]:
    """The statement that makes each trigger, by its table and name."""
    found = _TRIGGER.finditer(read_sql("code", _TRIGGERS))
    return {(each["table"], each["name"]): each[0] for each in found}


def _repair_triggers(connection: Connection) -> list[str]:
    wanted = triggers()
    for table, source in _MAY_BE_PARTITIONED.items():
        if connection.execute(_IS_PARTITIONED, {"table": table}).scalar():
            wanted[table, "guardwire_move"] = _MOVE_TRIGGER.format(table=table, source=source)
    repaired = []
    for (table, name), statement in wanted.items():
        enabled = connection.execute(_FOUND, {"table": table, "name": name}).scalar()
        if enabled == "A":
            continue
        if enabled is None:
            execute_script(connection, statement)
        execute_script(connection, f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}")
        was = "missing" if enabled is None else "disabled"
        repaired.append(
            f"trigger {name} on {table} was {was}: `guardwire verify` finds the rows that it missed"
        )
    return repaired
