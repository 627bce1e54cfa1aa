"""Puts triggers of the capture right that somebody has dropped or disabled."""

from __future__ import annotations

import re
from typing import Final

from sqlalchemy import Connection, text

from queries.migrations.script import execute_script, read_sql

_STATEMENT: Final = re.compile(
    r"CREATE (?:CONSTRAINT )?TRIGGER (?P<name>\w+) (?:AFTER|BEFORE)[^;]*? ON (?P<table>[\w.]+)[^;]*;",
    re.DOTALL,
)
_FOUND: Final = text("""
SELECT t.tgenabled::text FROM pg_trigger AS t
WHERE t.tgrelid = to_regclass(:table) AND t.tgname = :name AND NOT t.tgisinternal
""")
#: Always, and in every session that does not replicate.
_ENABLED: Final = ("O", "A")


def mend_triggers(connection: Connection) -> list[str]:
    """Make every trigger that is missing and enable every one that is disabled; a sentence for each.

    What was written meanwhile is not applied: `guardwire rebuild` does that.
    """
    mended = []
    for script in ("capture.sql", "triggers.sql"):
        for statement in _STATEMENT.finditer(read_sql(script)):
            name, table = statement["name"], statement["table"]
            enabled = connection.execute(_FOUND, {"table": table, "name": name}).scalar()
            if enabled in _ENABLED:
                continue
            if enabled is None:
                execute_script(connection, statement[0])
            else:
                execute_script(connection, f"ALTER TABLE {table} ENABLE TRIGGER {name}")
            was = "missing" if enabled is None else "disabled"
            mended.append(f"trigger {name} on {table} was {was}: `guardwire verify` tells what was missed")
    return mended
