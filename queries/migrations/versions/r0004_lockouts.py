"""Revocations that cover a time to come, and revocations that were undone."""

from __future__ import annotations

from queries.migrations.script import run_sql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds two columns that may be NULL, so nothing is rewritten and older nodes read on."""
    run_sql("lockouts.sql")
