"""The tables of release 0.1.0, beside those that the platform already has."""

from __future__ import annotations

from queries.migrations.script import run_tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates schema guardwire, and the platform's tables that are missing."""
    run_tables("0001_tables.sql", "0001_instruments.sql", "0001_revocations.sql")
