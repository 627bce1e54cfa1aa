"""Equity as a fold: doubted rows, the peak in money of today, the cash flows that scaled it, and overdue equity."""

from __future__ import annotations

from queries.migrations.script import run_tables

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Rewrites no table. Every account waits for its history, which `guardwire migrate` reads next."""
    run_tables("0008_equity.sql")
