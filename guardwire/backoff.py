"""How long to wait before the next attempt: exponential with full jitter, and never less than the server
asked for.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

FIRST_DELAY_SECONDS: Final = 0.5
LONGEST_DELAY_SECONDS: Final = 30.0
#: A hint beyond this is taken for a fault: nobody is parked for ever by one bad frame.
LONGEST_HINT_SECONDS: Final = 300.0


class Backoff:
    """Counts failures in a row; ``chance`` gives numbers in [0, 1)."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._failures = 0

    def next_seconds(self, hint_seconds: float = 0.0) -> float:
        """Seconds to wait after one more failure; ``hint_seconds`` is what the server asked for, 0.0 for
        nothing.
        """
        # The exponent is bounded so that a month of failures cannot overflow a float.
        limit = min(FIRST_DELAY_SECONDS * 2.0 ** min(self._failures, 16), LONGEST_DELAY_SECONDS)
        self._failures += 1
        # On top of the hint, not instead of it: all clients of a drained node get hints of about the same
        # length.
        return min(max(hint_seconds, 0.0), LONGEST_HINT_SECONDS) + self._chance() * limit

    def reset(self) -> None:
        """The last attempt was good."""
        self._failures = 0
