"""Alembic's entry: runs the revisions on the connection that `run.migrate` opened."""

from __future__ import annotations

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    # Beside the platform's own Alembic, if it has one: its version table is in another schema.
    version_table="migrations",
    version_table_schema="guardwire",
)
with context.begin_transaction():
    context.run_migrations()
