"""The capture: triggers beside the platform's tables, and the functions that they call."""

from __future__ import annotations

from queries.migrations.script import run_sql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

#: In the order in which each needs the ones before it.
SCRIPTS = (
    "readings.sql",
    "rows.sql",
    "accounts.sql",
    "positions.sql",
    "syncs.sql",
    "guards.sql",
    "equity.sql",
    "tell.sql",
    "apply.sql",
    "capture.sql",
    "notes.sql",
    "housekeeping.sql",
    "backfill.sql",
    "triggers.sql",
)


def upgrade() -> None:
    """Installs the triggers last, when all that they call is there."""
    run_sql(*SCRIPTS)
