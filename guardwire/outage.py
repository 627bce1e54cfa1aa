"""The time without a link that brought a frame, and the moments of it that are worth a warning."""

from __future__ import annotations

from typing import Final

from guardwire.clock import Instant, elapsed_seconds

#: An address that swallows everything fails no sooner than its time limit, which is too late for a warning.
_SILENT_SECONDS: Final = 8.0
_AGAIN_SECONDS: Final = 60.0


class Outage:
    """Begins with the client, and with the end of each link that had brought a frame."""

    def __init__(self, now: Instant) -> None:
        self._began: Instant | None = now
        self._warned: Instant | None = None

    def begin(self, now: Instant) -> None:
        """The link that served is gone."""
        self._began, self._warned = now, None

    def end(self) -> None:
        """A link brought a frame."""
        self._began = None

    def warns_of_failure(self, now: Instant) -> bool:
        """Whether an attempt that failed is to be warned of: the first one, then one a minute."""
        if self._warned is not None and elapsed_seconds(self._warned, now) < _AGAIN_SECONDS:
            return False
        self._warned = now
        return True

    def warns_of_silence(self, now: Instant) -> bool:
        """Whether there has been no link for 8 s and no warning yet."""
        if self._began is None or self._warned is not None:
            return False
        if elapsed_seconds(self._began, now) < _SILENT_SECONDS:
            return False
        self._warned = now
        return True
