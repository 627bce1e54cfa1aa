"""Waiting for a condition, with a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from guardwire import Account


async def eventually(condition: Callable[[], bool], *, within_seconds: float = 10.0) -> None:
    """Return as soon as ``condition`` holds; raises TimeoutError."""
    async with asyncio.timeout(within_seconds):
        while not condition():
            await asyncio.sleep(0.002)


async def until(account: Account, *, revision: int) -> None:
    """Return as soon as the account is at ``revision``."""
    await eventually(lambda: account.revision == revision)
