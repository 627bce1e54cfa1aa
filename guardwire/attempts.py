"""Decides, after a link ended, whether, when and over which transport there is another."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from guardwire.backoff import Backoff
from guardwire.ending import Ending
from guardwire.ladder import Ladder

#: A link that lived so long was a good one; a server that accepts and drops at once is met with growing
#: delays.
_PROVEN_AFTER_SECONDS: Final = 5.0
#: A new token that is refused as well is not followed by a third.
_TOKENS_TRIED: Final = 2


class Attempts:
    """``renewable``: whether another token can be had at all."""

    def __init__(
        self, transports: int, *, renewable: bool, chance: Callable[[], float] = random.random
    ) -> None:
        self.ladder = Ladder(transports)
        self._backoff = Backoff(chance)
        self._tokens_tried = _TOKENS_TRIED if renewable else 1
        self._tokens_refused = 0

    def proved(self) -> None:
        """A link brought its first frame."""
        self._tokens_refused = 0
        self.ladder.proved()

    def forget(self) -> None:
        """This machine has woken up: what failed before says nothing now."""
        self._backoff.reset()

    def ended(self, ending: Ending, lived_seconds: float | None) -> float | None:
        """Seconds until the next attempt, None when there is none; ``lived_seconds`` since the first frame,
        None without.
        """
        if ending.verdict == "refused":
            return None
        if ending.verdict == "token":
            self._tokens_refused += 1
            if self._tokens_refused >= self._tokens_tried:
                return None
        if lived_seconds is None and not ending.clears_transport:
            self.ladder.failed(certainly=ending.verdict == "blocked")
        if ending.verdict == "blocked" and self.ladder.fallen_back:
            # Another transport is not the same thing tried again.
            return ending.retry_after_seconds
        if lived_seconds is not None and lived_seconds >= _PROVEN_AFTER_SECONDS:
            self._backoff.reset()
        return self._backoff.next_seconds(ending.retry_after_seconds)
