"""Alembic runs the SQL files of `tables/`: each number is a revision, and no revision has a Python module."""

from __future__ import annotations

from functools import partial
from importlib.resources import files
from types import ModuleType
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationStep, RevisionStep
from alembic.script import Script, ScriptDirectory
from alembic.script.revision import RevisionMap
from sqlalchemy import Connection

from queries.migrations.revisions import REVISIONS
from queries.migrations.script import run_files


def upgrade(connection: Connection) -> None:
    """Runs the revisions that the database lacks, inside the connection's transaction.

    Alembic orders them, and keeps the last one in guardwire.migrations.
    """
    scripts = ScriptDirectory(str(files("queries.migrations")))
    scripts.revision_map = RevisionMap(partial(_scripts, connection))

    def missing(current: Any, _context: object) -> list[RevisionStep]:
        newest_first = list(scripts.iterate_revisions("head", current, implicit_base=True))
        return [
            MigrationStep.upgrade_from_script(scripts.revision_map, script)
            for script in reversed(newest_first)
        ]

    with EnvironmentContext(Config(), scripts, fn=missing) as environment:
        environment.configure(
            connection=connection,
            # The platform may use Alembic too: its version table is in another schema.
            version_table="migrations",
            version_table_schema="guardwire",
        )
        with environment.begin_transaction():
            environment.run_migrations()


def _scripts(connection: Connection) -> list[Script]:
    """The revisions as Alembic knows them: modules that name the revision before, and have a function to run."""
    scripts = []
    for revision, before in zip(REVISIONS, (None, *REVISIONS), strict=False):
        module = ModuleType(revision)
        vars(module).update(down_revision=before, upgrade=partial(run_files, connection, "tables", revision))
        scripts.append(Script(module, revision, f"tables/{revision}"))
    return scripts
