"""From PostgreSQL to snapshots: what changed, and what it is now."""
