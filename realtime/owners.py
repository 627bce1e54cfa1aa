"""The second wall between accounts: every layer compares the owner of data before it passes the data on.

No layer trusts the one before it. Rows of the database, snapshots and steps in Redis, and snapshots in memory name
their owner. Each layer compares this owner with the account that it serves, and stops data of another account.
"""

from __future__ import annotations

import logging
from uuid import UUID

from realtime.metrics import METRICS

log = logging.getLogger(__name__)


class WrongOwner(Exception):
    """A layer met data of another account; the event was counted and logged, and the data was not sent."""

    def __init__(self, layer: str) -> None:
        super().__init__(f"another account's data was stopped: {layer}")


def is_same(one: UUID, other: UUID) -> bool:
    """Whether both ids are equal. They are mostly one object, and `==` of two UUID objects is slow."""
    return one is other or one == other


def count_blocked(layer: str, user_id: UUID) -> WrongOwner:
    """Count and log that data of another account was stopped on its way to ``user_id``; returns the error.

    The log line holds neither the data nor its owner, because readers of the log may not see other accounts.
    """
    METRICS.cross_user_blocked.add()
    log.critical("another account's data was stopped", extra={"layer": layer, "user": str(user_id)})
    return WrongOwner(layer)
