"""What a client may say within a second: so many messages, and so many frames that are none."""

from __future__ import annotations

from typing import Final

#: Pings, pongs and fragments that a peer may send for each message that it may send.
CONTROL_PER_MESSAGE: Final = 10
_SECONDS: Final = 1.0


class Allowance:
    """That of one second, from ``now`` on; the next second has another."""

    __slots__ = ("_control_left", "_frames_left", "_until")

    def __init__(self, frames_per_second: int, now: float) -> None:
        self._frames_left = frames_per_second
        self._control_left = frames_per_second * CONTROL_PER_MESSAGE
        self._until = now + _SECONDS

    def is_over(self, now: float) -> bool:
        """Whether its second has passed (monotonic seconds)."""
        return now >= self._until

    def takes_message(self) -> bool:
        """Whether there was one left, and now there is one less."""
        self._frames_left -= 1
        return self._frames_left >= 0

    def takes_control(self) -> bool:
        """The same of pings, pongs and fragments."""
        self._control_left -= 1
        return self._control_left >= 0
