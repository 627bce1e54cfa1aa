"""Columns about the platform's clock, about positions that it no longer mentions, and about decorated symbols."""

from __future__ import annotations

from queries.migrations.script import run_tables

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds columns without a default, which rewrites no table.

    `queries.migrations.run` runs ``0007_positions.sql``, when the functions of this release are there.
    """
    run_tables("0007_clocks.sql", "0007_aliases.sql")
