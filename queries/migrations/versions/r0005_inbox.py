"""The inbox: triggers copy the platform's rows, and the applier makes account state of them."""

from __future__ import annotations

from queries.migrations.script import run_tables

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Removes the capture of 0.1.0.

    In the same transaction `queries.migrations.run` installs the functions and triggers of this release, which need
    the tables of later revisions too, and then runs ``0005_waiting_rows.sql``: no row is missed in between.
    """
    run_tables("0005_inbox.sql")
