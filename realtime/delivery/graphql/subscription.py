"""One subscription: what the client has been sent, and its next result. Pure.

As for every client two pointers are kept and no queue: the snapshot that was sent last, and the newest one.
"""

from __future__ import annotations

from uuid import UUID

from realtime.delivery.graphql.answers import Document, result
from realtime.delivery.graphql.plan import Plan
from realtime.delivery.graphql.schema import Shown
from realtime.delivery.sent_state import Frame
from realtime.snapshot import Freshness, Snapshot


class Subscription:
    """A subscription of ``user_id``."""

    __slots__ = ("_held", "_plan", "_user_id")

    def __init__(self, plan: Plan, user_id: UUID) -> None:
        self._plan = plan
        self._user_id = user_id
        self._held: Snapshot | None = None

    def result(self, frame: Frame, newest: Snapshot, fresh: Freshness, *, is_stale: bool) -> Document | None:
        """The result where a client of `/ws` gets ``frame``, which led to ``newest``; None where that is nothing for
        this subscription. Raises WrongOwner.
        """
        if frame.type == "heartbeat" and not self._plan.shows_freshness:
            return None
        if frame.type not in ("snapshot", "update", "heartbeat"):
            return None
        base = None if frame.type == "snapshot" else self._held
        self._held = newest
        return result(self._plan, Shown(newest, fresh, is_stale, base), self._user_id)
