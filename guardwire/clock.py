"""Time that survives a sleeping laptop.

Some monotonic clocks stand still while the machine sleeps, and a wall clock may be set. Of the two the larger
step is taken, so that an age errs towards older and never towards fresher.
"""

from __future__ import annotations

import sys
import time
from typing import NamedTuple


class Instant(NamedTuple):
    """One moment by two clocks, in seconds; only differences mean anything."""

    steady: float
    wall: float


def elapsed_seconds(since: Instant, now: Instant) -> float:
    """Seconds from ``since`` to ``now`` by the clock that says more; never negative."""
    return max(now.steady - since.steady, now.wall - since.wall, 0.0)


def now() -> Instant:
    """This moment."""
    return Instant(_steady_seconds(), time.time())


if sys.platform == "linux":

    def _steady_seconds() -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

elif sys.platform == "darwin":

    def _steady_seconds() -> float:
        # Counts sleep there, which time.monotonic() does not.
        return time.clock_gettime(time.CLOCK_MONOTONIC)

else:

    def _steady_seconds() -> float:
        return time.monotonic()
