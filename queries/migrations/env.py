"""Alembic's entry: runs the revisions on the connection that `run.migrate` opened."""

from __future__ import annotations

from alembic import context

from queries.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    # Beside the platform's own Alembic, if it has one: its version table is in another schema.
    version_table="migrations",
    version_table_schema="guardwire",
    # One transaction a revision, so that a wait for the platform's table repeats that revision alone.
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
