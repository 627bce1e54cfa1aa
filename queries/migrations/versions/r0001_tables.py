"""The tables, beside those that the platform already has."""

from __future__ import annotations

from queries.migrations.script import run_sql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes schema guardwire and whatever of the platform's tables is missing."""
    run_sql("tables.sql", "instruments.sql", "revocations.sql")
