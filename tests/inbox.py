"""Applies the inbox in tests that run no node."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

#: SQLSTATE classes of failures that are no row's fault, as in `realtime.feed.applier`.
PASSING_CLASSES = ("40", "53", "55", "57", "58", "08")

# The lock keeps batches of several connections apart, as the lease does for appliers.
_APPLY = """
SELECT b.*
FROM (SELECT a.term, pg_advisory_xact_lock(4711)::text AS lock FROM guardwire.applier AS a OFFSET 0) AS l
CROSS JOIN LATERAL guardwire.{function}(CASE WHEN l.lock IS NOT NULL THEN l.term END, $1) AS b
"""
_APPLY_BATCH = _APPLY.format(function="apply")
_APPLY_SINGLY = _APPLY.format(function="apply_singly")


async def apply_batch(connection: Any, *, batch_rows: int = 1000) -> Any:
    """Apply one batch over ``connection`` (asyncpg's), as the applier does; what it did.

    Rows of a batch that fails are applied one by one. Raises the errors that the applier waits out.
    """
    try:
        return await connection.fetchrow(_APPLY_BATCH, batch_rows)
    except asyncpg.PostgresError as error:
        if (error.sqlstate or "").startswith(PASSING_CLASSES):
            raise
    return await connection.fetchrow(_APPLY_SINGLY, batch_rows)


async def apply_batches(connection: Any, *, batch_rows: int = 1000) -> list[Any]:
    """Apply every row that waits, over ``connection`` (asyncpg's); what each batch did."""
    batches = []
    while (batch := await apply_batch(connection, batch_rows=batch_rows))["applied"]:
        batches.append(batch)
    return batches


async def apply_inbox(connection: Any, *, batch_rows: int = 1000) -> int:
    """Apply every row that waits, over ``connection`` (asyncpg's); the number of rows."""
    return sum(batch["applied"] for batch in await apply_batches(connection, batch_rows=batch_rows))


async def wait_for_empty_inbox(connection: Any, *, timeout_seconds: float = 20.0) -> None:
    """Wait until a running node has applied every row that is visible to ``connection``."""
    async with asyncio.timeout(timeout_seconds):
        while await connection.fetchval("SELECT EXISTS (SELECT FROM guardwire.inbox)"):
            await asyncio.sleep(0.002)
