"""SQL scripts of the migrations: whole files with many statements and function bodies."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any, Final, cast

from alembic import op
from sqlalchemy import Connection, text

#: A function with its body, which is either quoted with dollars or one expression of standard SQL.
_FUNCTION: Final = re.compile(
    r"^CREATE (FUNCTION guardwire\.[^;]*?(?:\$\$.*?\$\$|AS '[^']*'|\nRETURN\b[^;]*);)$",
    re.DOTALL | re.MULTILINE,
)

#: What it returns is the operator's choice and not this release's.
_CONFIGURED: Final = "FUNCTION guardwire.notifies()"


def read_sql(name: str) -> str:
    """The text of one file of `queries/migrations/sql`."""
    return files("queries.migrations").joinpath("sql", name).read_text(encoding="utf-8")


def execute_script(connection: Connection, script: str) -> None:
    """Runs a script of many statements inside the connection's transaction.

    Through the driver itself: SQLAlchemy prepares what it executes, and that can be one statement only.
    """
    connection.execute(
        text("SELECT 1")
    )  # makes SQLAlchemy begin the transaction, which it does with the first statement
    driver = cast("Any", connection.connection.dbapi_connection)
    driver.run_async(lambda asyncpg_connection: asyncpg_connection.execute(script))


def run_sql(*names: str) -> None:
    """Runs these files of `queries/migrations/sql`, from within a revision."""
    for name in names:
        execute_script(op.get_bind(), read_sql(name))


def replace_functions(*names: str) -> None:
    """Makes every function of these files anew, whether it is there or not; from within a revision.

    A function keeps its rights. One whose arguments or result have changed must have been dropped before.
    """
    for name in names:
        for function in _FUNCTION.finditer(read_sql(name)):
            if not function[1].startswith(_CONFIGURED):
                execute_script(op.get_bind(), f"CREATE OR REPLACE {function[1]}")
