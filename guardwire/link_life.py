"""What is known of one link by when it was opened, brought its first frame and its last."""

from __future__ import annotations

from typing import Final

from guardwire.clock import Instant, elapsed_seconds
from guardwire.freshness import BLIND_AFTER_SECONDS

FIRST_FRAME_WITHIN_SECONDS: Final = 10.0


class LinkLife:
    """Begins when the link is open."""

    def __init__(self, opened: Instant) -> None:
        self._heard = opened
        self._proved: Instant | None = None

    @property
    def proved(self) -> bool:
        """Whether a frame came through."""
        return self._proved is not None

    def heard(self, now: Instant) -> None:
        """A frame came."""
        self._proved = self._proved or now
        self._heard = now

    def lived_seconds(self, now: Instant) -> float | None:
        """Since the first frame; None when none came."""
        return None if self._proved is None else elapsed_seconds(self._proved, now)

    def silence(self, now: Instant) -> str | None:
        """What is wrong with a link that looks open and brings nothing; None while it may be good."""
        silent_seconds = elapsed_seconds(self._heard, now)
        if self._proved is None:
            return "no first frame in time" if silent_seconds >= FIRST_FRAME_WITHIN_SECONDS else None
        return "nothing was heard for 15 s" if silent_seconds >= BLIND_AFTER_SECONDS else None
