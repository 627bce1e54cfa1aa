"""The inbox: triggers copy the platform's rows, and the applier makes account state of them."""

from __future__ import annotations

from alembic import op

from queries.migrations.code import install_code
from queries.migrations.script import run_tables

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Replaces the capture of 0.1.0 in one transaction, so that no row is missed in between."""
    run_tables("0005_inbox.sql")
    install_code(op.get_bind())
    run_tables("0005_waiting_rows.sql")
