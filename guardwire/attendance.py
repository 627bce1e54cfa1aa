"""When a bot that attends an account sends that it still does; no I/O happens here."""

from __future__ import annotations

from typing import Final

from guardwire.clock import Instant, elapsed_seconds

#: A lease is renewed this often, so two frames may be lost.
_BEATS_IN_A_LEASE: Final = 3


class BeatLimit:
    """At most one frame for each third of a lease, however often the bot's loop comes round."""

    def __init__(self, lease_seconds: float) -> None:
        self._pause_seconds = lease_seconds / _BEATS_IN_A_LEASE
        self._link: object = None
        self._sent_at: Instant | None = None

    def take(self, link: object, now: Instant) -> bool:
        """Whether to send a frame over ``link`` ``now``; True counts as sent. A new link gets one at once."""
        if self._link is link and self._sent_at is not None:
            is_due = elapsed_seconds(self._sent_at, now) >= self._pause_seconds
        else:
            is_due = True
        if is_due:
            self._link, self._sent_at = link, now
        return is_due
