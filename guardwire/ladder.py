"""Which transport is next, best first."""

from __future__ import annotations

from typing import Final

#: A rung that fails so often in a row, without one frame, is left for the next.
_FAILURES_OF_THE_BEST: Final = 2
_FAILURES_OF_A_FALLBACK: Final = 1
_FIRST_RETURN_SECONDS: Final = 5.0
_LONGEST_RETURN_SECONDS: Final = 300.0
_RETURN_GROWTH: Final = 3.0


class Ladder:
    """Goes down a rung when one does not carry, and round again when none does."""

    def __init__(self, rungs: int) -> None:
        self._rungs = rungs
        self._failures = 0
        self._return_seconds = _FIRST_RETURN_SECONDS
        #: 0 is the best.
        self.rung = 0

    @property
    def fallen_back(self) -> bool:
        """Whether there is a better transport than the present one."""
        return self.rung > 0

    def failed(self, *, certainly: bool = False) -> None:
        """An attempt ended without a frame; ``certainly`` when the transport, and nothing else,
        was to blame.
        """
        self._failures += 1
        allowed = _FAILURES_OF_A_FALLBACK if self.fallen_back else _FAILURES_OF_THE_BEST
        if certainly or self._failures >= allowed:
            self.rung, self._failures = (self.rung + 1) % self._rungs, 0

    def proved(self) -> None:
        """A frame came through."""
        self._failures = 0
        if not self.fallen_back:
            self._return_seconds = _FIRST_RETURN_SECONDS

    def next_return_seconds(self) -> float:
        """How long to stay on a fallback before the best is tried again; longer each time it does
        not answer.
        """
        delay_seconds = self._return_seconds
        self._return_seconds = min(delay_seconds * _RETURN_GROWTH, _LONGEST_RETURN_SECONDS)
        return delay_seconds

    def climb(self) -> None:
        """The best transport answered while a fallback was in use."""
        self.rung, self._failures, self._return_seconds = 0, 0, _FIRST_RETURN_SECONDS
