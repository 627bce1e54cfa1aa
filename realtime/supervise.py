"""Runs the endless background tasks, and logs, counts and restarts a task that ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from realtime.metrics import METRICS

log = logging.getLogger(__name__)

_RESTART_SECONDS: Final = 0.5
_CANCEL_AGAIN_SECONDS: Final = 1.0


class Supervisor:
    """Runs endless tasks by name; a task that ends or fails is logged, counted and started again."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run ``run`` for ever under ``name``."""
        self._tasks.append(asyncio.create_task(_for_ever(name, run), name=name))

    async def stop(self) -> None:
        """Cancel all tasks, the youngest first, and wait until they are gone."""
        left = self._tasks[::-1]
        while left:
            for task in left:
                task.cancel()
            # Python 3.11 can lose a cancellation that arrives while redis-py sends, so it is repeated.
            await asyncio.wait(left, timeout=_CANCEL_AGAIN_SECONDS)
            left = [task for task in left if not task.done()]
        self._tasks.clear()


async def _for_ever(name: str, run: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await run()
            log.critical("the task %s ended, and is started again", name)
        except Exception:
            log.critical("the task %s failed, and is started again", name, exc_info=True)
        METRICS.task_deaths.add(1, name)
        await asyncio.sleep(_RESTART_SECONDS)
