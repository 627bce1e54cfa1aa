"""Comments on the columns that the platform writes, and a closer vacuum of the arrivals."""

from __future__ import annotations

from queries.migrations.script import run_tables

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Changes no row, and takes no lock that a writer of the platform waits for."""
    run_tables("0006_comments.sql", "0006_arrivals.sql")
