"""Applies the inbox in tests that run no node."""

from __future__ import annotations

from typing import Any

_APPLY = "SELECT (guardwire.apply((SELECT term FROM guardwire.applier), $1)).applied"


async def apply_inbox(connection: Any, *, batch_rows: int = 1000) -> int:
    """Apply every row that waits, over ``connection`` (asyncpg's); the number of rows."""
    applied = 0
    while some := await connection.fetchval(_APPLY, batch_rows):
        applied += some
    return applied
