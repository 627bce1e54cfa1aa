"""Comments on the columns that the platform writes."""

from __future__ import annotations

from queries.migrations.script import run_tables

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds comments where there are none; changes no table and no row, and holds no lock that a writer waits for."""
    run_tables("0006_comments.sql")
