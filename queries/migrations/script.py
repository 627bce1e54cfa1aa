"""SQL files of the migrations.

``tables/NNNN_*.sql`` change tables: Alembic runs each of them once in a database's life, and a released file is
never edited. ``code/NN_*.sql`` hold functions and triggers: see `queries.migrations.code`.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any, cast

from alembic import op
from sqlalchemy import Connection, text


def read_sql(folder: str, name: str) -> str:
    """The text of one file of `queries/migrations`."""
    return files("queries.migrations").joinpath(folder, name).read_text(encoding="utf-8")


def execute_script(connection: Connection, script: str) -> None:
    """Runs a script of many statements inside the connection's transaction.

    SQLAlchemy prepares what it executes, and only a single statement can be prepared; so the script goes through
    the driver itself.
    """
    # SQLAlchemy begins a transaction with its first statement.
    connection.execute(text("SELECT 1"))
    driver = cast("Any", connection.connection.dbapi_connection)
    driver.run_async(lambda asyncpg_connection: asyncpg_connection.execute(script))


def run_tables(*names: str) -> None:
    """Runs these files of `queries/migrations/tables`, from within a revision."""
    for name in names:
        execute_script(op.get_bind(), read_sql("tables", name))
