"""A clock that a test moves."""

from __future__ import annotations

import asyncio


class Clock:
    """Monotonic seconds that pass by themselves, and leap when a test says so."""

    def __init__(self) -> None:
        self.leap_seconds = 0.0

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self.leap_seconds
