"""Snapshots, and where they are remembered: the only code that knows Redis keys."""
