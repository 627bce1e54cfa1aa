"""The passage of time, also while a laptop sleeps or this process is stopped."""

from __future__ import annotations

import sys
import time
from typing import Final, NamedTuple

TICK_SECONDS: Final = 0.5
#: A tick that is late by less is the scheduler's doing and no pause.
_TOLERANCE_SECONDS: Final = 0.25
#: After a pause, frames may come out of buffers that filled during it for this long.
_BACKLOG_SECONDS: Final = 1.0


class Instant(NamedTuple):
    """One moment by two clocks, in seconds; only differences mean anything."""

    steady: float
    wall: float


def elapsed_seconds(since: Instant, now: Instant) -> float:
    """Seconds from ``since`` to ``now``; never negative.

    Some monotonic clocks stand still while the machine sleeps, and a wall clock may be set. The larger difference
    counts, so an age can only come out too old.
    """
    return max(now.steady - since.steady, now.wall - since.wall, 0.0)


def now() -> Instant:
    """This moment."""
    return Instant(_steady_seconds(), time.time())


if sys.platform == "linux":

    def _steady_seconds() -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

elif sys.platform == "darwin":

    def _steady_seconds() -> float:
        # This clock goes on while the machine sleeps, which time.monotonic() does not on macOS.
        return time.clock_gettime(time.CLOCK_MONOTONIC)

else:

    def _steady_seconds() -> float:
        return time.monotonic()


class PauseDetector:
    """Notices that this process did not run: a blocked event loop, a stopped process, a sleeping machine.

    Frames that arrived during a pause are read after it as if they were new; `received_at` says how old such a
    frame may be.
    """

    def __init__(self, now: Instant) -> None:
        self._last_tick = now
        self._pause_began: Instant | None = None
        self._pause_ended = now

    def tick(self, now: Instant) -> float:
        """Seconds that this process was paused since the last tick, 0.0 for none; call it every `TICK_SECONDS`."""
        paused_seconds = elapsed_seconds(self._last_tick, now) - TICK_SECONDS
        if paused_seconds > _TOLERANCE_SECONDS:
            self._pause_began, self._pause_ended = self._last_tick, now
        self._last_tick = now
        return paused_seconds if paused_seconds > _TOLERANCE_SECONDS else 0.0

    def received_at(self, now: Instant) -> Instant:
        """The earliest moment at which a frame that is read ``now`` may have arrived."""
        if elapsed_seconds(self._last_tick, now) > TICK_SECONDS + _TOLERANCE_SECONDS:
            return self._last_tick
        if self._pause_began is not None and elapsed_seconds(self._pause_ended, now) < _BACKLOG_SECONDS:
            return self._pause_began
        return now
