"""A timer wheel: whose turn it is, without a look at anybody whose turn it is not."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Final, Generic, Protocol, TypeVar

TICK_SECONDS: Final = 0.25
#: So much sooner than asked for a turn may come, where many have asked for the same one.
EARLY_SECONDS: Final = 0.75
_EARLY_TICKS: Final = int(EARLY_SECONDS / TICK_SECONDS)
#: So many in one tick hold nobody up.
_CROWD: Final = 100


class Waiting(Protocol):
    """Who waits for a turn; ``tick`` is the wheel's to set."""

    tick: int


W = TypeVar("W", bound=Waiting)


class Wheel(Generic[W]):
    """Who waits, by the tick of the turn. All times are monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._tick = int(now / TICK_SECONDS)
        self._waiting: dict[int, list[W]] = {}

    def put(self, waiting: W, at: float) -> None:
        """Its turn comes at ``at``, or in the next tick where that has passed, and at no other time."""
        tick = max(ceil(at / TICK_SECONDS), self._tick + 1)
        bucket = self._waiting.get(tick)
        if bucket is None:
            bucket = self._waiting[tick] = []
        elif len(bucket) >= _CROWD:
            tick, bucket = self._calmer(tick, bucket)
        waiting.tick = tick
        bucket.append(waiting)

    def take(self, now: float) -> Iterator[W]:
        """Whose turn has come by ``now``; each is waiting no more, and may be put back."""
        first, self._tick = self._tick + 1, max(self._tick, int(now / TICK_SECONDS))
        for tick in range(first, self._tick + 1):
            for waiting in self._waiting.pop(tick, ()):
                # Who was put anew meanwhile is left where it was, since nobody knows its place there.
                if waiting.tick == tick:
                    yield waiting

    def _calmer(self, tick: int, bucket: list[W]) -> tuple[int, list[W]]:
        """A little sooner, where far fewer wait: who came in a crowd does not stay one for ever."""
        for sooner in range(max(tick - _EARLY_TICKS, self._tick + 1), tick):
            other = self._waiting.setdefault(sooner, [])
            if len(other) < len(bucket) / 2:
                return sooner, other
        return tick, bucket
