"""SQL files of the migrations.

``tables/NNNN_*.sql`` change tables: Alembic runs each of them once in a database's life, and a released file is
never edited. ``code/NN_*.sql`` hold functions and triggers: see `queries.migrations.code`. ``after_code/NNNN_*.sql``
are run once as well, when the functions of this release are there.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any, cast

from sqlalchemy import Connection, text


def list_sql(folder: str) -> list[str]:
    """The names of the SQL files of a folder of `queries/migrations`, in the order in which they are run."""
    names = (each.name for each in files("queries.migrations").joinpath(folder).iterdir())
    return sorted(name for name in names if name.endswith(".sql"))


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


def run_files(connection: Connection, folder: str, revision: str) -> None:
    """Runs the files of a folder whose names begin with the number of the revision."""
    for name in list_sql(folder):
        if name.startswith(revision):
            execute_script(connection, read_sql(folder, name))
