"""A step of release 0.1.0 that revision 0005 made void: a new database skips it."""

from __future__ import annotations

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing: revision 0005 removes what this one installed."""
