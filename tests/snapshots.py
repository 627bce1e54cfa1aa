"""Snapshots for tests: small states of the real shape."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from realtime.snapshot import Freshness, Snapshot

USER = UUID("6a4a7d1c-0c1d-4f0e-9d5f-0d7d3f4b8a01")
OTHER_USER = UUID("6a4a7d1c-0c1d-4f0e-9d5f-0d7d3f4b8a02")
AS_OF = "2026-01-05T10:00:00.000000Z"
FRESH = Freshness(AS_OF, 3)


def state(*, syncs: int = 1, tickets: tuple[int, ...] = (), equity: float = 10_000.0) -> dict[str, Any]:
    """A state with so many syncs, these open tickets and this equity; the rest does not matter."""
    return {
        "status": {"status": "healthy", "total_syncs": syncs},
        "positions": {
            "total_positions": len(tickets),
            "open": {str(ticket): {"symbol": "XAUUSD", "volume": 0.1} for ticket in tickets},
        },
        "guards": {"system_status": "healthy", "drawdown": {"current_equity": equity}},
        "alerts": {"unacknowledged": 0, "open": {}},
    }


def snapshot(revision: int, *, user_id: UUID = USER, epoch: int = 9, **parts: Any) -> Snapshot:
    """A snapshot of ``state(**parts)`` at this revision."""
    return Snapshot(user_id=user_id, epoch=epoch, revision=revision, as_of=AS_OF, state=state(**parts))
