"""When to ask for a snapshot: at once when something was missed, and again when the answer does not come."""

from __future__ import annotations

from typing import Final

from guardwire.clock import Instant, elapsed_seconds

SNAPSHOT_WITHIN_SECONDS: Final = 5.0


class SnapshotWait:
    """Told after each frame whether the mirror waits."""

    def __init__(self) -> None:
        self._since: Instant | None = None

    def asks_after(self, *, missed: bool, waiting: bool, now: Instant) -> bool:
        """Whether to ask after a frame that was ``missed``, or was not."""
        first = self._since is None
        self._since = (self._since or now) if waiting else None
        return waiting and first and missed

    def asks_again(self, now: Instant) -> bool:
        """Whether the answer is overdue; then the wait begins anew."""
        if self._since is None or elapsed_seconds(self._since, now) < SNAPSHOT_WITHIN_SECONDS:
            return False
        self._since = now
        return True
