"""SQL scripts of the migrations: whole files with many statements and function bodies."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, cast

from alembic import op
from sqlalchemy import Connection, text


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
