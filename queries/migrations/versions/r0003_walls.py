"""Walls against logins of the database: names that no writer redirects, and lists that no writer forges."""

from __future__ import annotations

from alembic import op

from queries.migrations.script import replace_functions, run_sql
from queries.migrations.triggers import mend_triggers
from queries.migrations.versions.r0002_capture import SCRIPTS

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Replaces every function of a capture that an earlier release installed."""
    run_sql("walls.sql")
    replace_functions(*SCRIPTS)
    mend_triggers(op.get_bind())
