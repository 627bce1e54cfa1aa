"""The second wall between accounts: what every layer does that finds itself with another account's data.

No layer trusts the one before it. Rows say whose they are when they come from the database, stored snapshots
and steps when they come from Redis, snapshots in memory until a frame is made; each hand-over compares, and
what does not match goes no further.
"""

from __future__ import annotations

import logging
from uuid import UUID

from realtime.metrics import METRICS

log = logging.getLogger(__name__)


class WrongOwner(Exception):
    """Data of another account came near a client; it was counted, logged and not sent."""

    def __init__(self, layer: str) -> None:
        super().__init__(f"another account's data was stopped: {layer}")


def is_same(one: UUID, other: UUID) -> bool:
    """Whether these name one account; mostly they are one object, and comparing two is slow."""
    return one is other or one == other


def blocked(layer: str, user_id: UUID) -> WrongOwner:
    """Count and log that another account's data was stopped on its way to ``user_id``; gives what to raise.

    Nothing of the data is logged, and not whose it is either: the log is not a way around the wall.
    """
    METRICS.cross_user_blocked.add()
    log.critical("another account's data was stopped", extra={"layer": layer, "user": str(user_id)})
    return WrongOwner(layer)
