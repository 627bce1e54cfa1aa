"""Decides whether a node in relay mode hears of changes, and whether it has to listen to PostgreSQL itself; pure."""

from __future__ import annotations

from typing import Final

#: Without a canary for so long the node does not hear the relay, and sweeps five times a second.
DEAF_SECONDS: Final = 2.0
#: Without a canary for so long the node listens directly.
LISTEN_SECONDS: Final = 3.0
#: The applier looks once a second whether nodes listen. Until then it may not notify a node that has just begun to.
NOTICED_SECONDS: Final = 1.2


class Reception:
    """Whether this node hears the relay; all times are monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._canary_at = float("-inf")
        self._silent_since = now
        self._listening_since: float | None = None

    def take_canary(self, now: float) -> None:
        """A canary came through the relay."""
        self._canary_at = self._silent_since = now

    def lose_relay(self) -> None:
        """The connection to Redis is lost."""
        self._canary_at = float("-inf")

    def set_listening(self, now: float, *, hears: bool) -> None:
        """The listener began or ceased to receive notifications."""
        self._listening_since = now if hears else None

    @property
    def is_listening(self) -> bool:
        """Whether the listener receives notifications."""
        return self._listening_since is not None

    def is_relayed(self, now: float) -> bool:
        """Whether the relay is heard."""
        return now - self._canary_at <= DEAF_SECONDS

    def wants_listener(self, now: float) -> bool:
        """Whether the relay has not been heard for so long that this node has to listen."""
        return now - self._silent_since > LISTEN_SECONDS

    def is_hearing(self, now: float) -> bool:
        """Whether changes reach this node, so that one sweep a second is enough."""
        since = self._listening_since
        return self.is_relayed(now) or (since is not None and now - since >= NOTICED_SECONDS)
