"""The one judge of the state that every bot must hold in the end: a plain reduction of the raw log, in commit order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from realtime.audit.state import Oracle
from tests.end_to_end.agreement import disagreements
from tests.end_to_end.recorded import known_instruments, recorded_history

__all__ = ["differences", "known_instruments"]


async def differences(
    connection: Any, instruments: Sequence[Any], user_id: UUID, shown: dict[str, Any], *, since: datetime
) -> list[str]:
    """The differences between the state that a bot shows of ``user_id`` and the raw log."""
    history = await recorded_history(connection, user_id)
    return disagreements(Oracle(user_id, instruments).state(history), shown, since=since)
