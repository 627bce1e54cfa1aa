"""Notices when this process did not run: a blocked event loop, a stopped process, a sleeping machine.

Frames that arrived in the meantime are read afterwards as if they were new. A pulse says how old they may be.
"""

from __future__ import annotations

from typing import Final

from guardwire.clock import Instant, elapsed_seconds

BEAT_SECONDS: Final = 0.5
#: A beat this late is the scheduler's noise and not a pause.
TOLERANCE_SECONDS: Final = 0.25
#: How long after a pause frames may still come out of buffers that filled during it.
BACKLOG_SECONDS: Final = 1.0


class Pulse:
    """Beaten every `BEAT_SECONDS`; knows the pauses between its beats."""

    def __init__(self, now: Instant) -> None:
        self._last = now
        self._pause_began: Instant | None = None
        self._pause_ended = now

    def beat(self, now: Instant) -> float:
        """Seconds that this process did not run since the beat before; 0.0 when it did."""
        paused_seconds = elapsed_seconds(self._last, now) - BEAT_SECONDS
        if paused_seconds > TOLERANCE_SECONDS:
            self._pause_began, self._pause_ended = self._last, now
        self._last = now
        return paused_seconds if paused_seconds > TOLERANCE_SECONDS else 0.0

    def received_at(self, now: Instant) -> Instant:
        """The earliest moment at which a frame that is read ``now`` may have arrived."""
        if elapsed_seconds(self._last, now) > BEAT_SECONDS + TOLERANCE_SECONDS:
            return self._last
        if self._pause_began is not None and elapsed_seconds(self._pause_ended, now) < BACKLOG_SECONDS:
            return self._pause_began
        return now
