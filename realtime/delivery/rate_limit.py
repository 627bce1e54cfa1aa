"""How often one user may ask for what costs the database something."""

from __future__ import annotations

import math
from uuid import UUID


class RateLimit:
    """``per_second`` requests a user, with ``burst`` at once, on this node; the generic cell rate algorithm.

    Kept for one user is a single time, and only while it lies ahead, so memory is bounded by what was served
    lately.
    """

    def __init__(self, *, per_second: float, burst: int) -> None:
        self._interval_seconds = 1 / per_second
        self._allowance_seconds = burst / per_second
        self._free_at: dict[UUID, float] = {}
        self._swept_at = 0.0

    def wait_seconds(self, user_id: UUID, now: float) -> int:
        """0 when the request may go on, and it is counted then; else whole seconds to wait. ``now`` is
        monotonic seconds.
        """
        self._forget_idle(now)
        free_at = max(self._free_at.get(user_id, 0.0), now) + self._interval_seconds
        over_seconds = free_at - now - self._allowance_seconds
        # The sums of floats err by less than a microsecond, and a burst of exactly the size allowed must
        # pass.
        if over_seconds > 1e-6:
            return max(1, math.ceil(over_seconds))
        self._free_at[user_id] = free_at
        return 0

    def _forget_idle(self, now: float) -> None:
        if now - self._swept_at > self._allowance_seconds:
            self._swept_at = now
            self._free_at = {user_id: free_at for user_id, free_at in self._free_at.items() if free_at > now}
