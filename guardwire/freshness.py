"""How old the mirrored state is and what that is worth, by this machine's own passage of time and no other
clock.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Literal

from guardwire.clock import Instant, elapsed_seconds
from guardwire.messages import Heartbeat, Snapshot, Update

#: Nobody who has heard nothing for so long may call the state known.
BLIND_AFTER_SECONDS: Final = 15.0

#: ``connected``: the state is confirmed and the server sees its database. ``stale``: it may have moved on
#: (the link is down, a snapshot is awaited, or the server itself is blind). ``blind``: nothing confirmed it
#: for 15 s, or ever.
Status = Literal["connected", "stale", "blind"]


class Freshness:
    """Told of every frame that left the mirror exact, and of every reason to doubt it since."""

    def __init__(self) -> None:
        self._confirmed_at: Instant | None = None
        self._age_then_seconds = 0.0
        self._read_at: datetime | None = None
        self._doubted = True

    def confirm(self, frame: Snapshot | Update | Heartbeat, at: Instant) -> None:
        """``frame`` was read at ``at`` at the earliest, and the mirror is exactly what the server has."""
        self._confirmed_at = at
        self._age_then_seconds = max(frame.age_ms, 0) / 1000
        self._read_at = _parsed(frame.as_of)
        self._doubted = isinstance(frame, Heartbeat) and frame.stale

    def doubt(self) -> None:
        """The link is gone, or something was missed."""
        self._doubted = True

    def status(self, now: Instant) -> Status:
        """What the state is worth at ``now``."""
        if self._confirmed_at is None or elapsed_seconds(self._confirmed_at, now) >= BLIND_AFTER_SECONDS:
            return "blind"
        age_seconds = self._age_then_seconds + elapsed_seconds(self._confirmed_at, now)
        return "stale" if self._doubted or age_seconds >= BLIND_AFTER_SECONDS else "connected"

    def age_seconds(self, now: Instant) -> float | None:
        """Seconds since the read began that the state is from; None before the first state."""
        if self._confirmed_at is None:
            return None
        return self._age_then_seconds + elapsed_seconds(self._confirmed_at, now)

    def database_now(self, now: Instant) -> datetime | None:
        """The database's own time, UTC, without trust in any clock of this machine; None when it was not
        told.
        """
        age_seconds = self.age_seconds(now)
        if self._read_at is None or age_seconds is None:
            return None
        return self._read_at + timedelta(seconds=age_seconds)


def _parsed(as_of: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(as_of)
    except ValueError:
        return None
    return None if moment.tzinfo is None else moment
