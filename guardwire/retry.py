"""Whether, when and over which transport the next link is opened, and when a failure is worth a warning."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from guardwire.clock import Instant, elapsed_seconds
from guardwire.endings import Ending
from guardwire.timing import Timing

_FIRST_DELAY_SECONDS: Final = 0.5
_LONGEST_DELAY_SECONDS: Final = 30.0
#: A longer hint is taken for a fault: one bad frame must not keep a client away for ever.
_LONGEST_HINT_SECONDS: Final = 300.0

#: After so many failures in a row without one frame, the next transport is used.
_FAILURES_OF_THE_BEST: Final = 2
_FAILURES_OF_A_FALLBACK: Final = 1
_RETURN_GROWTH: Final = 3.0

#: When a second new token is refused as well, a third one would be.
_TOKENS_TRIED: Final = 2

#: Where a firewall drops packets, connecting fails only at its time limit, so a warning does not wait for a failure.
_WARNING_AFTER_SECONDS: Final = 8.0
_NEXT_WARNING_SECONDS: Final = 60.0


class Backoff:
    """The delay before the next attempt: exponential with full jitter, on top of what the server requested."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        """``chance`` gives numbers in [0, 1)."""
        self._chance = chance
        self._failures = 0

    def next_seconds(self, hint_seconds: float = 0.0) -> float:
        """Seconds to wait after one more failure; ``hint_seconds`` is the server's hint, 0.0 for none."""
        # The exponent is bounded, so that a month of failures cannot overflow a float.
        limit_seconds = min(_FIRST_DELAY_SECONDS * 2.0 ** min(self._failures, 16), _LONGEST_DELAY_SECONDS)
        self._failures += 1
        # The jitter is added to the hint, because all clients of a drained node get hints of about the same length.
        hint_seconds = min(max(hint_seconds, 0.0), _LONGEST_HINT_SECONDS)
        return hint_seconds + self._chance() * limit_seconds

    def reset(self) -> None:
        """Make the next delay a short one."""
        self._failures = 0


class TransportChoice:
    """Which of the transports is used next; when all have failed, it is the best one's turn again."""

    def __init__(self, transports: int, timing: Timing) -> None:
        """``transports`` is their number."""
        self._transports = transports
        self._timing = timing
        self._failures = 0
        self._return_seconds = timing.first_return_seconds
        #: 0 is the best transport.
        self.index = 0

    @property
    def is_fallback(self) -> bool:
        """Whether a better transport than the present one exists."""
        return self.index > 0

    def note_failure(self, *, is_certain: bool = False) -> None:
        """Note an attempt without a frame; ``is_certain`` when nothing but the transport can be to blame."""
        self._failures += 1
        allowed = _FAILURES_OF_A_FALLBACK if self.is_fallback else _FAILURES_OF_THE_BEST
        if is_certain or self._failures >= allowed:
            self.index, self._failures = (self.index + 1) % self._transports, 0

    def note_first_frame(self) -> None:
        """Note that the present transport brought a frame."""
        self._failures = 0
        if not self.is_fallback:
            self._return_seconds = self._timing.first_return_seconds

    def next_return_seconds(self) -> float:
        """How long to stay on a fallback before the best transport is tried; longer each time."""
        delay_seconds = self._return_seconds
        self._return_seconds = min(delay_seconds * _RETURN_GROWTH, self._timing.longest_return_seconds)
        return delay_seconds

    def use_best(self) -> None:
        """Use the best transport again, because it answered."""
        self.index, self._failures = 0, 0
        self._return_seconds = self._timing.first_return_seconds


class Attempts:
    """Decides, after a link ended, whether and when there is another one."""

    def __init__(
        self,
        choice: TransportChoice,
        timing: Timing,
        *,
        has_new_tokens: bool,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """``has_new_tokens``: whether another token can be had at all."""
        self._choice = choice
        self._timing = timing
        self._backoff = Backoff(chance)
        self._tokens_tried = _TOKENS_TRIED if has_new_tokens else 1
        self._tokens_refused = 0

    def note_first_frame(self) -> None:
        """Note that a link brought its first frame."""
        self._tokens_refused = 0
        self._choice.note_first_frame()

    def reset_delay(self) -> None:
        """Make the next delay a short one: this machine woke up, so earlier failures mean nothing."""
        self._backoff.reset()

    def next_delay_seconds(self, ending: Ending, lived_seconds: float | None) -> float | None:
        """Seconds until the next attempt, None when there is none.

        ``lived_seconds`` counts from the link's first frame, and is None for a link without one.
        """
        if ending.verdict == "refused":
            return None
        if ending.verdict == "token":
            self._tokens_refused += 1
            if self._tokens_refused >= self._tokens_tried:
                return None
        if lived_seconds is None and not ending.clears_transport:
            self._choice.note_failure(is_certain=ending.verdict == "blocked")
        if ending.verdict == "blocked" and self._choice.is_fallback:
            # No delay: another transport is not the same attempt again.
            return ending.retry_after_seconds
        if lived_seconds is not None and lived_seconds >= self._timing.proven_seconds:
            self._backoff.reset()
        return self._backoff.next_seconds(ending.retry_after_seconds)


class Outage:
    """The time without a link that brought a frame, and the moments of it that are worth a warning."""

    def __init__(self, now: Instant) -> None:
        """A client begins with an outage."""
        self._began: Instant | None = now
        self._warned: Instant | None = None

    def begin(self, now: Instant) -> None:
        """Note that a link which had brought frames is gone."""
        self._began, self._warned = now, None

    def end(self) -> None:
        """Note that a link brought a frame."""
        self._began = None

    def should_warn_of_failure(self, now: Instant) -> bool:
        """Whether a failed attempt is worth a warning: the first one is, and then one a minute."""
        if self._warned is not None and elapsed_seconds(self._warned, now) < _NEXT_WARNING_SECONDS:
            return False
        self._warned = now
        return True

    def should_warn_of_silence(self, now: Instant) -> bool:
        """Whether there has been no link for 8 s and no warning yet."""
        if self._began is None or self._warned is not None:
            return False
        if elapsed_seconds(self._began, now) < _WARNING_AFTER_SECONDS:
            return False
        self._warned = now
        return True
