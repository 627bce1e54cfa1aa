"""Waiting for a condition that nobody signals, with a bound."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], *, seconds: float = 10.0) -> None:
    """Return as soon as ``condition`` holds; raises TimeoutError after ``seconds``. Blocks the thread."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s")
        time.sleep(0.01)


async def until(condition: Callable[[], object], *, seconds: float = 10.0) -> None:
    """Return as soon as ``condition`` holds; raises TimeoutError after ``seconds``."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
