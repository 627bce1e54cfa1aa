"""A clock that a test moves."""

from __future__ import annotations

import asyncio


class Clock:
    """The monotonic seconds of the event loop, plus ``leap_seconds``, which a test sets."""

    def __init__(self) -> None:
        self.leap_seconds = 0.0

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self.leap_seconds
