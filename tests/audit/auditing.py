"""Audits as the tests run them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from queries.channels import LIVE_QUERIES
from realtime.audit.sources import Sources
from realtime.audit.verdict import Verdict, read_evidence


async def shown(connection: Any, user_id: UUID) -> Mapping[str, Any]:
    """The state of an account from the live queries."""
    (found,) = await LIVE_QUERIES.evaluate(connection, [user_id])
    return found.state


async def audited(connection: Any, user_id: UUID, *, most_rows: int = 10_000) -> Verdict:
    """One audit of an account."""
    evidence = await read_evidence(
        connection,
        await Sources.of(connection),
        user_id,
        shown=shown,
        most_rows=most_rows,
        most_rates=10_000,
        timeout_seconds=10,
    )
    return evidence.judge()


async def differences(connection: Any, user_id: UUID, *, most_rows: int = 10_000) -> list[str]:
    """The differences of an account, as lines of text."""
    return [str(each) for each in (await audited(connection, user_id, most_rows=most_rows)).differences]
